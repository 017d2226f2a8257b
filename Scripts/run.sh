#!/usr/bin/env bash
# From nothing to a served answer: installs what is missing, builds in release, starts the frontend with two simulated
# workers and prints the curl line. Ctrl-C stops it. Further arguments go to dynamo-frontend.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

Scripts/bootstrap.sh
say "building (the first time takes a few minutes)"
swift build -c release --static-swift-stdlib
PATH="$ROOT/.build/release:$PATH"

PORT="${DYN_HTTP_PORT:-8000}"
export DYN_HTTP_PORT="$PORT"
MODEL="${MODEL:-Qwen/Qwen3-0.6B}"

frontend=
stop() {
  trap - EXIT INT TERM
  [ -n "$frontend" ] && kill -TERM "$frontend" 2>/dev/null && wait "$frontend" 2>/dev/null
  return 0
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

dynamo-frontend --simulate 2 --model-name "$MODEL" "$@" &
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

Ctrl-C stops it.
TEXT
wait "$frontend"
