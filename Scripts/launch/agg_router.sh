#!/usr/bin/env bash
# As agg.sh, with workers that publish their cache's events in blocks of 64 tokens: the router knows what each of them
# holds instead of guessing. MODEL_PATH, the model's folder, has prompts routed by tokens. Further arguments go to both
# engines. llama-server publishes no events: its cache is predicted.
source "$(dirname "${BASH_SOURCE[0]}")/set.sh"

frontend=(--router-mode kv --router-kv-events)
[ -z "${MODEL_PATH:-}" ] || frontend+=(--model-path "$MODEL_PATH")
start_frontend "${frontend[@]}"
for number in 1 2; do
  case "$ENGINE" in
    sim) flags=(--block-size 64 --kv-events-endpoint 'tcp://127.0.0.1:0' ${MODEL_PATH:+--model-path "$MODEL_PATH"}) ;;
    vllm)
      events="{\"enable_kv_cache_events\":true,\"publisher\":\"zmq\",\"endpoint\":\"tcp://*:$((20079 + number))\""
      flags=(--block-size 64 --kv-events-config "$events,\"replay_endpoint\":\"tcp://*:$((20089 + number))\"}")
      ;;
    llama) flags=() ;;
  esac
  start_worker "$number" "${flags[@]}" "$@"
done
wait_for_all
