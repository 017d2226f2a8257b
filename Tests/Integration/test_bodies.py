"""Long prompts in the preprocess pool, and the memory of request bodies, in the real process."""

import json
import signal
import threading

import pytest
from support.processes import MODEL, chat, eventually
from support.raw import Connection, post
from support.upstream import normal

PATH = "/v1/chat/completions"


def long_body(number: int, size: int = 600_000) -> bytes:
    text = (f"prompt {number} " * (size // 8))[:size]
    return json.dumps({"model": MODEL, "messages": [{"role": "user", "content": text}]}).encode()


def test_long_prompts_are_answered_and_keep_their_bytes(stack, upstream):
    frontend = stack.frontend("--worker", upstream.url)
    bodies = [long_body(number) for number in range(12)]
    statuses = []

    def ask(body):
        statuses.append(frontend.post(PATH, body)[0])

    threads = [threading.Thread(target=ask, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * len(bodies)
    assert {seen.body for seen in upstream.wait_requests(len(bodies))} == set(bodies)
    assert frontend.metrics().sum("dynamo_frontend_body_memory_bytes") == 0
    assert frontend.metrics().sum("dynamo_frontend_preprocess_refusals_total") == 0


def test_callers_that_leave_while_their_prompt_is_away_are_forgotten(stack, upstream):
    frontend = stack.frontend("--worker", upstream.url)
    for number in range(20):
        with Connection(frontend.port) as connection:
            connection.send(post(PATH, long_body(number, 2_000_000)))
            connection.reset()
    eventually(
        "all memory given back", lambda: frontend.metrics().sum("dynamo_frontend_body_memory_bytes") == 0
    )
    assert frontend.post(PATH, long_body(0))[0] == 200


def test_stopping_waits_for_prompts_that_are_away(stack, upstream):
    frontend = stack.frontend("--worker", upstream.url)
    connections = [Connection(frontend.port) for _ in range(4)]
    for number, connection in enumerate(connections):
        connection.send(post(PATH, long_body(number, 4_000_000)))
    eventually("the bodies are read", lambda: frontend.metrics().sum("dynamo_frontend_body_memory_bytes") > 0)
    frontend.signal(signal.SIGTERM)
    for connection in connections:
        # What was complete is served; what was still on its way may be told that the server stops.
        assert connection.response().status in (200, 503)
        connection.close()
    assert frontend.wait() == 0


def sixteenth_of_a_mebibyte() -> bytes:
    body = json.dumps(chat()).encode()
    return body + b" " * ((1 << 16) - len(body))


@pytest.mark.parametrize("threads", ["1", "2"])
def test_bodies_past_the_memory_wait_for_it(stack, upstream, threads):
    release = threading.Event()

    def held(peer, seen):
        release.wait(20)
        normal(peer, seen)

    upstream.behaviour = held
    frontend = stack.frontend("--worker", upstream.url, "--threads", threads, env={"DYN_HTTP_BODY_MEMORY_MB": 1})
    # Sixteen such bodies fill the memory, and the others wait.
    connections = [Connection(frontend.port, timeout=20) for _ in range(20)]
    body = sixteenth_of_a_mebibyte()
    for connection in connections:
        connection.send(post(PATH, body))
    # How many of the others wait, and whether a wait precedes the sixteenth, is for the kernel's pieces to say.
    eventually("some wait", lambda: frontend.metrics().sum("dynamo_frontend_body_memory_waits_total") >= 4)
    eventually("it is full", lambda: len(upstream.requests) >= 15)
    assert len(upstream.requests) <= 16
    assert frontend.metrics().sum("dynamo_frontend_body_memory_bytes") <= 1 << 20
    release.set()
    assert [connection.response().status for connection in connections] == [200] * 20
    for connection in connections:
        connection.close()
    metrics = frontend.metrics()
    assert metrics.sum("dynamo_frontend_body_memory_bytes") == 0
    assert metrics.sum("dynamo_frontend_body_memory_refusals_total") == 0


@pytest.mark.parametrize("threads", ["1", "2"])
def test_half_read_bodies_do_not_wait_for_one_another(stack, upstream, threads):
    upstream.behaviour = normal
    frontend = stack.frontend("--worker", upstream.url, "--threads", threads, env={"DYN_HTTP_BODY_MEMORY_MB": 1})
    connections = [Connection(frontend.port, timeout=20) for _ in range(40)]
    message = post(PATH, sixteenth_of_a_mebibyte())
    # Forty times 40 KiB are more than the memory: nobody's second part has room beside all the first ones.
    for connection in connections:
        connection.send(message[: 40 << 10])
    for connection in connections:
        connection.send(message[40 << 10 :])
    assert [connection.response().status for connection in connections] == [200] * 40
    for connection in connections:
        connection.close()
    metrics = frontend.metrics()
    assert metrics.sum("dynamo_frontend_body_memory_waits_total") > 0
    assert metrics.sum("dynamo_frontend_body_memory_refusals_total") == 0
    assert metrics.sum("dynamo_frontend_body_memory_bytes") == 0


def test_a_body_that_waits_in_vain_is_refused(stack, upstream):
    release = threading.Event()
    upstream.behaviour = lambda peer, seen: (release.wait(20), normal(peer, seen))
    env = {"DYN_HTTP_BODY_MEMORY_MB": 1, "DYN_HTTP_REQUEST_BODY_TIMEOUT_SECS": 1}
    frontend = stack.frontend("--worker", upstream.url, env=env)
    # Fifteen of these fit, and leave room for less than one more, in whatever pieces they come.
    body = sixteenth_of_a_mebibyte() + b" " * 1_464
    connections = [Connection(frontend.port, timeout=20) for _ in range(16)]
    for connection in connections[:15]:
        connection.send(post(PATH, body))
    upstream.wait_requests(15)
    connections[15].send(post(PATH, body))
    refused = connections[15].response()
    assert refused.status == 529 and refused.header("retry-after") == "1"
    assert json.loads(refused.body)["error"]["code"] == "overloaded"
    release.set()
    assert [connection.response().status for connection in connections[:15]] == [200] * 15
    for connection in connections:
        connection.close()


def test_a_body_larger_than_all_memory_is_too_large(stack, upstream):
    frontend = stack.frontend("--worker", upstream.url, env={"DYN_HTTP_BODY_MEMORY_MB": 1})
    assert frontend.post(PATH, long_body(0, 2_000_000))[0] == 413
