#!/usr/bin/env bash
# One frontend in KV mode and two workers, traced: the aggregated set-up. Further arguments go to both engines.
source "$(dirname "${BASH_SOURCE[0]}")/set.sh"

start_frontend --router-mode kv
for number in 1 2; do
  flags=("$@")
  # The seed's flag: the simulated engine says that it means nothing to it, vLLM starts sooner.
  [ "$ENGINE" = llama ] || flags=(--enforce-eager "$@")
  start_worker "$number" "${flags[@]}"
done
wait_for_all
