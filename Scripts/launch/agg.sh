#!/usr/bin/env bash
# One frontend in KV mode and two workers, traced: the aggregated set-up. Further arguments go to both workers.
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
find_binaries

export DYN_LOGGING_JSONL="${DYN_LOGGING_JSONL:-true}"
export OTEL_EXPORT_ENABLED="${OTEL_EXPORT_ENABLED:-true}"
export OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="${OTEL_EXPORTER_OTLP_TRACES_ENDPOINT:-http://localhost:4317}"
MODEL="${MODEL:-Qwen/Qwen3-0.6B}"
HTTP_PORT="${DYN_HTTP_PORT:-8000}"

pids=()
stop() {
  trap - EXIT INT TERM
  # Workers last: the frontend drains through them.
  local pid
  for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

OTEL_SERVICE_NAME=dynamo-frontend dynamo-frontend --router-mode kv --http-port="$HTTP_PORT" &
pids+=($!)

for _ in 1 2; do
  OTEL_SERVICE_NAME=dynamo-worker-vllm dynamo-worker --model "$MODEL" --enforce-eager "$@" &
  pids+=($!)
done

# The first process that ends takes the rest with it; its status becomes ours.
wait -n "${pids[@]}"
