"""Where requests go: prefix affinity in KV mode, the plain modes, discovery by file, failover."""

import json
import signal
from collections import Counter

import pytest
from support.processes import MODEL, chat, eventually
from support.upstream import normal, usage

PATH = "/v1/chat/completions"


def worker_of(frontend, prompt: str, **more) -> str:
    status, headers, answer = frontend.post(PATH, chat(prompt, max_completion_tokens=1, **more))
    assert status == 200, answer
    return headers["x-dynamo-worker-id"]


def two_static(stack, mode: str, receiver=None):
    workers = [stack.upstream(), stack.upstream()]
    args = [arg for worker in workers for arg in ("--worker", worker.url)]
    frontend = stack.frontend("--router-mode", mode, *args, receiver=receiver)
    eventually("both known", lambda: frontend.get("/health")[2].count(b'"instance_id"') >= 2)
    return frontend, workers


def test_same_prefix_goes_to_the_same_worker_in_kv_mode(stack):
    frontend, workers = two_static(stack, "kv")
    for group in range(24):  # a tie is broken at random: so many that both workers are drawn
        prefix = f"group {group} " + "shared words of the prompt " * 60
        chosen = {worker_of(frontend, prefix + str(index)) for index in range(4)}
        assert len(chosen) == 1, "a cached prefix is worth more than an idle worker"
    assert all(worker.requests for worker in workers), "different prefixes use both workers"


def test_decision_counts_the_overlap(stack, receiver):
    frontend, _ = two_static(stack, "kv", receiver)
    prompt = "the same long prompt again and again " * 50
    for index in range(2):
        assert frontend.post(PATH, chat(prompt), {"x-request-id": f"overlap{index}"})[0] == 200
    cold = receiver.trace("overlap0", "kv_router.select_worker").one("kv_router.select_worker").attributes
    warm = receiver.trace("overlap1", "kv_router.select_worker").one("kv_router.select_worker").attributes
    assert cold["overlap_blocks"] == 0 and warm["overlap_blocks"] > 10
    assert cold["worker_id"] == warm["worker_id"]
    chosen = warm["router.candidates.worker_id"].index(warm["worker_id"])
    assert warm["router.candidates.overlap_blocks"][chosen] == warm["overlap_blocks"]
    assert warm["router.candidates.cost"][chosen] == min(warm["router.candidates.cost"])
    assert all(type(cost) is float for cost in warm["router.candidates.cost"])


def test_round_robin_alternates(stack):
    frontend, workers = two_static(stack, "round-robin")
    for _ in range(10):
        worker_of(frontend, "x")
    assert [len(worker.requests) for worker in workers] == [5, 5]


@pytest.mark.parametrize("mode", ["random", "power-of-two", "least-loaded"])
def test_other_modes_use_both_workers(stack, mode):
    frontend, _ = two_static(stack, mode)
    assert len(Counter(worker_of(frontend, "x") for _ in range(40))) == 2


def test_burst_of_equal_prompts_does_not_pile_up(stack):
    """Load that the router itself has just booked counts at once."""
    import threading

    frontend, workers = two_static(stack, "least-loaded")
    release = threading.Event()
    for worker in workers:
        worker.behaviour = lambda peer, seen: (release.wait(20), normal(peer, seen))
    threads = [threading.Thread(target=worker_of, args=(frontend, "x")) for _ in range(8)]
    for thread in threads:
        thread.start()
    eventually("all are at the workers", lambda: sum(len(worker.requests) for worker in workers) == 8)
    assert [len(worker.requests) for worker in workers] == [4, 4]
    release.set()
    for thread in threads:
        thread.join()


def test_unknown_mode_is_an_error_that_lists_the_modes(stack):
    from support.processes import free_port

    port = free_port()
    frontend = stack.server("bad", ["dynamo-frontend", f"--http-port={port}", "--router-mode", "fastest"], stack.env(), port)
    assert frontend.wait() != 0
    assert "round-robin" in frontend.text()
    frontend.child.returncode = 0


def test_workers_register_by_themselves_and_leave(stack):
    frontend = stack.frontend(ready=False)
    assert frontend.status("/ready") == 503
    worker = stack.worker()
    frontend.wait_for("/ready")
    assert worker_of(frontend, "x")
    assert [m["id"] for m in json.loads(frontend.get("/v1/models")[2])["data"]] == [MODEL]
    assert worker.stop() == 0
    frontend.wait_for("/ready", 503)


def test_two_models_are_kept_apart(stack):
    stack.worker(model="model-a")
    stack.worker(model="model-b")
    frontend = stack.frontend()
    eventually("both models", lambda: len(json.loads(frontend.get("/v1/models")[2])["data"]) == 2)
    for model in ("model-a", "model-b"):
        status, _, answer = frontend.post(PATH, chat(model=model))
        assert status == 200 and json.loads(answer)["model"] == model
    assert frontend.post(PATH, chat(model="model-c"))[0] == 404


def test_killed_worker_is_survived(stack):
    workers = [stack.worker(), stack.worker()]
    frontend = stack.frontend()
    eventually("both known", lambda: frontend.get("/health")[2].count(b'"instance_id"') >= 2)
    workers[0].signal(signal.SIGKILL)
    workers[0].wait()
    for index in range(10):
        assert frontend.post(PATH, chat(f"prompt {index}"))[0] == 200
    eventually(
        "the record of the dead worker is dropped", lambda: frontend.get("/health")[2].count(b'"instance_id"') == 1, 40, 0.2
    )


def test_model_stays_known_as_unavailable_when_its_last_worker_left(stack):
    worker = stack.worker()
    frontend = stack.frontend()
    assert worker.stop() == 0
    frontend.wait_for("/ready", 503)
    status, headers, answer = frontend.post(PATH, chat())
    assert status == 503 and json.loads(answer)["error"]["code"] == "no_workers"
    assert int(headers["retry-after"]) >= 1


def test_static_worker_that_comes_back_is_used_again(stack, upstream):
    frontend = stack.frontend("--worker", upstream.url)
    upstream.stop()
    assert frontend.post(PATH, chat())[0] in (502, 503)
    upstream.start()
    eventually("served again", lambda: frontend.post(PATH, chat())[0] == 200, timeout=45, every=0.2)


def test_cached_tokens_of_the_simulated_engine_show_reuse(stack):
    frontend = stack.frontend("--simulate", "2", "--model-name", MODEL)
    prompt = "tell me about prefix caches " * 60
    cached = []
    for _ in range(2):
        status, _, answer = frontend.post(PATH, chat(prompt))
        assert status == 200
        cached.append(json.loads(answer)["usage"]["prompt_tokens_details"]["cached_tokens"])
    assert cached[0] == 0 and cached[1] > 0 and cached[1] % 16 == 0


def test_direct_openai_worker_in_front_of_an_engine(stack, upstream, receiver):
    """dynamo-worker --engine openai: handle_payload around any OpenAI-compatible server."""
    stack.worker("--engine", "openai", "--engine-url", upstream.url, receiver=receiver)
    frontend = stack.frontend(receiver=receiver)
    for stream in (False, True):
        name = f"attached-{stream}"
        status, _, answer = frontend.post(PATH, chat(stream=stream), {"x-request-id": name})
        assert status == 200 and b"t3" in answer
        trace = receiver.trace(name, "handle_payload", "engine.generate")
        assert trace.one("handle_payload").parent == trace.one("kv_router.route_request").span_id
        generate = trace.one("engine.generate")
        assert upstream.requests[-1].header("traceparent")[:-2] == f"00-{generate.trace_id}-{generate.span_id}-"


def test_cancel_reaches_the_simulated_engine(stack, receiver):
    from support.raw import Connection, post

    worker = stack.worker(receiver=receiver)
    frontend = stack.frontend(receiver=receiver)
    body = json.dumps(chat(stream=True, max_completion_tokens=5000, ignore_eos=True)).encode()
    with Connection(frontend.port) as connection:
        connection.send(post(PATH, body, "x-request-id: cancel-sim"))
        connection.until(b"data:")
    trace = receiver.trace("cancel-sim", "handle_payload", "engine.generate")
    assert trace.one("engine.generate").attributes["cancelled"] is True
    assert trace.one("handle_payload").status != "ERROR"
    eventually("the worker logs it", lambda: any("cancel" in r["message"] for r in worker.records()))


def test_reported_usage_of_several_choices_is_kept(stack, upstream):
    answer = {"choices": [], "usage": usage(10, 20, 0)}
    upstream.behaviour = lambda peer, seen: peer.answer(200, answer)
    frontend = stack.frontend("--worker", upstream.url)
    assert json.loads(frontend.post(PATH, chat(n=2))[2]) == answer
