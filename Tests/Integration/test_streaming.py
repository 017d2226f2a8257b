"""The relay: event by event, nothing buffered, nothing changed, back-pressure both ways."""

import json
import subprocess
import threading

import pytest
from support.processes import chat, events, request
from support.raw import Connection, post
from support.upstream import JSON_HEAD, STREAM_HEAD, normal, token, usage

PATH = "/v1/chat/completions"


@pytest.fixture
def frontend(stack, upstream):
    return stack.frontend("--worker", upstream.url)


def ask(stream: bool = True, **more) -> bytes:
    return post(PATH, json.dumps(chat(stream=stream, **more)).encode())


def test_each_event_arrives_before_the_next_is_made(frontend, upstream):
    """The worker makes an event only after the client has seen the one before: buffering anywhere would hang."""
    turn = threading.Semaphore(0)

    def stepwise(peer, seen):
        peer.send(STREAM_HEAD)
        for index in range(5):
            peer.event(token(index))
            assert turn.acquire(timeout=10)
        peer.event("[DONE]")
        peer.send(b"0\r\n\r\n")

    upstream.behaviour = stepwise
    with Connection(frontend.port) as connection:
        connection.send(ask())
        for index in range(5):
            connection.until(b" t%d" % index)
            turn.release()
        connection.until(b"[DONE]")


def test_head_of_a_stream(frontend):
    with Connection(frontend.port) as connection:
        connection.send(ask())
        response = connection.response()
    assert response.header("content-type").startswith("text/event-stream")
    assert response.header("x-accel-buffering") == "no"
    assert "no-cache" in response.header("cache-control")
    assert events(response.body)[-1] == "[DONE]"


@pytest.mark.parametrize("ending", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_any_line_ending_of_the_worker_is_relayed(frontend, upstream, ending):
    def engine(peer, seen):
        peer.send(STREAM_HEAD)
        for payload in (token(0), token(1, finish="stop")):
            peer.chunk(b"data: " + json.dumps(payload).encode() + ending)
        peer.chunk(b"data: [DONE]" + ending)
        peer.send(b"0\r\n\r\n")

    upstream.behaviour = engine
    status, _, body = frontend.post(PATH, chat(stream=True))
    assert status == 200 and body.count(b"data:") == 3


def test_stream_is_relayed_byte_for_byte_however_it_is_cut(frontend, upstream):
    payload = b"".join(b"data: " + json.dumps(token(i, text="h\u00e9llo \U0001f600")).encode() + b"\n\n" for i in range(6))
    payload += b": a comment\n\nevent: ping\ndata: {}\n\ndata: [DONE]\n\n"

    def trickle(peer, seen):
        size = 1 + len(upstream.requests)
        peer.send(STREAM_HEAD)
        for start in range(0, len(payload), size):
            peer.chunk(payload[start : start + size])
        peer.send(b"0\r\n\r\n")

    upstream.behaviour = trickle
    for _ in range(8):
        status, _, body = frontend.post(PATH, chat(stream=True))
        assert status == 200 and body == payload


def test_unary_answer_is_relayed_byte_for_byte(frontend, upstream):
    answer = b' {"id":"x", "weird" : [1.0,  2e5, "\\u00e9"]}\n'
    upstream.behaviour = lambda peer, seen: peer.answer(200, answer)
    status, _, body = frontend.post(PATH, chat())
    assert status == 200 and body == answer


def test_chunked_and_close_delimited_unary_answers(frontend, upstream):
    def chunked(peer, seen):
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        peer.chunk(b'{"a":')
        peer.chunk(b"1}")
        peer.send(b"0\r\n\r\n")

    def until_close(peer, seen):
        peer.send(b'HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{"a":1}')
        peer.socket.shutdown(2)

    for behaviour in (chunked, until_close):
        upstream.behaviour = behaviour
        status, _, body = frontend.post(PATH, chat())
        assert status == 200 and body == b'{"a":1}'


def test_big_unary_answer(frontend, upstream):
    answer = json.dumps({"data": "x" * 5_000_000}).encode()
    upstream.behaviour = lambda peer, seen: peer.answer(200, answer)
    assert frontend.post(PATH, chat())[2] == answer


def test_big_request_body_reaches_the_worker_whole(frontend, upstream):
    body = json.dumps(chat("word " * 400_000)).encode()
    status, _, _ = frontend.post(PATH, body)
    assert status == 200 and upstream.requests[0].body == body


def test_chunked_request_body(frontend, upstream):
    body = json.dumps(chat("chunked please")).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    with Connection(frontend.port) as connection:
        connection.send(head)
        for start in range(0, len(body), 7):
            piece = body[start : start + 7]
            connection.send(b"%x;name=value\r\n%s\r\n" % (len(piece), piece))
        connection.send(b"0\r\nx-trailer: 1\r\n\r\n")
        assert connection.response().status == 200
    assert upstream.requests[0].json() == json.loads(body)


def test_request_sent_byte_by_byte(frontend):
    with Connection(frontend.port) as connection:
        for byte in ask(stream=False):
            connection.send(bytes([byte]))
        assert connection.response().status == 200


def test_pipelined_requests_are_answered_in_order(frontend, upstream):
    def echo(peer, seen):
        peer.answer(200, {"n": seen.json()["messages"][0]["content"]})

    upstream.behaviour = echo
    with Connection(frontend.port) as connection:
        connection.send(b"".join(post(PATH, json.dumps(chat(str(n))).encode()) for n in range(6)))
        assert [json.loads(connection.response().body)["n"] for _ in range(6)] == [str(n) for n in range(6)]


def test_keep_alive_and_close(frontend):
    with Connection(frontend.port) as connection:
        for _ in range(3):
            connection.send(ask(stream=False))
            assert connection.response().status == 200
        connection.send(post(PATH, json.dumps(chat()).encode(), "Connection: close"))
        response = connection.response()
        assert response.status == 200 and response.header("connection") == "close"
        assert connection.is_closed()


def test_head_request_has_headers_and_no_body(frontend):
    with Connection(frontend.port) as connection:
        connection.send("HEAD /v1/models HTTP/1.1\r\nHost: a\r\n\r\nGET /live HTTP/1.1\r\nHost: a\r\n\r\n")
        response = connection.response("HEAD")
        assert response.status == 200 and int(response.header("content-length")) > 0
        assert connection.response().status == 200


def test_interim_responses_of_the_worker_are_skipped(frontend, upstream):
    def engine(peer, seen):
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
        normal(peer, seen)

    upstream.behaviour = engine
    assert frontend.post(PATH, chat())[0] == 200


def test_early_answer_to_an_unfinished_upload_is_relayed(frontend, upstream):
    """The worker answers and closes while the frontend still sends."""

    def early(peer, seen):
        peer.answer(413, {"error": {"message": "no"}}, "connection: close\r\n")
        peer.socket.shutdown(2)

    upstream.behaviour = early
    status, _, answer = frontend.post(PATH, chat("x" * 200_000))
    assert status == 413 and json.loads(answer) == {"error": {"message": "no"}}


def test_slow_reader_pauses_the_worker(frontend, upstream):
    """A client that reads nothing holds a bounded amount of the answer; the worker's writes come to a stop."""
    sent = []
    done = threading.Event()

    def firehose(peer, seen):
        peer.send(STREAM_HEAD)
        event = b"data: " + json.dumps(token(0, text="x" * 8000)).encode() + b"\n\n"
        peer.socket.settimeout(2)
        try:
            for _ in range(12_000):  # 100 MB in all
                peer.chunk(event)
                sent.append(len(event))
        except Exception:
            peer.socket.settimeout(20)
        done.set()
        peer.wait_closed(10)

    upstream.behaviour = firehose
    with Connection(frontend.port, receive_buffer=4096) as connection:
        connection.send(ask())
        upstream.wait_requests()
        assert done.wait(40)
        assert sum(sent) < 40_000_000, "the frontend takes in what nobody reads"
    assert frontend.status("/live") == 200


def test_usage_is_asked_for_and_withheld(frontend, upstream):
    status, _, body = frontend.post(PATH, chat(stream=True))
    assert status == 200
    assert upstream.requests[0].json() == {**chat(stream=True), "stream_options": {"include_usage": True}}
    assert b"usage" not in body and events(body)[-1] == "[DONE]"


@pytest.mark.parametrize("options", [{}, {"include_usage": False}, {"other": 1}, None])
def test_stream_options_are_mended_in_place(frontend, upstream, options):
    status, _, body = frontend.post(PATH, chat(stream=True, stream_options=options))
    assert status == 200
    assert upstream.requests[0].json()["stream_options"] == {**(options or {}), "include_usage": True}
    assert b"usage" not in body


def test_usage_that_was_asked_for_is_delivered(frontend, upstream):
    asked = json.dumps(chat(stream=True, stream_options={"include_usage": True})).encode()
    status, _, body = frontend.post(PATH, asked)
    assert upstream.requests[0].body == asked
    assert json.loads(events(body)[-2])["usage"] == usage(7, 4, 0)


def test_body_may_be_left_alone(stack, upstream):
    frontend = stack.frontend("--worker", upstream.url, env={"DYN_PASS_BODY_VERBATIM": "true"})
    body = json.dumps(chat(stream=True)).encode()
    assert frontend.post(PATH, body)[0] == 200
    assert upstream.requests[0].body == body


def test_tool_calls_and_several_choices_pass(frontend, upstream):
    answer = {"choices": [{"index": i, "message": {"tool_calls": [{"id": "1", "function": {"arguments": "{}"}}]}} for i in range(2)]}
    upstream.behaviour = lambda peer, seen: peer.answer(200, answer)
    assert json.loads(frontend.post(PATH, chat(n=2, tools=[]))[2]) == answer


def test_authorization_goes_to_the_worker(frontend, upstream):
    frontend.post(PATH, chat(), {"Authorization": "Bearer k"})
    assert upstream.requests[0].header("authorization") == "Bearer k"


def test_nothing_of_the_secret_is_logged(frontend):
    frontend.post(PATH, chat("my secret prompt"), {"Authorization": "Bearer sk-secret-key"})
    frontend.stop()
    assert "sk-secret-key" not in frontend.text() and "my secret prompt" not in frontend.text()


def test_many_callers_at_once(frontend):
    """50 streams at a time, each whole."""
    failures = []

    def caller():
        for _ in range(4):
            status, _, body = request(frontend.port, "POST", PATH, chat(stream=True))
            if status != 200 or events(body)[-1] != "[DONE]":
                failures.append((status, body))

    threads = [threading.Thread(target=caller) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_curl_over_a_kept_alive_connection(frontend):
    """curl's own view: two transfers, one connection, no complaint."""
    command = ["curl", "-sS", "-v", "-H", "Content-Type: application/json", "-d", json.dumps(chat())]
    url = f"{frontend.url}{PATH}"
    done = subprocess.run([*command, url, url], capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr.count("< HTTP/1.1 200") == 2
    assert "Re-using existing connection" in done.stderr


def test_worker_that_redirects_is_not_followed(frontend, upstream):
    head = JSON_HEAD.format(status=307, length=2, more="location: http://127.0.0.1:1/\r\n").encode()
    upstream.behaviour = lambda peer, seen: peer.send(head + b"{}")
    assert frontend.post(PATH, chat())[0] == 307
