#!/usr/bin/env bash
# Two vLLM servers as static workers. vLLM names the request id in its answers and traces only with these flags.
set -euo pipefail
model="${MODEL:-Qwen/Qwen3-0.6B}"
trap 'kill $(jobs -p) 2>/dev/null' EXIT
for index in 0 1; do
  CUDA_VISIBLE_DEVICES="$index" OTEL_SERVICE_NAME="vllm-$index" vllm serve "$model" --port "$((8001 + index))" \
    --enable-prompt-tokens-details --enable-request-id-headers \
    --otlp-traces-endpoint "${OTEL_EXPORTER_OTLP_TRACES_ENDPOINT:-http://localhost:4317}" &
done
dynamo-frontend --router-mode kv --worker http://127.0.0.1:8001 --worker http://127.0.0.1:8002
