"""Workers that fail in every way: what the caller, the counters and the books of load say; streams that go on elsewhere."""

import http.client
import json
import threading

import pytest
from support.processes import MODEL, chat, eventually, events, streamed_text
from support.upstream import STREAM_HEAD, Gone, normal, token

PATH = "/v1/chat/completions"
UP = "dynamo_frontend_worker_up"


def states(frontend) -> dict[str, str]:
    instances = json.loads(frontend.get("/health")[2])["instances"]
    return {worker["transport"]["http"]: worker["state"] for worker in instances}


def assert_nothing_is_left(frontend) -> None:
    """No request in hand, no load booked on any worker, whatever happened before."""

    def is_free() -> bool:
        state = json.loads(frontend.get("/v1/router/state")[2])
        workers = [worker for model in state["models"] for worker in model["workers"]]
        booked = sum(worker["active_requests"] + worker["active_blocks"] + worker["active_prefill_tokens"] for worker in workers)
        metrics = frontend.metrics()
        return (
            booked == 0
            and metrics.sum("dynamo_frontend_active_requests") == 0
            and metrics.sum("dynamo_frontend_body_memory_bytes") == 0
            and metrics.sum("dynamo_frontend_stage_requests") == 0
        )

    eventually("nothing is left of the requests", is_free)


def streams(frontend, workers: int):
    eventually("all are ready", lambda: frontend.metrics().sum(UP) == workers)


# MARK: Running streams


class Kill:
    """A caller that kills the worker that serves it after some tokens, and reads on."""

    def __init__(self, frontend, workers: dict, after: int):
        connection = http.client.HTTPConnection("127.0.0.1", frontend.port, timeout=30)
        body = json.dumps(chat(stream=True, max_completion_tokens=40, stream_options={"include_usage": True}))
        connection.request("POST", PATH, body, {"content-type": "application/json", "x-request-id": "moves"})
        response = connection.getresponse()
        got = b""
        while got.count(b'"content":" ') < after:
            line = response.readline()
            assert line, got
            got += line
        victim = int(response.getheader("x-dynamo-worker-id"))
        workers[victim].child.kill()
        self.body = got + response.read()
        connection.close()


def test_a_stream_outlives_its_worker(stack, receiver):
    workers = [stack.worker("--decode-speedup-ratio", "0.3", receiver=receiver) for _ in range(2)]
    frontend = stack.frontend("--migration-limit", "2", receiver=receiver)
    streams(frontend, 2)
    whole = frontend.post(PATH, chat(stream=True, max_completion_tokens=40, stream_options={"include_usage": True}))[2]
    instances = json.loads(frontend.get("/health")[2])["instances"]
    by_port = {worker.url: worker for worker in workers}
    ids = {one["instance_id"]: by_port[one["transport"]["http"].rstrip("/")] for one in instances}
    cut = Kill(frontend, ids, after=5).body
    assert streamed_text(cut) == streamed_text(whole)
    payloads = [json.loads(event) for event in events(cut)[:-1]]
    assert events(cut)[-1] == "[DONE]" and not any("error" in payload for payload in payloads)
    assert len({payload["id"] for payload in payloads}) == 1 and len({payload["created"] for payload in payloads}) == 1
    roles = [choice["delta"] for payload in payloads for choice in payload["choices"] if "role" in choice["delta"]]
    assert len(roles) == 1
    before = json.loads(events(whole)[-2])["usage"]
    after = payloads[-1]["usage"]
    assert (after["prompt_tokens"], after["completion_tokens"]) == (before["prompt_tokens"], before["completion_tokens"])
    metrics = frontend.metrics()
    assert metrics.sum("dynamo_frontend_model_migration_total", model=MODEL, migration_type="ongoing_request") == 1
    assert_nothing_is_left(frontend)
    trace = receiver.trace("moves", "http-request")
    attempts = sorted(
        (span for span in trace.spans if span.name == "kv_router.route_request"), key=lambda span: span.attributes["request.attempt"]
    )
    assert len(attempts) == 2
    assert attempts[1].attributes["migration.reason"] in ("disconnected", "stream_incomplete")
    assert attempts[1].attributes["migration.from_worker_id"] == attempts[0].attributes["worker_id"]
    assert attempts[1].attributes["migration.tokens_completed"] >= 5
    assert trace.one("http-request").attributes["request.outcome"] == "success"


# MARK: Faults


def stall_before_head(peer, seen):
    peer.wait_closed()
    raise Gone


def stall_in_head(peer, seen):
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-")
    stall_before_head(peer, seen)


def stall_in_body(peer, seen):
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{")
    stall_before_head(peer, seen)


def stall_in_stream(peer, seen):
    peer.send(STREAM_HEAD)
    peer.event(token(0))
    stall_before_head(peer, seen)


def half_close(peer, seen):
    peer.socket.shutdown(1)
    stall_before_head(peer, seen)


def too_short(peer, seen):
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{}")
    raise Gone


def bad_chunk(peer, seen):
    peer.send(STREAM_HEAD)
    peer.event(token(0))
    peer.send(b"zz\r\n")
    stall_before_head(peer, seen)


def two_lengths(peer, seen):
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}")
    stall_before_head(peer, seen)


def trickle(peer, seen):
    """Byte by byte, and whole in the end."""

    class Slow:
        def __init__(self):
            self.socket, self.buffer = peer.socket, peer.buffer

        def send(self, data: bytes) -> None:
            for index in range(len(data)):
                peer.send(data[index : index + 1])

    slow = Slow()
    slow.chunk = lambda data: slow.send(b"%x\r\n%s\r\n" % (len(data), data))
    slow.event = lambda payload: slow.chunk(f"data: {payload if isinstance(payload, str) else json.dumps(payload)}\n\n".encode())
    slow.answer = lambda status, body, more="": slow.send(
        b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(json.dumps(body)), json.dumps(body).encode())
    )
    normal(slow, seen, tokens=2)


FAULTS = [
    (stall_before_head, False, 504),
    (stall_in_head, False, 504),
    (stall_in_body, False, None),
    (stall_in_stream, True, "in-band"),
    (half_close, False, 502),
    (too_short, False, None),
    (bad_chunk, True, "in-band"),
    (two_lengths, False, 502),
    (trickle, False, 200),
    (trickle, True, 200),
]


def test_each_fault_has_its_end_and_leaves_nothing(stack, upstream):
    frontend = stack.frontend("--worker", upstream.url, env={"DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS": "0.3"})
    for behaviour, stream, expected in FAULTS:
        upstream.behaviour = behaviour
        name = f"{behaviour.__name__} stream={stream}"
        try:
            status, _, body = frontend.post(PATH, chat(stream=stream))
        except (http.client.HTTPException, ConnectionError):
            assert expected is None, name
            continue
        assert expected is not None, name
        if expected == "in-band":
            assert status == 200 and "error" in json.loads(events(body)[-2]) and events(body)[-1] == "[DONE]", name
        else:
            assert status == expected, (name, body)
    metrics = frontend.metrics()
    finished = "dynamo_frontend_requests_total"
    assert metrics.sum(finished, status="success") == 2
    assert metrics.sum(finished) == len(FAULTS)
    assert_nothing_is_left(frontend)
    eventually("no connection to a worker is left", lambda: len(upstream.connections) <= 1)


def test_a_storm_of_failures_ejects_one_worker_and_never_all(stack, upstream):
    others = [stack.upstream() for _ in range(2)]
    args = [arg for worker in (upstream, *others) for arg in ("--worker", worker.url)]
    frontend = stack.frontend(*args, "--router-mode", "round-robin", env={"DYN_OUTLIER_EJECTION_SECS": "60"})
    streams(frontend, 3)

    def fails(peer, seen):
        peer.answer(500, {"error": {"message": "no"}})

    def count(worker) -> int:
        return sum(seen.path == PATH for seen in worker.requests)

    # Callers' errors, however many, are no reason.
    upstream.behaviour = lambda peer, seen: peer.answer(400, {"error": {"message": "no"}})
    for _ in range(30):
        frontend.post(PATH, chat())
    assert set(states(frontend).values()) == {"ready"}
    upstream.behaviour = fails
    for _ in range(15):
        frontend.post(PATH, chat())
    eventually("it is ejected", lambda: states(frontend)[upstream.url] == "ejected")
    before = count(upstream)
    for _ in range(6):
        assert frontend.post(PATH, chat())[0] == 200
    assert count(upstream) == before
    metrics = frontend.metrics()
    assert metrics.sum("dynamo_frontend_worker_ejections_total", reason="consecutive") == 1
    assert metrics.sum("dynamo_frontend_worker_state", state="ejected") == 1
    model = json.loads(frontend.get("/v1/router/state")[2])["models"][0]
    assert sorted(worker["state"] for worker in model["workers"]) == ["ejected", "ready", "ready"]
    assert any(worker["reason"] and "in a row" in worker["reason"] for worker in model["workers"])
    # Now a second one fails: two of three would be too many.
    others[0].behaviour = fails
    for _ in range(12):
        frontend.post(PATH, chat())
    eventually("a panic", lambda: frontend.metrics().sum("dynamo_frontend_model_panic") == 1)
    for _ in range(9):
        frontend.post(PATH, chat())
    assert count(upstream) > before, "it is asked again"
    assert_nothing_is_left(frontend)


@pytest.mark.parametrize("code", [503, 529])
def test_retries_stay_within_their_budget(stack, upstream, code):
    other = stack.upstream()
    gate = threading.Event()

    def refuses(peer, seen):
        gate.wait(10)
        peer.answer(code, {"error": {"message": "full"}})

    upstream.behaviour = other.behaviour = refuses
    # Nobody is ejected: a request that has nowhere to go asks for no place in the budget.
    env = {
        "DYN_RETRY_BUDGET_PERCENT": "0",
        "DYN_RETRY_BUDGET_MIN": "2",
        "DYN_OUTLIER_CONSECUTIVE_FAILURES": "0",
    }
    frontend = stack.frontend("--worker", upstream.url, "--worker", other.url, env=env)
    streams(frontend, 2)
    statuses: list[int] = []
    callers = [threading.Thread(target=lambda: statuses.append(frontend.post(PATH, chat())[0])) for _ in range(8)]
    for caller in callers:
        caller.start()
    eventually("all are asked", lambda: len(upstream.requests) + len(other.requests) >= 8)
    gate.set()
    for caller in callers:
        caller.join()
    assert statuses == [code] * 8
    metrics = frontend.metrics()
    retried = metrics.sum("dynamo_frontend_request_retries_total")
    refused = metrics.sum("dynamo_frontend_retries_refused_total")
    assert retried + refused == 8 and retried >= 1
    assert_nothing_is_left(frontend)


def test_canaries_find_a_worker_that_generates_no_more(stack, upstream):
    other = stack.upstream()
    env = {"DYN_HEALTH_CHECK_ENABLED": "1", "DYN_CANARY_WAIT_TIME": "0.2", "DYN_OUTLIER_EJECTION_SECS": "0.2"}
    frontend = stack.frontend("--worker", upstream.url, "--worker", other.url, env=env)
    streams(frontend, 2)
    eventually("canaries come", lambda: upstream.requests and other.requests)
    assert set(states(frontend).values()) == {"ready"}
    assert upstream.requests[0].json()["max_tokens"] == 1
    upstream.behaviour = lambda peer, seen: peer.answer(500, {"error": {"message": "no"}})
    eventually("it is ejected", lambda: states(frontend)[upstream.url] == "ejected")
    upstream.behaviour = normal
    eventually("it is back", lambda: states(frontend)[upstream.url] in ("recovering", "ready"))
    assert frontend.metrics().sum("dynamo_frontend_requests_total") == 0, "canaries are no requests of callers"
