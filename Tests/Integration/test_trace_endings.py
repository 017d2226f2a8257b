"""Every way a request can end leaves one whole trace with an honest outcome, status and counts."""

import json
import signal

import pytest
from support.processes import chat, eventually, events
from support.raw import Closed, Connection, post
from support.upstream import STREAM_HEAD, normal, token, usage

PATH = "/v1/chat/completions"


@pytest.fixture
def frontend(stack, receiver, upstream):
    return stack.frontend("--worker", upstream.url, receiver=receiver)


def stream_request(request_id: str, **more) -> bytes:
    return post(PATH, json.dumps(chat(stream=True, **more)).encode(), f"x-request-id: {request_id}")


def assert_whole(trace, outcome: str, error: bool) -> None:
    """What holds for each ending: the outcome everywhere it belongs, status as it says, spans nested."""
    root, inner = trace.root(), trace.one("http-request")
    assert inner.parent == root.span_id
    assert inner.attributes["request.outcome"] == outcome
    assert (root.status == "ERROR") == error, root.status
    assert (inner.status == "ERROR") == error, inner.status
    if error:
        assert inner.status_message, "an error says what happened"
    for span in trace.spans:
        assert span.start <= span.end
        if span is not root and span.service == root.service:
            assert root.start <= span.start and span.end <= root.end, span.name


def test_success(frontend, receiver):
    status, headers, _ = frontend.post(PATH, chat(), {"x-request-id": "ok"})
    assert status == 200
    trace = receiver.trace("ok", "kv_router.route_request")
    assert_whole(trace, "success", error=False)
    attributes = trace.one("http-request").attributes
    assert (attributes["input_tokens"], attributes["output_tokens"], attributes["cached_tokens"]) == (7, 4, 0)


def test_upstream_error_passes_through_and_is_an_error(frontend, receiver, upstream):
    body = {"error": {"message": "out of memory", "type": "engine", "code": 500, "extra": [1, 2]}}
    upstream.behaviour = lambda peer, seen: peer.answer(500, body)
    status, _, answer = frontend.post(PATH, chat(), {"x-request-id": "e500"})
    assert status == 500 and json.loads(answer) == body
    trace = receiver.trace("e500", "kv_router.route_request")
    assert_whole(trace, "error", error=True)
    assert trace.root().attributes["http.response.status_code"] == 500
    assert trace.one("kv_router.route_request").status == "ERROR"


def test_upstream_refusal_of_the_callers_request_is_no_error_of_the_server(frontend, receiver, upstream):
    upstream.behaviour = lambda peer, seen: peer.answer(422, {"detail": "no"})
    status, _, answer = frontend.post(PATH, chat(), {"x-request-id": "e422"})
    assert status == 422 and json.loads(answer) == {"detail": "no"}
    trace = receiver.trace("e422", "kv_router.route_request")
    assert trace.root().status != "ERROR"
    assert trace.root().attributes["http.response.status_code"] == 422


@pytest.mark.parametrize("status", [401, 403])
def test_workers_own_authentication_failure_is_a_bad_gateway(frontend, receiver, upstream, status):
    upstream.behaviour = lambda peer, seen: peer.answer(status, {"error": "key"})
    got, _, answer = frontend.post(PATH, chat(), {"x-request-id": f"auth{status}"})
    assert got == 502 and json.loads(answer)["error"]["code"] == "worker_auth"
    assert_whole(receiver.trace(f"auth{status}", "kv_router.route_request"), "error", error=True)


def test_upstream_death_before_the_head(frontend, receiver, upstream):
    upstream.behaviour = lambda peer, seen: peer.reset()
    status, _, answer = frontend.post(PATH, chat(), {"x-request-id": "dead"})
    assert status == 502 and json.loads(answer)["error"]["code"] == "bad_gateway"
    trace = receiver.trace("dead", "kv_router.route_request")
    assert_whole(trace, "worker_disconnected", error=True)
    assert trace.root().attributes["http.response.status_code"] == 502


def test_upstream_death_inside_the_head(frontend, receiver, upstream):
    def half_a_head(peer, seen):
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-ty")
        peer.reset()

    upstream.behaviour = half_a_head
    status, _, answer = frontend.post(PATH, chat(), {"x-request-id": "half"})
    assert status == 502 and json.loads(answer)["error"]["code"] == "bad_gateway"
    assert_whole(receiver.trace("half", "kv_router.route_request"), "worker_disconnected", error=True)


def test_upstream_death_in_mid_stream(frontend, receiver, upstream):
    def dies(peer, seen):
        peer.send(STREAM_HEAD)
        for index in range(3):
            peer.event(token(index))
        peer.reset()

    upstream.behaviour = dies
    status, _, answer = frontend.post(PATH, chat(stream=True), {"x-request-id": "mid"})
    payloads = events(answer)
    assert status == 200 and payloads[-1] == "[DONE]"
    error = json.loads(payloads[-2])["error"]
    assert error["message"] and error["type"] == "server_error"
    trace = receiver.trace("mid", "kv_router.route_request")
    assert_whole(trace, "worker_disconnected", error=True)
    attributes = trace.one("http-request").attributes
    assert attributes["tokens.source"] == "chunks"
    # A reset may overtake events the worker had written; what came through was counted, and no more.
    delivered = sum(1 for payload in payloads[:-2] if "choices" in payload)
    assert attributes.get("output_tokens", 0) == delivered
    if delivered:
        assert type(attributes["ttft_ms"]) is float


def test_upstream_that_ends_a_stream_short_is_found_out(frontend, receiver, upstream):
    """Chunked framing is whole, yet neither a finish reason nor [DONE] came."""

    def stops(peer, seen):
        peer.send(STREAM_HEAD)
        peer.event(token(0))
        peer.wait_closed(0.01)
        peer.socket.close()

    upstream.behaviour = stops
    status, _, answer = frontend.post(PATH, chat(stream=True), {"x-request-id": "short"})
    assert status == 200
    payloads = events(answer)
    assert "error" in json.loads(payloads[-2]) and payloads[-1] == "[DONE]"
    assert_whole(receiver.trace("short", "kv_router.route_request"), "worker_disconnected", error=True)


def test_upstream_that_lies_about_its_length(frontend, receiver, upstream):
    def lies(peer, seen):
        peer.send(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"a":1}')
        peer.socket.shutdown(2)

    upstream.behaviour = lies
    with Connection(frontend.port) as connection:
        connection.send(post(PATH, json.dumps(chat()).encode(), "x-request-id: lie"))
        try:
            response = connection.response()
            assert response.status == 502
        except Closed:
            pass  # a head already sent can only be taken back by closing
    trace = receiver.trace("lie", "kv_router.route_request")
    assert_whole(trace, "worker_disconnected", error=True)


def test_upstream_that_speaks_no_http(frontend, receiver, upstream):
    upstream.behaviour = lambda peer, seen: peer.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    status, _, answer = frontend.post(PATH, chat(), {"x-request-id": "ssh"})
    assert status == 502 and json.loads(answer)["error"]["code"] == "bad_gateway"
    assert receiver.trace("ssh", "kv_router.route_request").root().status == "ERROR"


@pytest.mark.parametrize("how", ["close", "reset"])
def test_client_that_leaves_mid_stream_cancels_the_worker(frontend, receiver, upstream, how):
    def endless(peer, seen):
        peer.send(STREAM_HEAD)
        for index in range(3):
            peer.event(token(index))
        if peer.wait_closed(20):
            seen.cancelled.set()

    upstream.behaviour = endless
    with Connection(frontend.port) as connection:
        connection.send(stream_request(f"gone-{how}"))
        connection.until(b" t2")
        connection.close() if how == "close" else connection.reset()
    assert upstream.wait_requests()[0].cancelled.wait(10), "the worker was never told"
    trace = receiver.trace(f"gone-{how}", "kv_router.route_request")
    assert_whole(trace, "cancelled", error=False)
    attributes = trace.one("http-request").attributes
    assert attributes["output_tokens"] == 3
    assert type(attributes["ttft_ms"]) is float
    assert attributes["tokens.source"] == "chunks"
    eventually(
        "the metric counts it", lambda: frontend.metrics().sum("dynamo_frontend_model_cancellation_total") == 1
    )


def test_client_that_leaves_before_the_answer_cancels_the_worker(frontend, receiver, upstream):
    def silent(peer, seen):
        if peer.wait_closed(20):
            seen.cancelled.set()

    upstream.behaviour = silent
    with Connection(frontend.port) as connection:
        connection.send(post(PATH, json.dumps(chat()).encode(), "x-request-id: gone-early"))
        upstream.wait_requests()
    assert upstream.requests[0].cancelled.wait(10), "the worker was never told"
    trace = receiver.trace("gone-early", "kv_router.route_request")
    assert_whole(trace, "cancelled", error=False)
    assert "output_tokens" not in trace.one("http-request").attributes, "no made-up zero"
    assert "ttft_ms" not in trace.one("http-request").attributes


def test_client_that_leaves_inside_its_request_reaches_no_worker(frontend, upstream):
    with Connection(frontend.port) as connection:
        connection.send(post(PATH, json.dumps(chat()).encode())[:-10])
    with Connection(frontend.port) as connection:
        connection.send(post(PATH, json.dumps(chat()).encode()))
        assert connection.response().status == 200
    assert len(upstream.requests) == 1


def test_silent_worker_times_out_before_the_head(stack, receiver, upstream):
    frontend = stack.frontend("--worker", upstream.url, receiver=receiver, env={"DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS": 1})
    upstream.behaviour = lambda peer, seen: peer.wait_closed(20)
    status, _, answer = frontend.post(PATH, chat(), {"x-request-id": "slow"})
    assert status == 504 and json.loads(answer)["error"]["code"] == "upstream_timeout"
    trace = receiver.trace("slow", "kv_router.route_request")
    assert_whole(trace, "timeout", error=True)
    assert trace.root().attributes["http.response.status_code"] == 504


def test_silent_worker_times_out_mid_stream(stack, receiver, upstream):
    frontend = stack.frontend("--worker", upstream.url, receiver=receiver, env={"DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS": 1})

    def stalls(peer, seen):
        peer.send(STREAM_HEAD)
        peer.event(token(0))
        if peer.wait_closed(20):
            seen.cancelled.set()

    upstream.behaviour = stalls
    status, _, answer = frontend.post(PATH, chat(stream=True), {"x-request-id": "stall"})
    payloads = events(answer)
    assert status == 200 and payloads[-1] == "[DONE]"
    assert json.loads(payloads[-2])["error"]["message"]
    assert upstream.requests[0].cancelled.wait(10)
    trace = receiver.trace("stall", "kv_router.route_request")
    assert_whole(trace, "timeout", error=True)
    assert trace.one("http-request").attributes["output_tokens"] == 1


def test_drain_deadline_cuts_the_stream_and_ends_its_spans(stack, receiver, upstream):
    env = {"DYN_GRACEFUL_SHUTDOWN_GRACE_PERIOD_SECS": 0, "DYN_HTTP_GRACEFUL_SHUTDOWN_TIMEOUT_SECS": 1}
    frontend = stack.frontend("--worker", upstream.url, receiver=receiver, env=env)

    def endless(peer, seen):
        peer.send(STREAM_HEAD)
        peer.event(token(0))
        if peer.wait_closed(20):
            seen.cancelled.set()

    upstream.behaviour = endless
    with Connection(frontend.port) as connection:
        connection.send(stream_request("drained"))
        connection.until(b" t0")
        frontend.signal(signal.SIGTERM)
        rest = connection.rest()
    assert frontend.wait() == 0
    assert b'"error"' in rest, "the caller learns that it was cut"
    trace = receiver.trace("drained", "kv_router.route_request")
    inner = trace.one("http-request")
    assert inner.attributes["request.outcome"] in ("cancelled", "unavailable", "error", "timeout")
    assert inner.attributes["output_tokens"] == 1
    assert trace.root().parent == ""
    assert upstream.requests[0].cancelled.wait(10)


def test_no_worker_is_unavailable(stack, receiver):
    frontend = stack.frontend(receiver=receiver, ready=False)
    status, headers, answer = frontend.post(PATH, chat(), {"x-request-id": "none"})
    assert status == 503 and json.loads(answer)["error"]["code"] == "no_workers"
    assert int(headers["retry-after"]) >= 1
    trace = receiver.trace("none")
    assert_whole(trace, "unavailable", error=True)
    assert trace.root().attributes["http.response.status_code"] == 503


def test_refused_connect_tries_one_other_worker(stack, receiver):
    workers = [stack.upstream(), stack.upstream()]
    args = [arg for worker in workers for arg in ("--worker", worker.url)]
    frontend = stack.frontend("--router-mode", "round-robin", *args, receiver=receiver)
    eventually("both known", lambda: frontend.get("/health")[2].count(b'"instance_id"') >= 2)
    workers[0].stop()
    for index in range(4):
        status, _, _ = frontend.post(PATH, chat(), {"x-request-id": f"r{index}"})
        assert status == 200
    assert len(workers[1].requests) == 4
    attempts = [
        len(receiver.trace(f"r{index}", "router.route_request").named("router.route_request")) for index in range(4)
    ]
    assert max(attempts) == 2, "one request met the refused connect and was tried again"
    trace = receiver.trace(f"r{attempts.index(2)}", "router.route_request")
    assert_whole(trace, "success", error=False)
    first, second = sorted(trace.named("router.route_request"), key=lambda span: span.start)
    assert first.status == "ERROR" and second.status != "ERROR"
    assert first.attributes["worker_id"] != second.attributes["worker_id"]
    assert (first.trace_id, first.span_id) in second.links


@pytest.mark.parametrize("status", [503, 529])
def test_busy_worker_makes_room_for_another(stack, receiver, status):
    busy, idle = stack.upstream(), stack.upstream()
    busy.behaviour = lambda peer, seen: peer.answer(status, {"error": {"message": "busy"}})
    frontend = stack.frontend(
        "--router-mode", "round-robin", "--worker", busy.url, "--worker", idle.url, receiver=receiver
    )
    eventually("both known", lambda: frontend.get("/health")[2].count(b'"instance_id"') >= 2)
    for index in range(2):
        got, _, _ = frontend.post(PATH, chat(), {"x-request-id": f"busy{index}"})
        assert got == 200
    assert len(idle.requests) == 2 and len(busy.requests) >= 1


def test_busy_everywhere_passes_the_refusal_on(frontend, receiver, upstream):
    upstream.behaviour = lambda peer, seen: peer.answer(503, {"error": {"message": "busy"}}, "retry-after: 7\r\n")
    status, headers, answer = frontend.post(PATH, chat(), {"x-request-id": "allbusy"})
    assert status == 503 and json.loads(answer) == {"error": {"message": "busy"}}
    assert headers["retry-after"] == "7"
    assert receiver.trace("allbusy", "kv_router.route_request").root().status == "ERROR"


def test_reused_connection_that_died_is_tried_once_on_a_fresh_one(stack, receiver, upstream):
    """The worker closes a kept-alive connection just as the next request arrives."""
    # One loop: each has connections of its own.
    frontend = stack.frontend("--worker", upstream.url, "--threads", "1", receiver=receiver)
    seen_connections = []

    def close_second(peer, seen):
        seen_connections.append(peer)
        if len(seen_connections) == 2:
            assert seen_connections[0] is peer, "the connection was not reused"
            peer.reset()
        normal(peer, seen)

    upstream.behaviour = close_second
    for index in range(2):
        status, _, _ = frontend.post(PATH, chat(), {"x-request-id": f"stale{index}"})
        assert status == 200
    assert len(seen_connections) == 3
    assert_whole(receiver.trace("stale1", "kv_router.route_request"), "success", error=False)


def test_caller_errors_are_traced_with_their_status(frontend, receiver, upstream):
    status, _, _ = frontend.post(PATH, b'{"model":', {"x-request-id": "badjson"})
    assert status == 400
    trace = receiver.trace("badjson")
    assert trace.root().attributes["http.response.status_code"] == 400
    assert trace.root().status != "ERROR"
    assert trace.one("http-request").attributes["request.outcome"] in ("error", "rejected")
    frontend.get("/nowhere", {"x-request-id": "nowhere"})
    unknown = receiver.trace("nowhere").root()
    assert unknown.name == "GET" and unknown.attributes["http.response.status_code"] == 404
    assert upstream.requests == []


def test_system_routes_make_no_span(frontend, receiver):
    for path in ("/health", "/live", "/ready", "/metrics", "/version", "/v1/models"):
        assert frontend.get(path)[0] == 200
    frontend.post(PATH, chat(), {"x-request-id": "marker"})
    receiver.trace("marker")
    assert {s.name for s in receiver.spans if s.kind == "SERVER"} == {"POST /v1/chat/completions"}


def test_usage_reported_by_the_worker_wins_over_counted_chunks(frontend, receiver, upstream):
    def engine(peer, seen):
        peer.send(STREAM_HEAD)
        peer.event(token(0, text="two tokens in one event"))
        peer.event(token(1, finish="stop"))
        peer.event({**token(0), "choices": [], "usage": usage(100, 2, 64)})
        peer.event("[DONE]")
        peer.send(b"0\r\n\r\n")

    upstream.behaviour = engine
    status, _, answer = frontend.post(PATH, chat(stream=True), {"x-request-id": "usage"})
    assert status == 200 and b'"usage"' not in answer, "the caller asked for no usage chunk"
    assert upstream.requests[0].json()["stream_options"] == {"include_usage": True}
    attributes = receiver.trace("usage", "kv_router.route_request").one("http-request").attributes
    assert attributes["tokens.source"] == "usage"
    assert (attributes["input_tokens"], attributes["output_tokens"], attributes["cached_tokens"]) == (100, 2, 64)
