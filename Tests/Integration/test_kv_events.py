"""The frontend follows the cache events of two simulated workers: what it expects of their caches is what they report."""

import ctypes
import json
import random

import pytest
from support import tiny_model
from support.processes import MODEL, chat, eventually

PATH = "/v1/chat/completions"
BLOCK = 16


@pytest.fixture(autouse=True)
def libzmq():
    try:
        ctypes.CDLL("libzmq.so.5")
    except OSError:
        pytest.skip("libzmq.so.5 is not installed: Scripts/bootstrap.sh test does it")


@pytest.fixture
def fleet(stack):
    workers = [
        stack.worker("--speedup-ratio", "0", "--block-size", str(BLOCK), "--num-gpu-blocks-override", "120")
        for _ in range(2)
    ]
    frontend = stack.frontend()
    eventually("both are known", lambda: frontend.metrics().sum("dynamo_frontend_model_workers") == 2)
    eventually("both are listened to", lambda: frontend.text().count("listening to the engine's cache events") == 2)
    return frontend, workers


def ask(frontend, prompt: str) -> tuple[int, int, str]:
    """Cached tokens as expected and as reported, in whole blocks, and the worker."""
    name = "dynamo_component_router_kv_hit_rate_sum"
    before = frontend.metrics().sum(name)
    status, fields, body = frontend.post(PATH, chat(prompt, max_completion_tokens=4))
    assert status == 200, body
    share = frontend.metrics().sum(name) - before
    usage = json.loads(body)["usage"]
    # Without a tokenizer a token is four bytes of the prompt's JSON.
    blocks = len(json.dumps(chat(prompt)["messages"][0], separators=(",", ":"))) // (4 * BLOCK)
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return round(share * blocks) * BLOCK, cached, fields["x-dynamo-worker-id"]


def told(frontend) -> float:
    return frontend.metrics().sum("dynamo_frontend_kv_event_batches_total")


def sources(frontend) -> list[str]:
    return [instance["cache_source"] for instance in json.loads(frontend.get("/health")[2])["instances"]]


def test_expected_overlap_is_what_workers_report(fleet):
    frontend, workers = fleet
    chance = random.Random(3)

    def all_told() -> bool:
        return told(frontend) == sum(w.metrics().sum("dynamo_component_kv_event_batches_total") for w in workers)

    prompts = ["".join(chance.choices("abcdefgh ", k=1600)) for _ in range(12)]
    hits = 0
    # Twelve prompts of a hundred blocks in 240 blocks: most are evicted before they come again.
    for step in range(60):
        expected, cached, _ = ask(frontend, chance.choice(prompts) + "x" * chance.randrange(200))
        if step >= 4:
            assert expected == cached, f"step {step}"
        hits += cached > 0
        eventually("all events came", all_told)
    assert 2 < hits < 58
    assert "events" in sources(frontend)
    assert frontend.metrics().sum("dynamo_frontend_kv_event_faults_total") == 0
    assert frontend.metrics().sum("dynamo_frontend_kv_event_gaps_total") == 0


def test_a_killed_worker_is_forgotten(fleet):
    frontend, workers = fleet
    prompt = "to be lost " * 100
    _, _, first = ask(frontend, prompt)
    eventually("its cache is known", lambda: ask(frontend, prompt)[0] > 0)
    holder = next(worker for worker in workers if worker.metrics().sum("dynamo_component_requests_total") > 0)
    holder.kill()
    _, cached, second = ask(frontend, prompt)
    assert cached == 0 and second != first
    eventually("it is forgotten", lambda: frontend.metrics().sum("dynamo_frontend_model_workers") == 1)


def test_a_frontend_that_starts_later_learns_what_is_cached(fleet, stack):
    frontend, _ = fleet
    prompt = "known before " * 100
    _, _, holder = ask(frontend, prompt)
    later = stack.frontend()
    eventually("both are known", lambda: later.metrics().sum("dynamo_frontend_model_workers") == 2)
    eventually("the replay came", lambda: told(later) > 0)
    expected, cached, worker = ask(later, prompt)
    assert expected == cached > 0 and worker == holder


def test_following_can_be_turned_off(stack):
    stack.worker("--speedup-ratio", "0", "--block-size", str(BLOCK))
    frontend = stack.frontend("--no-router-kv-events")
    ask(frontend, "some words " * 50)
    expected, cached, _ = ask(frontend, "some words " * 50)
    assert expected == cached > 0 and sources(frontend) == ["predicted"]
    assert not frontend.metrics().has("dynamo_frontend_kv_event_batches_total")


def test_simulated_workers_of_the_frontend_tell_what_they_cache(stack):
    frontend = stack.frontend("--simulate", "2", "--model-name", MODEL)
    eventually("both are listened to", lambda: frontend.text().count("listening to the engine's cache events") == 2)
    prompt = "asked twice " * 100
    _, _, holder = ask(frontend, prompt)
    eventually("its cache is known by events", lambda: "events" in sources(frontend))
    expected, cached, worker = ask(frontend, prompt)
    assert expected == cached > 0 and worker == holder
    state = json.loads(frontend.get("/v1/router/state")[2])
    told = {w["worker_id"]: w["cache"] for model in state["models"] for w in model["workers"]}
    assert told[int(holder)]["source"] == "events" and told[int(holder)]["reason"] == "feed_live"


@pytest.fixture
def model(tmp_path):
    tiny_model.write(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.mark.parametrize("inside", [False, True])
def test_a_worker_with_the_models_files_tells_of_the_frontends_tokens(stack, model, inside):
    """A worker process, or one inside the frontend: both make the tokens that the frontend makes."""
    if inside:
        frontend = stack.frontend("--simulate", "1", "--model-name", MODEL, "--model-path", model)
    else:
        worker = stack.worker("--model-path", model, "--speedup-ratio", "0")
        assert "token_source" not in json.loads(worker.get("/kv_event_sources")[2])["0"]
        frontend = stack.frontend("--model-path", model)
    eventually("it is listened to", lambda: "listening to the engine's cache events" in frontend.text())
    bodies = [
        chat("to be or not to be, ünïcode " * 30, max_completion_tokens=1),
        chat("a system and a tool " * 20, max_completion_tokens=1)
        | {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
    ]
    for body in bodies:
        # Equal tokens in another spelling: only who counts tokens finds them again.
        again = {"stream": False} | {key: body[key] for key in reversed(body)}
        again["messages"] = [{"content": [{"type": "text", "text": body["messages"][0]["content"]}], "role": "user"}]
        first = json.loads(frontend.post(PATH, body)[2])["usage"]
        assert first["prompt_tokens"] > 200

        def explained() -> dict:
            return json.loads(frontend.post("/v1/router/explain", again)[2])

        def known() -> bool:
            # Until the feed is level with the engine, blocks are predicted.
            best = explained()["candidates"][0]
            return best["overlap_blocks"] > 0 and best["cache_source"] == "events"

        eventually("its blocks are known by events", known)
        found = explained()
        assert found["prompt"]["source"] == "tokens"
        assert found["prompt"]["tokens"] == first["prompt_tokens"]
        usage = json.loads(frontend.post(PATH, again)[2])["usage"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        assert cached == found["candidates"][0]["overlap_blocks"] * BLOCK > 0


def test_simulated_workers_without_a_listener_tell_nothing(stack):
    frontend = stack.frontend("--simulate", "1", "--model-name", MODEL, "--no-router-kv-events")
    ask(frontend, "some words " * 50)
    assert sources(frontend) == ["predicted"] and "publishing cache events" not in frontend.text()


def test_without_the_library_caches_are_predicted_and_one_line_says_why(stack, tmp_path):
    # A file of the library's name that is none, found before the system's.
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "libzmq.so.5").write_bytes(b"")
    frontend = stack.frontend("--simulate", "2", "--model-name", MODEL, env={"LD_LIBRARY_PATH": str(folder)})
    ask(frontend, "some words " * 50)
    assert sources(frontend) == ["predicted", "predicted"]
    assert sum("libzmq" in line for line in frontend.text().splitlines()) == 1


def state(frontend) -> dict[int, dict]:
    """What the router knows of each worker."""
    models = json.loads(frontend.get("/v1/router/state")[2])["models"]
    return {worker["worker_id"]: worker for model in models for worker in model["workers"]}


def explain(frontend, prompt: str) -> dict:
    return json.loads(frontend.post("/v1/router/explain", chat(prompt, max_completion_tokens=4))[2])


@pytest.mark.parametrize("events", [True, False])
def test_workers_of_several_block_sizes_are_each_found_by_their_own_blocks(stack, events):
    """One inside the frontend with blocks of 16, two beside it with 32 and 64, under one model."""
    for size in (32, 64):
        stack.worker("--speedup-ratio", "0", "--block-size", str(size))
    frontend = stack.frontend(
        "--simulate", "1", "--model-name", MODEL, *([] if events else ["--no-router-kv-events"])
    )
    eventually("all are known", lambda: frontend.metrics().sum("dynamo_frontend_model_workers") == 3)
    if events:
        heard = "listening to the engine's cache events"
        eventually("all are listened to", lambda: frontend.text().count(heard) == 3)
    workers = {worker["block_size"]: identity for identity, worker in state(frontend).items()}
    assert sorted(workers) == [16, 32, 64]
    prompts = {size: f"the prompt of {size} " * 100 for size in workers}
    for size, prompt in prompts.items():
        named = {"x-dynamo-worker-instance-id": str(workers[size])}
        assert frontend.post(PATH, chat(prompt, max_completion_tokens=4), named)[0] == 200
    for size, prompt in prompts.items():

        def candidates() -> dict[int, dict]:
            return {candidate["worker_id"]: candidate for candidate in explain(frontend, prompt)["candidates"]}

        eventually("its blocks are known", lambda: candidates()[workers[size]]["overlap_blocks"] > 0)
        found = candidates()
        answer = explain(frontend, prompt)
        assert answer["decision"]["worker_id"] == workers[size]
        assert [w for w, candidate in found.items() if candidate["overlap_blocks"] > 0] == [workers[size]]
        assert found[workers[size]]["cache_source"] == ("events" if events else "predicted")
        status, fields, body = frontend.post(PATH, chat(prompt, max_completion_tokens=4))
        assert status == 200 and int(fields["x-dynamo-worker-id"]) == workers[size]
        # Costs and decisions are told in the model's blocks, whatever the worker's.
        cached = json.loads(body)["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert cached % size == 0 and cached >= 320
        assert found[workers[size]]["overlap_blocks"] == cached // answer["prompt"]["block_size"]
    assert frontend.metrics().sum("dynamo_frontend_block_sizes_left_out") == 0
    assert frontend.metrics().sum("dynamo_frontend_kv_event_faults_total") == 0


def test_a_fifth_block_size_is_said_and_its_worker_predicted(stack):
    for size in (8, 32, 64, 128, 256):
        stack.worker("--speedup-ratio", "0", "--block-size", str(size))
    frontend = stack.frontend()
    eventually("all are known", lambda: frontend.metrics().sum("dynamo_frontend_model_workers") == 5)
    eventually("it is counted", lambda: frontend.metrics().sum("dynamo_frontend_block_sizes_left_out") == 1)
    assert sum("too many block sizes" in line for line in frontend.text().splitlines()) == 1
    health = {w["instance_id"]: w["block_size"] for w in json.loads(frontend.get("/health")[2])["instances"]}
    left = [w for w, known in state(frontend).items() if known["block_size"] != health[w]]
    assert len(left) == 1
    prompt = "to whom nobody listens " * 200
    named = {"x-dynamo-worker-instance-id": str(left[0])}
    assert frontend.post(PATH, chat(prompt, max_completion_tokens=4), named)[0] == 200
    eventually("its events are refused", lambda: state(frontend)[left[0]]["cache"]["reason"] == "block_size")
    # Until then its feed may have counted, which told nothing of the prompt.
    assert frontend.post(PATH, chat(prompt, max_completion_tokens=4), named)[0] == 200
    assert explain(frontend, prompt)["decision"]["worker_id"] == left[0]
    status, fields, _ = frontend.post(PATH, chat(prompt, max_completion_tokens=4))
    assert status == 200 and int(fields["x-dynamo-worker-id"]) == left[0]
