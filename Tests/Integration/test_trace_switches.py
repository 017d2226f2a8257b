"""DYN_TRACE_KEEP, DYN_TRACE_SHAPE, DYN_TRACE_SYSTEM_ROUTES, DYN_LOGGING_SPAN_EVENTS, DYN_LOG_USE_LOCAL_TZ."""

import json
import re

from support.processes import chat, eventually

PATH = "/v1/chat/completions"
UNSAMPLED = {"OTEL_TRACES_SAMPLER": "always_off"}


def ask(frontend, name, **more):
    return frontend.post(PATH, chat(**more), {"x-request-id": name})


def test_a_failed_request_is_kept_although_the_sampler_said_no(stack, receiver, upstream):
    frontend = stack.frontend(
        "--worker", upstream.url, receiver=receiver, env=UNSAMPLED | {"DYN_TRACE_KEEP": "errors,slow=100"}
    )
    assert ask(frontend, "fine")[0] == 200
    upstream.behaviour = lambda peer, seen: peer.answer(500, {"error": "no"})
    status, headers, _ = ask(frontend, "broken")
    assert status == 500
    assert headers["traceresponse"].endswith("-02"), "the sampler's word travels, whatever is kept"
    trace = receiver.trace("broken", "kv_router.route_request")
    for span in (trace.root(), trace.one("http-request")):
        assert span.attributes["sampling.kept"] == "error"
        assert span.attributes["sampling.partial"] is True
    assert trace.one("kv_router.select_worker").attributes["router.candidates.worker_id"]
    assert not [s for s in receiver.spans if s.attributes.get("x_request_id") == "fine"]
    made, sent, dropped = eventually("books close", lambda: (b := frontend.metrics().books())[0] == b[1] and b)
    assert made == len(receiver.spans) and dropped == 0, "what is not kept was never made"


def test_each_process_keeps_its_half(stack, receiver):
    keep = UNSAMPLED | {"DYN_TRACE_KEEP": "slow=1ms"}
    stack.worker(receiver=receiver, env=keep)
    frontend = stack.frontend(receiver=receiver, env=keep)
    assert ask(frontend, "slow", max_tokens=8)[0] == 200
    trace = receiver.trace("slow", "handle_payload")
    assert trace.one("handle_payload").attributes["sampling.kept"] == "slow"
    assert trace.one("http-request").attributes["sampling.kept"] == "slow"


def test_a_wrong_word_is_named_at_start(stack, receiver, upstream):
    frontend = stack.frontend("--worker", upstream.url, receiver=receiver, env={"DYN_TRACE_KEEP": "errors,everything"})
    eventually("a warning", lambda: [r for r in frontend.records() if "everything" in r["message"]])


def test_dynamos_shape_has_one_server_span(stack, receiver, upstream):
    frontend = stack.frontend("--worker", upstream.url, receiver=receiver, env={"DYN_TRACE_SHAPE": "dynamo"})
    assert ask(frontend, "one")[0] == 200
    trace = receiver.trace("one", "kv_router.route_request")
    root = trace.root()
    assert root.name == "http-request" and root.kind == "SERVER"
    assert len([s for s in trace.spans if s.name == "http-request"]) == 1
    for name in ("preprocess", "kv_router.select_worker", "kv_router.route_request"):
        assert trace.one(name).parent == root.span_id
    for key in ("http.route", "uri", "model", "request.outcome", "ttft_ms", "http.response.status_code"):
        assert key in root.attributes, key
    assert frontend.get("/nowhere", {"x-request-id": "lost"})[0] == 404
    assert receiver.trace("lost").root().name == "http-request"


def test_system_routes_are_traced_where_asked(stack, receiver, upstream):
    frontend = stack.frontend("--worker", upstream.url, receiver=receiver, env={"DYN_TRACE_SYSTEM_ROUTES": "true"})
    status, headers, _ = frontend.get("/v1/models", {"x-request-id": "list"})
    assert status == 200 and headers["x-request-id"] == "list"
    root = receiver.trace("list").root()
    assert root.name == "GET /v1/models" and root.attributes["http.route"] == "/v1/models"
    assert headers["traceresponse"].split("-")[1] == root.trace_id
    assert frontend.get("/v1/models/none", {"x-request-id": "gone"})[0] == 404
    gone = receiver.trace("gone").root()
    assert gone.name == "GET /v1/models/{model}" and gone.attributes["http.response.status_code"] == 404


def test_system_routes_make_no_spans_by_default(stack, receiver, upstream):
    frontend = stack.frontend("--worker", upstream.url, receiver=receiver)
    frontend.get("/health", {"x-request-id": "quiet"})
    ask(frontend, "loud")
    receiver.trace("loud")
    assert not [s for s in receiver.spans if s.attributes.get("x_request_id") == "quiet"]


def test_lines_of_spans(stack, receiver):
    env = {"DYN_LOGGING_SPAN_EVENTS": "true"}
    worker = stack.worker(receiver=receiver, env=env)
    frontend = stack.frontend(receiver=receiver, env=env)
    assert ask(frontend, "lines")[0] == 200
    trace = receiver.trace("lines", "handle_payload")
    for server, name in ((frontend, "http-request"), (worker, "handle_payload")):
        span = trace.one(name)
        lines = eventually(
            "both lines",
            lambda: (found := [r for r in server.records() if r["target"] == "request_span"]) and len(found) == 2 and found,
        )
        assert [line["message"] for line in lines] == ["SPAN_FIRST_ENTRY", "SPAN_CLOSED"]
        for line in lines:
            assert (line["span_name"], line["span_id"], line["parent_id"]) == (name, span.span_id, span.parent)
            assert line["x_request_id"] == "lines" and line["trace_id"] == span.trace_id
        closed = lines[1]
        assert closed["time.duration_us"] == closed["time.busy_us"] + closed["time.idle_us"] > 0


def test_local_time(stack, upstream):
    frontend = stack.frontend(
        "--worker", upstream.url, env={"DYN_LOG_USE_LOCAL_TZ": "true", "TZ": "XYZ-5:45"}
    )
    assert all(re.fullmatch(r".*T.*\.\d{6}\+05:45", record["time"]) for record in frontend.records())
    assert json.dumps(frontend.records())
