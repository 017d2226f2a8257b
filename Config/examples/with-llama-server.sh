#!/usr/bin/env bash
# One llama.cpp server: MODEL_FILE=path/to/model.gguf Config/examples/with-llama-server.sh
set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null' EXIT
llama-server -m "${MODEL_FILE:?path of a GGUF file}" --alias "${MODEL:-Qwen/Qwen3-0.6B}" --port 18080 &
dynamo-frontend --router-mode kv --worker http://127.0.0.1:18080
