"""dynamo-worker by itself: the simulated engine's answers, its cache, its two spans, an engine behind it that fails."""

import json
import threading

import pytest
from support.processes import MODEL, chat, eventually, events, request, streamed_text
from support.raw import Connection, post
from support.upstream import STREAM_HEAD, token

PATH = "/v1/chat/completions"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.fixture(scope="module")
def worker(shared_stack):
    return shared_stack.worker("--speedup-ratio", "20")


def ask(worker, **more) -> dict:
    status, _, answer = worker.post(PATH, chat(**more))
    assert status == 200, answer
    return json.loads(answer)


def text(answer: dict, index: int = 0) -> str:
    return answer["choices"][index]["message"]["content"]


def test_text_is_a_function_of_seed_and_prompt(worker, shared_stack):
    one, two = ask(worker), ask(worker)
    assert text(one) == text(two) and one["id"] != two["id"]
    assert text(ask(worker, prompt="another question")) != text(one)
    store = shared_stack.folder / "other-store"
    other = shared_stack.worker("--speedup-ratio", "20", env={"DYN_FILE_KV": store})
    assert text(ask(other)) == text(one), "the same in every process"


def test_token_limit_is_honest(worker):
    for limit in (1, 2, 7):
        answer = ask(worker, max_completion_tokens=limit, ignore_eos=True)
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["usage"]["completion_tokens"] == limit


def test_stop_text_ends_the_answer(worker):
    whole = text(ask(worker, max_completion_tokens=30))
    words = whole.split()
    assert len(words) > 6
    stop = words[4]
    answer = ask(worker, max_completion_tokens=30, stop=[stop])
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert text(answer) == whole[: whole.index(stop)]


def test_streamed_chunks_make_the_unary_text(worker):
    status, headers, body = worker.post(PATH, chat(stream=True, stream_options={"include_usage": True}))
    assert status == 200 and headers["content-type"].startswith("text/event-stream")
    payloads = events(body)
    unary = ask(worker)
    assert streamed_text(body) == text(unary)
    assert json.loads(payloads[-2])["usage"]["completion_tokens"] == unary["usage"]["completion_tokens"]
    assert payloads[-1] == "[DONE]"


def test_prefix_cache_reports_whole_blocks(worker):
    prompt = "a prompt of its own for the cache test " * 40
    first = ask(worker, prompt=prompt)["usage"]
    second = ask(worker, prompt=prompt)["usage"]
    assert first["prompt_tokens_details"]["cached_tokens"] == 0
    cached = second["prompt_tokens_details"]["cached_tokens"]
    assert cached > 0 and cached % 16 == 0 and cached < second["prompt_tokens"]


def test_model_list(worker):
    models = json.loads(worker.get("/v1/models")[2])
    assert [model["id"] for model in models["data"]] == [MODEL]


def test_wrong_requests_are_refused(worker):
    assert worker.post(PATH, b"{")[0] == 400
    assert worker.post(PATH, chat(model="other"))[0] == 404
    assert worker.get(PATH)[0] == 405
    assert worker.get("/nowhere")[0] == 404


def test_many_at_once(worker):
    failures = []

    def caller(index: int) -> None:
        status, _, body = request(worker.port, "POST", PATH, chat(f"caller {index}", stream=True))
        if status != 200 or events(body)[-1] != "[DONE]":
            failures.append((status, body))

    threads = [threading.Thread(target=caller, args=(index,)) for index in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_two_spans_under_the_callers(stack, receiver):
    worker = stack.worker(receiver=receiver)
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "direct", "request-id": "5f0c4d0e-8a3d-4f53-9f4e-0b4e6d1f7a10"}
    assert worker.post(PATH, chat(), headers)[0] == 200
    spans = receiver.wait("two spans", lambda all: len(all) >= 2 and all)
    handled = next(span for span in spans if span.name == "handle_payload")
    generated = next(span for span in spans if span.name == "engine.generate")
    assert (handled.trace_id, handled.parent, handled.kind, handled.service) == (TRACE, PARENT, "SERVER", "dynamo-worker")
    assert handled.flags & 0x300 == 0x300
    assert (generated.trace_id, generated.parent, generated.kind) == (TRACE, handled.span_id, "INTERNAL")
    assert handled.attributes["x_request_id"] == "direct"
    assert handled.attributes["request_id"] == headers["request-id"]
    assert generated.attributes["finish_reason"] in ("stop", "length")
    for key in ("input_tokens", "output_tokens"):
        assert type(generated.attributes[key]) is int, key
    assert handled.start <= generated.start <= generated.end <= handled.end


def test_attached_engine_that_dies_in_mid_stream(stack, receiver, upstream):
    def dies(peer, seen):
        peer.send(STREAM_HEAD)
        peer.event(token(0))
        peer.reset()

    upstream.behaviour = dies
    worker = stack.worker("--engine", "openai", "--engine-url", upstream.url, receiver=receiver)
    status, _, body = worker.post(PATH, chat(stream=True), {"traceparent": f"00-{TRACE}-{PARENT}-01"})
    assert status == 200 and b'"error"' in body
    spans = receiver.wait("two spans", lambda all: len(all) >= 2 and all)
    assert all(span.status == "ERROR" and span.status_message for span in spans)


def test_a_broken_response_ends_with_the_number_that_follows(stack, upstream):
    def dies(peer, seen):
        peer.send(STREAM_HEAD)
        peer.event(json.dumps({"type": "response.output_text.delta", "sequence_number": 4, "delta": "a"}))
        peer.reset()

    upstream.behaviour = dies
    worker = stack.worker("--engine", "openai", "--engine-url", upstream.url)
    status, _, body = worker.post("/v1/responses", {"model": MODEL, "input": "a", "stream": True})
    assert status == 200 and b'"type":"error","sequence_number":5,' in body, body


def test_the_version_of_anthropics_api_goes_on_to_the_engine(stack, upstream):
    worker = stack.worker("--engine", "openai", "--engine-url", upstream.url)
    upstream.requests.clear()
    body = {"model": MODEL, "max_tokens": 5, "messages": [{"role": "user", "content": "a"}]}
    for path, passed in (("/v1/messages", "2023-06-01"), (PATH, None)):
        worker.post(path, body, {"Anthropic-Version": "2023-06-01", "anthropic-beta": "b", "x-other": "1"})
        seen = upstream.requests[-1]
        assert seen.header("anthropic-version") == passed and seen.header("anthropic-beta") == (passed and "b")
        assert seen.header("x-other") is None


def test_attached_engine_that_is_away_is_not_registered(stack, upstream):
    upstream.stop()
    from support.processes import free_port

    port = free_port()
    argv = ["dynamo-worker", "--model", MODEL, "--port", str(port), "--engine", "openai", "--engine-url", upstream.url]
    worker = stack.server("worker", argv, stack.env(), port)
    frontend = stack.frontend(ready=False)
    eventually("the worker is up", lambda: worker.status("/live") or worker.status("/v1/models"))
    assert frontend.status("/ready") == 503
    upstream.start()
    frontend.wait_for("/ready", timeout=40)


def test_client_that_leaves_frees_its_place(stack):
    worker = stack.worker("--max-num-seqs", "1")
    body = json.dumps(chat(stream=True, max_completion_tokens=100_000, ignore_eos=True)).encode()
    with Connection(worker.port) as connection:
        connection.send(post(PATH, body))
        connection.until(b"data:")
    assert worker.post(PATH, chat())[0] == 200, "the only place is free again"
