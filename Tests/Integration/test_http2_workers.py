"""Workers over HTTP/2 (h2c): many requests on few connections, and the same endings as over HTTP/1.1."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from h2.errors import ErrorCodes

from support.h2peer import Worker, chunk, normal
from support.processes import MODEL, chat, eventually, events, streamed_text
from support.raw import Connection, post

PATH = "/v1/chat/completions"


@pytest.fixture
def workers(stack):
    """Makes scripted h2c workers."""

    def make(**more) -> Worker:
        worker = Worker(**more)
        stack.started.append(worker)
        return worker

    return make


@pytest.fixture
def worker(workers):
    return workers()


@pytest.fixture
def frontend(stack, worker):
    return stack.frontend("--worker", worker.url)


def last_line(frontend) -> dict:
    """The access line of the newest request."""
    lines = lambda: [record for record in frontend.records() if record["message"] == "request completed"]  # noqa: E731
    return eventually("it is logged", lines)[-1]


def test_stream_and_unary_through_a_real_worker(stack, receiver):
    worker = stack.worker(receiver=receiver)
    frontend = stack.frontend("--worker", f"h2c://127.0.0.1:{worker.port}", receiver=receiver)
    status, headers, body = frontend.post(PATH, chat(stream=True))
    assert status == 200 and events(body)[-1] == "[DONE]" and streamed_text(body)
    trace = receiver.trace(headers["x-request-id"], "http-request", "handle_payload", "kv_router.route_request")
    assert trace.one("handle_payload").parent == trace.one("kv_router.route_request").span_id
    status, _, body = frontend.post(PATH, chat())
    assert status == 200 and json.loads(body)["usage"]["completion_tokens"] == 16
    assert frontend.post(PATH, chat(model="other"))[0] == 404


def test_a_worker_registers_as_h2c(stack):
    worker = stack.worker("--advertise-h2c")
    frontend = stack.frontend()
    assert frontend.post(PATH, chat())[0] == 200
    assert f"h2c://127.0.0.1:{worker.port}" in frontend.text()


def test_requests_share_a_connection(frontend, worker):
    all_there = threading.Barrier(40)

    def together(stream):
        all_there.wait(20)
        normal(stream)

    worker.behaviour = together
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda _: frontend.post(PATH, chat(stream=True)), range(40)))
    assert {(status, streamed_text(body)) for status, _, body in answers} == {(200, "one two")}
    # The probe's, and one for each loop.
    assert len({stream.connection for stream in worker.seen}) <= 2
    seen = worker.seen[0].headers
    assert seen[":method"] == "POST" and seen[":path"] == PATH and seen[":scheme"] == "http"
    assert seen[":authority"] == f"127.0.0.1:{worker.port}" and "connection" not in seen and "host" not in seen


def test_a_worker_with_few_streams_gets_more_connections(stack, workers):
    worker = workers(streams_max=2)
    frontend = stack.frontend("--worker", worker.url, "--threads=1")
    all_there = threading.Barrier(6)

    def together(stream):
        all_there.wait(20)
        normal(stream)

    # The limit is known once a connection has been heard of.
    assert frontend.post(PATH, chat(stream=True))[0] == 200
    worker.behaviour = together
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: frontend.post(PATH, chat(stream=True)), range(6)))
    assert all(status == 200 for status, _, _ in answers)


def test_an_error_status_passes_unchanged(frontend, worker):
    def refuse(stream):
        stream.respond(400, "application/json")
        stream.send(b'{"error":"no"}', end=True)

    worker.behaviour = refuse
    assert frontend.post(PATH, chat())[::2] == (400, b'{"error":"no"}')


def test_a_long_prompt_and_a_long_answer_pass_through_windows(frontend, worker):
    def long(stream):
        asked = json.loads(stream.body)
        assert len(asked["messages"][0]["content"]) == 2_000_000
        stream.respond()
        for _ in range(100):
            # The library refuses what the window does not let out; the frontend's is 256 KiB.
            stream.event(chunk("x" * 1_000))
        stream.event(chunk("", "stop"))
        stream.send(b"data: [DONE]\n\n", end=True)

    worker.behaviour = long
    status, _, body = frontend.post(PATH, chat("y" * 2_000_000, stream=True))
    assert status == 200 and len(streamed_text(body)) == 100_000


@pytest.mark.parametrize("how", ["reset", "connection"])
def test_what_breaks_before_the_answer_is_tried_elsewhere(stack, workers, how):
    broken, sound = workers(), workers()

    def fail(stream):
        if how == "reset":
            stream.refuse(ErrorCodes.INTERNAL_ERROR)
        else:
            stream.connection.close()

    broken.behaviour = fail
    frontend = stack.frontend("--worker", broken.url, "--worker", sound.url, "--router-mode=round-robin")
    for _ in range(4):
        status, _, body = frontend.post(PATH, chat(stream=True))
        assert status == 200 and streamed_text(body) == "one two"
    assert broken.seen and len(sound.seen) == 4
    eventually("it is logged", lambda: any(line.get("attempts") == 2 for line in frontend.records()))


@pytest.mark.parametrize("how", ["reset", "connection"])
def test_what_breaks_within_a_stream_is_told_in_band(frontend, worker, how):
    def fail(stream):
        stream.respond()
        stream.event(chunk("half"))
        seen.wait(10)
        if how == "reset":
            stream.refuse(ErrorCodes.INTERNAL_ERROR)
        else:
            stream.connection.close()

    seen = threading.Event()
    worker.behaviour = fail
    with Connection(frontend.port) as caller:
        caller.send(post(PATH, json.dumps(chat(stream=True)).encode()))
        caller.until(b"half")
        seen.set()
        rest = caller.until(b"[DONE]")
    assert b'"error"' in rest
    assert last_line(frontend)["outcome"] == "worker_disconnected"


def test_a_refused_stream_is_sent_again_to_the_same_worker(frontend, worker):
    def refuse_once(stream):
        if len(worker.seen) == 1:
            stream.refuse(ErrorCodes.REFUSED_STREAM)
        else:
            normal(stream)

    worker.behaviour = refuse_once
    assert frontend.post(PATH, chat(stream=True))[0] == 200
    assert len(worker.seen) == 2 and last_line(frontend)["attempts"] == 2


def test_a_worker_that_goes_away_finishes_what_it_has(frontend, worker):
    told = threading.Event()

    def leave(stream):
        stream.respond()
        stream.event(chunk("one"))
        stream.connection.do(lambda h2: h2.close_connection(last_stream_id=stream.number))
        told.wait(10)
        # The library sends no more after its GOAWAY; a server does.
        frames = [b"data: " + json.dumps(chunk(" two", "stop")).encode() + b"\n\ndata: [DONE]\n\n"]
        for index, data in enumerate(frames):
            last = index + 1 == len(frames)
            head = len(data).to_bytes(3, "big") + bytes([0, 1 if last else 0]) + stream.number.to_bytes(4, "big")
            stream.connection.peer.sendall(head + data)

    worker.behaviour = leave
    with Connection(frontend.port) as caller:
        caller.send(post(PATH, json.dumps(chat(stream=True)).encode()))
        caller.until(b"one")
        worker.behaviour = normal
        assert frontend.post(PATH, chat(stream=True))[0] == 200
        told.set()
        assert b" two" in caller.until(b"[DONE]")


def test_a_caller_that_leaves_resets_its_stream_alone(frontend, worker):
    def endless(stream):
        stream.respond()
        stream.event(chunk("one"))
        stream.over.wait(20)

    worker.behaviour = endless
    with Connection(frontend.port) as stays:
        stays.send(post(PATH, json.dumps(chat(stream=True)).encode()))
        stays.until(b"one")
        with Connection(frontend.port) as leaves:
            leaves.send(post(PATH, json.dumps(chat(stream=True)).encode()))
            leaves.until(b"one")
        eventually("the worker hears of it", lambda: any(stream.reset is not None for stream in worker.seen))
    reset = [stream for stream in worker.seen if stream.reset is not None]
    assert reset[0].reset == ErrorCodes.CANCEL
    eventually("and then of the other", lambda: all(stream.reset is not None for stream in worker.seen))


def test_a_silent_worker_is_given_up(stack, workers):
    worker = workers()
    worker.behaviour = lambda stream: stream.over.wait(20)
    frontend = stack.frontend("--worker", worker.url, env={"DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS": "1"})
    assert frontend.post(PATH, chat(stream=True))[0] == 504
    eventually("its stream is reset", lambda: worker.seen[0].reset == ErrorCodes.CANCEL)


def test_a_worker_that_dies_is_left_for_another(stack):
    first, second = (stack.worker("--discovery-backend=mem") for _ in range(2))
    urls = [f"h2c://127.0.0.1:{worker.port}" for worker in (first, second)]
    frontend = stack.frontend("--worker", urls[0], "--worker", urls[1], "--router-mode=round-robin")
    for _ in range(2):
        assert frontend.post(PATH, chat())[0] == 200
    first.kill()
    for _ in range(4):
        assert frontend.post(PATH, chat())[0] == 200


def test_a_worker_without_http2_is_named(stack):
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    frontend = stack.frontend("--worker", f"h2c://127.0.0.1:{server.server_port}", ready=False)
    eventually("it is said", lambda: "it does not speak HTTP/2" in frontend.text())
    assert frontend.status("/ready") == 503
    server.shutdown()


def test_a_worker_drains_over_h2c(stack):
    worker = stack.worker("--speedup-ratio=0.5", env={"DYN_WORKER_DRAIN_TIMEOUT_SECS": None})
    frontend = stack.frontend("--worker", f"h2c://127.0.0.1:{worker.port}")
    with Connection(frontend.port) as caller:
        caller.send(post(PATH, json.dumps(chat(stream=True, max_completion_tokens=64)).encode()))
        caller.until(b"data: ")
        worker.signal(15)
        assert b"error" not in caller.until(b"[DONE]")
    assert worker.wait() == 0


def test_the_model_is_known(frontend):
    assert json.loads(frontend.get("/v1/models")[2])["data"][0]["id"] == MODEL
