#!/usr/bin/env bash
# From nothing to a served answer and its trace: installs what is missing, builds in release, starts the frontend with two
# simulated workers and the trace store, prints the curl line and where the trace is seen. Ctrl-C stops it. Further
# arguments go to dynamo-frontend.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

Scripts/bootstrap.sh
say "building (the first time takes a few minutes)"
swift build -c release --static-swift-stdlib
PATH="$ROOT/.build/release:$PATH"

PORT="${DYN_HTTP_PORT:-8000}"
previous=
for argument in "$@"; do
  case "$argument" in --http-port=*) PORT="${argument#*=}" ;; esac
  [ "$previous" = --http-port ] && PORT="$argument"
  previous="$argument"
done
export DYN_HTTP_PORT="$PORT"
MODEL="${MODEL:-Qwen/Qwen3-0.6B}"

# The trace store's usual ports, unless somebody (a Tempo, say) has them: then the page takes the next free one, and the
# ports for other senders are whatever is free.
is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
is_taken "$PORT" && die "port $PORT is taken; take another: Scripts/run.sh --http-port 8010"
if [ -z "${DYN_TRACE_STORE_HTTP_PORT:-}" ]; then
  DYN_TRACE_STORE_HTTP_PORT=3200
  while is_taken "$DYN_TRACE_STORE_HTTP_PORT"; do DYN_TRACE_STORE_HTTP_PORT=$((DYN_TRACE_STORE_HTTP_PORT + 1)); done
fi
is_taken 4317 && DYN_TRACE_STORE_OTLP_GRPC_PORT="${DYN_TRACE_STORE_OTLP_GRPC_PORT:-0}"
is_taken 4318 && DYN_TRACE_STORE_OTLP_HTTP_PORT="${DYN_TRACE_STORE_OTLP_HTTP_PORT:-0}"
export DYN_TRACE_STORE_HTTP_PORT
export DYN_TRACE_STORE_OTLP_GRPC_PORT="${DYN_TRACE_STORE_OTLP_GRPC_PORT:-4317}"
export DYN_TRACE_STORE_OTLP_HTTP_PORT="${DYN_TRACE_STORE_OTLP_HTTP_PORT:-4318}"
PAGE="http://localhost:$DYN_TRACE_STORE_HTTP_PORT"

frontend=
stop() {
  trap - EXIT INT TERM
  [ -n "$frontend" ] && kill -TERM "$frontend" 2>/dev/null && wait "$frontend" 2>/dev/null
  return 0
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

dynamo-frontend --simulate 2 --model-name "$MODEL" --trace-store "$@" &
frontend=$!

for _ in $(seq 100); do
  kill -0 "$frontend" 2>/dev/null || die "dynamo-frontend ended; what it said is above"
  curl -sf -o /dev/null "http://127.0.0.1:$PORT/ready" && break
  sleep 0.1
done
curl -sf -o /dev/null "http://127.0.0.1:$PORT/ready" || die "not ready after 10 s: curl http://127.0.0.1:$PORT/health tells why"

cat <<TEXT

Ready. In another terminal:

  curl http://localhost:$PORT/v1/chat/completions \\
    -H 'Content-Type: application/json' -H 'x-request-id: test-trace-001' \\
    -d '{"model": "$MODEL", "messages": [{"role": "user", "content": "What is the capital of France?"}],
         "max_completion_tokens": 50, "stream": true}'

Then look at what it did:

  $PAGE/request/test-trace-001      this request
  $PAGE/                            all requests

Ctrl-C stops it.
TEXT
wait "$frontend"
