# What the launch scripts share: one frontend and its workers, started together and ended together. Sourced, never run.
#
# ENGINE   sim (default): the built-in simulated engine; vllm, llama: dynamo-worker starts and watches a real one
# MODEL    the model's name; for llama also MODEL_FILE, the path of a GGUF file
# DYN_HTTP_PORT (8000), DYN_SYSTEM_PORT1, 2 … (8081, 8082 …; -1 for none), ENGINE_PORT1, 2 … (8101, 8102 …)
# WORKER_FLAGS: further flags of dynamo-worker itself, apart by spaces
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
find_binaries

ENGINE="${ENGINE:-sim}"
MODEL="${MODEL:-Qwen/Qwen3-0.6B}"
export DYN_LOGGING_JSONL="${DYN_LOGGING_JSONL:-true}"
export OTEL_EXPORT_ENABLED="${OTEL_EXPORT_ENABLED:-true}"
export OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="${OTEL_EXPORTER_OTLP_TRACES_ENDPOINT:-http://localhost:4317}"
case "$ENGINE" in
  sim) ;;
  vllm) command -v vllm >/dev/null 2>&1 || die "ENGINE=vllm, and there is no vllm on the PATH" ;;
  llama)
    command -v llama-server >/dev/null 2>&1 || die "ENGINE=llama, and there is no llama-server on the PATH"
    [ -r "${MODEL_FILE:-}" ] || die "ENGINE=llama needs MODEL_FILE, the path of a GGUF file"
    ;;
  *) die "ENGINE is sim, vllm or llama, not $ENGINE" ;;
esac

# The seed's names, which the programs themselves do not know.
export -n DYN_SYSTEM_PORT1 DYN_SYSTEM_PORT2 DYN_SYSTEM_PORT3 2>/dev/null || true

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

# start_frontend FLAG...
start_frontend() {
  OTEL_SERVICE_NAME=dynamo-frontend dynamo-frontend --http-port="${DYN_HTTP_PORT:-8000}" "$@" &
  pids+=($!)
}

# start_worker NUMBER FLAG...: the flags are the simulated engine's, or the real one's own.
start_worker() {
  local number="$1" system="DYN_SYSTEM_PORT$1" port="ENGINE_PORT$1" command
  shift
  system="${!system:-$((8080 + number))}"
  port="${!port:-$((8100 + number))}"
  local -a worker=(env DYN_SYSTEM_PORT="$system" dynamo-worker --model "$MODEL")
  # shellcheck disable=SC2206
  worker+=(${WORKER_FLAGS:-})
  if [ "$ENGINE" = sim ]; then
    OTEL_SERVICE_NAME=dynamo-worker-vllm "${worker[@]}" "$@" &
  else
    local -a engine
    case "$ENGINE" in
      # vLLM names the request in its answers, tells cached tokens and makes its own span with these flags.
      vllm)
        engine=("$MODEL" --port "$port" --enable-prompt-tokens-details --enable-request-id-headers)
        engine+=(--otlp-traces-endpoint "$OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        command="vllm serve"
        ;;
      llama)
        engine=(-m "$MODEL_FILE" --alias "$MODEL" --port "$port")
        command=llama-server
        ;;
    esac
    worker+=(--engine openai --engine-url "http://127.0.0.1:$port" --engine-command "$command")
    CUDA_VISIBLE_DEVICES="${CUDA_VISIBLE_DEVICES:-$((number - 1))}" OTEL_SERVICE_NAME="dynamo-worker-$ENGINE" \
      "${worker[@]}" -- "${engine[@]}" "$@" &
  fi
  pids+=($!)
}

# The first process that ends takes the rest with it; its status becomes ours.
wait_for_all() { wait -n "${pids[@]}"; }
