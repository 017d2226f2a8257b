"""Callers over HTTP/2: by prior knowledge on the plain port, by ALPN with TLS; and those who misuse it."""

import json
import subprocess

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from support.certificates import Authority
from support.h2peer import Caller
from support.processes import chat, eventually, events, free_port, streamed_text

PATH = "/v1/chat/completions"


@pytest.fixture
def frontend(stack):
    worker = stack.worker()
    return stack.frontend("--worker", worker.url)


def curl(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["curl", "-sS", "--max-time", "20", *arguments], capture_output=True, text=True)


def body(**more) -> list[str]:
    return ["-H", "content-type: application/json", "--data", json.dumps(chat(**more))]


def test_curl_by_prior_knowledge(stack, receiver):
    worker = stack.worker(receiver=receiver)
    frontend = stack.frontend("--worker", worker.url, receiver=receiver)
    done = curl("--http2-prior-knowledge", "-i", *body(stream=True), frontend.url + PATH)
    assert done.stdout.startswith("HTTP/2 200") and "data: [DONE]" in done.stdout
    assert "transfer-encoding" not in done.stdout and "connection:" not in done.stdout
    request_id = next(line for line in done.stdout.splitlines() if line.startswith("x-request-id: "))[14:].strip()
    trace = receiver.trace(request_id, "http-request", "POST /v1/chat/completions")
    assert trace.one("http-request").attributes["version"] == "HTTP/2.0"
    assert trace.root().attributes["network.protocol.version"] == "2"
    done = curl("--http2-prior-knowledge", "-i", *body(), frontend.url + PATH)
    assert done.stdout.startswith("HTTP/2 200") and '"completion_tokens":16' in done.stdout


def test_alpn_chooses_the_version(stack, tmp_path):
    authority = Authority(tmp_path)
    pair = authority.issue()
    worker = stack.worker()
    port = free_port()
    argv = [
        "dynamo-frontend", "--http-host=127.0.0.1", f"--http-port={port}", "--worker", worker.url,
        f"--tls-cert-path={pair.certificate}", f"--tls-key-path={pair.key}",
    ]  # fmt: skip
    process = stack.server("frontend", argv, stack.env(), port)
    eventually("the worker is ready", lambda: "worker is ready" in process.text())
    for flag, version in [("--http2", "HTTP/2 200"), ("--http1.1", "HTTP/1.1 200")]:
        done = curl(flag, "-i", "--cacert", str(authority.path), *body(stream=True), f"https://localhost:{port}{PATH}")
        assert done.stdout.startswith(version) and "data: [DONE]" in done.stdout, done.stderr


def test_streams_share_a_connection(frontend):
    with Caller(frontend.port) as caller:
        streams = [caller.ask(PATH, chat(f"question {index}", stream=True)) for index in range(30)]
        streams.append(caller.ask("/v1/models", method="GET"))
        streams.append(caller.ask("/nowhere", method="GET"))
        streams.append(caller.ask(PATH, b"nonsense"))
        answers = [caller.finish(stream) for stream in streams]
    assert all(status == 200 and events(text)[-1] == "[DONE]" and streamed_text(text) for status, text in answers[:30])
    assert [status for status, _ in answers[30:]] == [200, 404, 400]
    assert frontend.metrics().sum("dynamo_frontend_open_connections") >= 1


def test_a_reset_cancels_at_the_worker(stack):
    worker = stack.worker("--speedup-ratio=0.1")
    frontend = stack.frontend("--worker", worker.url)
    with Caller(frontend.port) as caller:
        stream = caller.ask(PATH, chat(stream=True, max_completion_tokens=1000))
        other = caller.ask(PATH, chat("x", stream=True, max_completion_tokens=2))
        caller.until(lambda: caller.bodies[stream])
        caller.h2.reset_stream(stream, ErrorCodes.CANCEL)
        caller.flush()
        assert caller.finish(other)[0] == 200
    outcomes = lambda: {line["outcome"] for line in frontend.records() if line["message"] == "request completed"}  # noqa: E731
    eventually("it is counted as cancelled", lambda: outcomes() == {"cancelled", "success"})


def test_a_drain_says_goaway_and_finishes(stack):
    worker = stack.worker("--speedup-ratio=0.5")
    frontend = stack.frontend("--worker", worker.url)
    with Caller(frontend.port) as caller:
        stream = caller.ask(PATH, chat(stream=True, max_completion_tokens=40))
        caller.until(lambda: caller.bodies[stream])
        frontend.signal(15)
        # What follows GOAWAY is no news to the library; the bytes are.
        caller.until(lambda: caller.goaway is not None)
        assert caller.goaway == ErrorCodes.NO_ERROR
    assert frontend.wait() == 0


def test_http2_can_be_turned_off(stack):
    worker = stack.worker()
    frontend = stack.frontend("--worker", worker.url, env={"DYN_HTTP2_STREAM_LIMIT": "0"})
    assert curl("--http2-prior-knowledge", frontend.url + "/v1/models").returncode != 0
    assert frontend.get("/v1/models")[0] == 200


def flood(kind: str) -> bytes:
    if kind == "ping":
        return PingFrame(0, b"12345678").serialize()
    if kind == "settings":
        return SettingsFrame(0).serialize()
    if kind == "window":
        return WindowUpdateFrame(0, window_increment=1).serialize()
    if kind == "priority":
        return PriorityFrame(5, depends_on=0, stream_weight=1).serialize()
    return DataFrame(1, b"").serialize()


@pytest.mark.parametrize("kind", ["ping", "settings", "window", "priority", "empty"])
def test_floods_are_cut(frontend, kind):
    with Caller(frontend.port) as caller:
        if kind == "empty":
            number = caller.h2.get_next_available_stream_id()
            head = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", PATH)]
            caller.h2.send_headers(number, [*head, ("content-type", "application/json")])
            caller.flush()
        frames = flood(kind) * 500
        for _ in range(200):
            if caller.closed:
                break
            caller.raw(frames)
        caller.until_closed()
    assert frontend.get("/v1/models")[0] == 200


def test_rapid_resets_are_cut(frontend):
    with Caller(frontend.port) as caller:
        count = 0
        while not caller.closed and count < 2_000:
            stream = caller.h2.get_next_available_stream_id()
            head = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/v1/models")]
            caller.h2.send_headers(stream, head, end_stream=True)
            # In one write: an answer cannot have begun.
            caller.raw(caller.h2.data_to_send() + RstStreamFrame(stream, error_code=8).serialize())
            count += 1
        caller.until_closed()
    assert frontend.get("/v1/models")[0] == 200


def test_endless_continuations_are_cut(frontend):
    with Caller(frontend.port) as caller:
        head = HeadersFrame(1, caller.h2.encoder.encode([(":method", "GET")]))
        caller.raw(head.serialize())
        for _ in range(10_000):
            if caller.closed:
                break
            caller.raw(ContinuationFrame(1, b"").serialize() * 10)
        caller.until_closed()
    assert frontend.get("/v1/models")[0] == 200


def test_too_many_fields_are_refused_alone(frontend):
    with Caller(frontend.port) as caller:
        fine = caller.ask("/v1/models", method="GET")
        many = caller.ask("/v1/models", method="GET", **{f"x_{index}": "1" for index in range(200)})
        assert caller.finish(many)[0] == 431
        assert caller.finish(fine)[0] == 200
        assert caller.finish(caller.ask("/v1/models", method="GET"))[0] == 200


@pytest.mark.parametrize(
    "fields",
    [
        [("connection", "close")],
        [("transfer-encoding", "chunked")],
        [("X-Upper", "1")],
        [("x-break", "a\r\nhost: b")],
        [("host", "other")],
        [("content-length", "5")],
    ],
)
def test_what_would_smuggle_is_refused(frontend, fields):
    with Caller(frontend.port) as caller:
        caller.h2.config.validate_outbound_headers = False
        caller.h2.config.normalize_outbound_headers = False
        number = caller.h2.get_next_available_stream_id()
        head = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/v1/models")]
        caller.h2.send_headers(number, head + fields, end_stream=True)
        caller.flush()
        caller.until(lambda: number in caller.resets or number in caller.ended)
        if number in caller.ended:
            assert caller.heads[number][":status"] == "400"
        assert caller.finish(caller.ask("/v1/models", method="GET"))[0] == 200
