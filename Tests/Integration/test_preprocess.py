"""Long prompts in the real process: the pool's threads, callers that leave, and stopping while they work."""

import json
import signal
import threading

from support.processes import MODEL, eventually
from support.raw import Connection, post

PATH = "/v1/chat/completions"


def long_body(number: int, size: int = 600_000) -> bytes:
    text = (f"prompt {number} " * (size // 8))[:size]
    return json.dumps({"model": MODEL, "messages": [{"role": "user", "content": text}]}).encode()


def test_long_prompts_are_answered_and_keep_their_bytes(stack, upstream):
    frontend = stack.frontend("--worker", f"http://127.0.0.1:{upstream.port}")
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
    frontend = stack.frontend("--worker", f"http://127.0.0.1:{upstream.port}")
    for number in range(20):
        with Connection(frontend.port) as connection:
            connection.send(post(PATH, long_body(number, 2_000_000)))
            connection.reset()
    eventually(
        "all memory given back", lambda: frontend.metrics().sum("dynamo_frontend_body_memory_bytes") == 0
    )
    assert frontend.post(PATH, long_body(0))[0] == 200


def test_stopping_waits_for_prompts_that_are_away(stack, upstream):
    frontend = stack.frontend("--worker", f"http://127.0.0.1:{upstream.port}")
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
