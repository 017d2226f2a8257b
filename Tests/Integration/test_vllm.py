"""A real vLLM on the CPU as a static worker. Runs with `Scripts/test.sh vllm`, which installs it and sets DYNAMO_VLLM."""

import json
import os
import random

import pytest
from support import tiny_model
from support.processes import Server, chat, eventually, events, free_port

VLLM = os.environ.get("DYNAMO_VLLM")
pytestmark = [
    pytest.mark.skipif(not VLLM, reason="DYNAMO_VLLM names no vllm program: Scripts/test.sh vllm installs one"),
    pytest.mark.timeout(300),
]
PATH = "/v1/chat/completions"
MODEL = "tiny"
BLOCK = 32  # the smallest that vLLM's CPU attention takes
BLOCKS = 300  # few, so that a test can make it evict


@pytest.fixture(scope="module")
def engine(shared_stack, receiver):
    folder = shared_stack.folder / "model"
    tiny_model.write(folder)
    port = free_port()
    # One thread: its spin barriers are slow where cores are busy.
    env = shared_stack.env(
        {
            "HF_HUB_OFFLINE": 1,
            "TRANSFORMERS_OFFLINE": 1,
            "VLLM_NO_USAGE_STATS": 1,
            "DO_NOT_TRACK": 1,
            "VLLM_CPU_KVCACHE_SPACE": 1,
            "OMP_NUM_THREADS": 1,
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OTEL_SERVICE_NAME": "vllm",
            # For /reset_prefix_cache.
            "VLLM_SERVER_DEV_MODE": 1,
        }
    )
    argv = [VLLM, "serve", str(folder), "--served-model-name", MODEL, "--load-format", "dummy", "--max-model-len", "4096"]
    argv += ["--enforce-eager", "--block-size", str(BLOCK), "--enable-prefix-caching", "--num-gpu-blocks-override", str(BLOCKS)]
    argv += ["--max-num-seqs", "8", "--host", "127.0.0.1", "--port", str(port), "--enable-request-id-headers"]
    argv += ["--enable-prompt-tokens-details", "--otlp-traces-endpoint", receiver.endpoint]
    publisher = {"endpoint": f"tcp://*:{free_port()}", "replay_endpoint": f"tcp://*:{free_port()}"}
    argv += ["--kv-events-config", json.dumps({"enable_kv_cache_events": True, "publisher": "zmq", **publisher})]
    server = Server(argv, env, shared_stack.folder / "vllm.log", port)
    shared_stack.started.append(server)
    server.wait_for("/health", timeout=240)
    yield server
    # It has processes of its own, which only an orderly end takes along.
    server.stop(timeout=60)


@pytest.fixture(scope="module")
def receiver(shared_stack):
    receiver = shared_stack.receiver()
    receiver.foreign.add("vllm")
    return receiver


@pytest.fixture(scope="module")
def following(shared_stack, engine):
    """A frontend that makes the engine's tokens and follows its events."""
    frontend = shared_stack.frontend("--worker", engine.url, "--model-path", shared_stack.folder / "model")
    eventually("it listens", lambda: "listening to the engine's cache events" in frontend.text(), timeout=30)
    return frontend


@pytest.fixture(scope="module")
def frontend(shared_stack, engine, receiver):
    return shared_stack.frontend("--worker", engine.url, receiver=receiver)


def ask(prompt: str, **more) -> dict:
    return chat(prompt, model=MODEL, max_completion_tokens=8, ignore_eos=True, **more)


def test_its_model_and_block_size_are_learnt(frontend):
    assert json.loads(frontend.get("/v1/models")[2])["data"][0]["id"] == MODEL
    instance = json.loads(frontend.get("/health")[2])["instances"][0]
    assert instance["state"] == "ready" and instance["models"] == [MODEL]
    assert instance["block_size"] == BLOCK and instance["total_blocks"] == BLOCKS


def test_an_answer_and_its_usage(frontend):
    status, fields, answer = frontend.post(PATH, ask("Hello"), {"x-request-id": "vllm-unary"})
    assert status == 200 and fields["x-request-id"] == "vllm-unary"
    answer = json.loads(answer)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 8


def test_a_stream_and_its_trace(frontend, receiver):
    status, _, answer = frontend.post(PATH, ask("Hello", stream=True), {"x-request-id": "vllm-stream"})
    assert status == 200 and events(answer)[-1] == "[DONE]"
    assert b'"usage"' not in answer, "the caller did not ask for it"
    trace = receiver.trace("vllm-stream", "kv_router.route_request")
    attributes = trace.one("http-request").attributes
    assert attributes["output_tokens"] == 8 and attributes["tokens.source"] == "usage"
    assert attributes["request.outcome"] == "success"

    def engine_span():
        mine = trace.one("http-request").trace_id
        return [span for span in receiver.spans if span.name == "llm_request" and span.trace_id == mine]

    span = eventually("vLLM's span is in the same trace", engine_span, timeout=30)[0]
    assert span.attributes["gen_ai.usage.completion_tokens"] == 8


def test_a_prompt_that_comes_again_is_found_in_its_cache(frontend):
    prompt = "a prompt of several blocks, " * 10
    first = json.loads(frontend.post(PATH, ask(prompt))[2])["usage"]
    again = json.loads(frontend.post(PATH, ask(prompt))[2])["usage"]
    assert (first.get("prompt_tokens_details") or {}).get("cached_tokens", 0) == 0
    cached = again["prompt_tokens_details"]["cached_tokens"]
    assert cached % BLOCK == 0 and again["prompt_tokens"] - cached <= 2 * BLOCK
    name = "dynamo_component_router_kv_hit_rate_count"
    eventually("the router expected it", lambda: frontend.metrics().sum(name) >= 2)


def test_too_long_a_prompt_is_its_own_400(frontend):
    status, _, answer = frontend.post(PATH, ask("x" * 5000))
    assert status == 400
    assert "maximum context length" in json.loads(answer)["error"]["message"]


def test_eight_streams_at_once_all_end(frontend):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: frontend.post(PATH, ask(f"number {n}", stream=True)), range(8)))
    assert all(status == 200 and events(body)[-1] == "[DONE]" for status, _, body in answers)


# The engine's events: what the router expects of its cache is what the engine then reports.


def expected_and_cached(frontend, prompt: str, **more) -> tuple[int, int]:
    """Cached tokens as the router expected them, and as the engine reports them; both of whole blocks."""
    name = "dynamo_component_router_kv_hit_rate_sum"
    before = frontend.metrics().sum(name)
    usage = json.loads(frontend.post(PATH, ask(prompt, **more))[2])["usage"]
    share = frontend.metrics().sum(name) - before
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    return round(share * (usage["prompt_tokens"] // BLOCK)) * BLOCK, cached


def told(frontend) -> float:
    return frontend.metrics().sum("dynamo_frontend_kv_event_batches_total")


def test_its_tokens_are_those_of_the_frontend(following):
    eventually("they were compared", lambda: '"tokens":"agrees"' in following.get("/health")[2].decode())


def test_expected_and_reported_overlap_are_equal(following):
    prompts = [f"prompt {number} " * 150 for number in range(24)]
    chance = random.Random(1)
    expected_and_cached(following, "the first batch " * 20)
    eventually("events came", lambda: told(following) > 0)
    hits = 0
    # Together they need four times the cache, so the engine evicts all the time.
    for step in range(48):
        prompt = chance.choice(prompts) + "x" * chance.randrange(300)
        batches = told(following)
        expected, cached = expected_and_cached(following, prompt)
        assert expected == cached, f"step {step}"
        hits += cached > 0
        eventually("its events came", lambda: told(following) > batches or cached > 0)
    assert 3 < hits < 45, "some are found and some are not"
    health = json.loads(following.get("/health")[2])["instances"][0]
    assert health["cache_source"] == "events"
    faults = "dynamo_frontend_kv_event_faults_total"
    assert following.metrics().sum(faults) == 0


def test_a_reset_of_its_cache_is_noticed(following, engine):
    prompt = "to be forgotten " * 60
    expected_and_cached(following, prompt)
    eventually("it is known", lambda: expected_and_cached(following, prompt)[0] > 0)
    assert engine.post("/reset_prefix_cache", b"")[0] == 200
    # vLLM tells of it with the next step only.
    batches = told(following)
    expected_and_cached(following, "something else " * 30)
    eventually("it is told", lambda: told(following) > batches)
    assert expected_and_cached(following, prompt) == (0, 0)


def test_salted_prompts_have_blocks_of_their_own(following):
    prompt = "salt and pepper " * 60
    for salt in ({}, {"cache_salt": "tenant-1"}, {"cache_salt": "tenant-2"}):
        assert expected_and_cached(following, prompt, **salt) == (0, 0), salt
        batches = told(following)
        eventually("it is told", lambda: told(following) >= batches)
        expected, cached = expected_and_cached(following, prompt, **salt)
        assert expected == cached > 0, salt


# The last one: it ends the engine of all others.
@pytest.mark.timeout(600)
def test_a_killed_engine_is_forgotten_and_learnt_again(following, engine, shared_stack):
    prompt = "before and after " * 60
    expected_and_cached(following, prompt)
    eventually("it is known", lambda: expected_and_cached(following, prompt)[0] > 0)
    heard = following.text().count("listening to the engine's cache events")
    engine.kill_all()
    eventually("its end is noticed", lambda: following.status("/ready") == 503, timeout=60)
    assert told(following) == 0, "its feed went with it"
    again = Server(engine.argv, engine.env, shared_stack.folder / "vllm-again.log", engine.port)
    shared_stack.started.append(again)
    try:
        again.wait_for("/health", timeout=400)
        followed = lambda: following.text().count("listening to the engine's cache events") > heard
        eventually("it is followed again", followed, timeout=60)
        assert expected_and_cached(following, prompt) == (0, 0)
        eventually("its events came", lambda: told(following) > 0)
        expected, cached = expected_and_cached(following, prompt)
        assert expected == cached > 0
    finally:
        again.stop(timeout=60)
