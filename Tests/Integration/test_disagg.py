"""Prefill and decode on workers of their own, by real processes: one trace and the right text, with a prefill worker and without."""

from __future__ import annotations

import json

from support.processes import chat, eventually

PATH = "/v1/chat/completions"
ROUTES = "dynamo_frontend_prefill_requests_total"
ROUTED = "kv_router.route_request"


def ask(frontend, prompt: str) -> dict:
    status, _, body = frontend.post(PATH, chat(prompt, max_completion_tokens=12, nvext={"extra_fields": ["worker_id"]}))
    assert status == 200, body
    return json.loads(body)


def test_two_parts_in_one_trace_and_one_without_a_prefill_worker(stack, receiver):
    for _ in range(2):
        stack.worker("--disaggregation-mode", "decode", receiver=receiver)
    prefill = stack.worker("--is-prefill-worker", receiver=receiver)
    frontend = stack.frontend(receiver=receiver)
    eventually("all workers are there", lambda: frontend.metrics().sum("dynamo_frontend_worker_up") == 3)
    assert frontend.metrics().sum("dynamo_frontend_model_prefill_workers") == 1
    instances = json.loads(frontend.get("/health")[2])["instances"]
    assert sorted(instance["role"] for instance in instances) == ["decode", "decode", "prefill"]
    reader = next(instance["instance_id"] for instance in instances if instance["role"] == "prefill")

    prompt = "Which worker reads this, and which one answers? " * 40
    answer = ask(frontend, prompt)
    workers = answer["nvext"]["worker_id"]
    assert workers["prefill_worker_id"] == reader != workers["decode_worker_id"]
    assert answer["usage"]["completion_tokens"] == 12 and answer["usage"]["prompt_tokens"] > 400
    assert frontend.metrics().sum(ROUTES, route="remote") == 1

    def all_spans():
        found = list(receiver.spans)
        enough = all(sum(span.name == name for span in found) == 2 for name in (ROUTED, "handle_payload", "engine.generate"))
        return found if enough else None

    spans = eventually("both parts are in the trace", all_spans)
    assert len({span.trace_id for span in spans}) == 1
    phases = {span.attributes["phase"]: span for span in spans if span.name == ROUTED}
    assert set(phases) == {"Prefill", "Decode"}
    assert {span.parent for span in spans if span.name == "handle_payload"} == {span.span_id for span in phases.values()}
    roles = {span.attributes["disagg_role"]: span.attributes for span in spans if span.name == "engine.generate"}
    assert roles["prefill"]["output_tokens"] == 1 and roles["decode"]["output_tokens"] == 12
    # The blocks came from the other worker: what is behind the last full one was computed, and no more.
    assert roles["decode"]["cached_tokens"] >= answer["usage"]["prompt_tokens"] - 16

    state = json.loads(frontend.get("/v1/router/state")[2])["models"][0]
    assert [worker["worker_id"] for worker in state["prefill"]["workers"]] == [reader]
    assert all(worker["active_requests"] == 0 for worker in state["workers"] + state["prefill"]["workers"])

    # Whoever reads the prompt, the text is the same.
    prefill.kill()
    alone = ask(frontend, prompt)
    assert alone["choices"] == answer["choices"]
    assert alone["nvext"]["worker_id"]["prefill_worker_id"] == alone["nvext"]["worker_id"]["decode_worker_id"]
    assert frontend.metrics().sum(ROUTES, route="remote") == 1
    metrics = frontend.metrics()
    assert metrics.sum(ROUTES, route="failed") + metrics.sum(ROUTES, route="no_worker") == 1
