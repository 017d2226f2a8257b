#!/usr/bin/env bash
# Prefill and decode apart: one worker reads prompts, two others answer, and one trace shows both. Further arguments go to
# all engines. llama-server cannot hand its blocks over: it is refused.
source "$(dirname "${BASH_SOURCE[0]}")/set.sh"
[ "$ENGINE" != llama ] || die "llama-server hands no blocks over: ENGINE is sim or vllm here"

transfer='{"kv_connector":"NixlConnector","kv_role":"kv_both"}'
start_frontend --router-mode kv
for number in 1 2 3; do
  flags=("$@")
  role=decode
  [ "$number" -lt 3 ] || role=prefill
  if [ "$ENGINE" = vllm ]; then
    flags=(--enforce-eager --kv-transfer-config "$transfer" "$@")
    # Each engine tells the others of its blocks on a port of its own.
    export VLLM_NIXL_SIDE_CHANNEL_PORT=$((5600 + number))
  fi
  WORKER_FLAGS="--disaggregation-mode $role" start_worker "$number" "${flags[@]}"
done
wait_for_all
