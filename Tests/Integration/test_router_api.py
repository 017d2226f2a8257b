"""What people can ask of routing: state, dry runs, the queue, sessions, and nvext."""

import json
import threading

from support.processes import MODEL, chat, eventually, events
from support.raw import Connection, post
from support.upstream import normal

PATH = "/v1/chat/completions"
STATE = "/v1/router/state"
EXPLAIN = "/v1/router/explain"


def two_workers(stack, *more, receiver=None, env=None):
    workers = [stack.upstream(), stack.upstream()]
    args = [arg for worker in workers for arg in ("--worker", worker.url)]
    frontend = stack.frontend(*args, *more, receiver=receiver, env=env)
    eventually("both are ready", lambda: frontend.get("/health")[2].count(b'"state":"ready"') == 2)
    return frontend, workers


def state(frontend) -> dict:
    status, headers, answer = frontend.get(STATE)
    assert status == 200 and headers["content-type"] == "application/json"
    (model,) = json.loads(answer)["models"]
    assert model["model"] == MODEL
    return model


def explain(frontend, body, headers=None) -> dict:
    status, _, answer = frontend.post(EXPLAIN, body, headers)
    assert status == 200, answer
    return json.loads(answer)


class Gate:
    """Workers hold their answers until let go, one permit for each."""

    def __init__(self, workers):
        self.permits = threading.Semaphore(0)
        self.order: list[str] = []
        for worker in workers:
            worker.behaviour = self.behave

    def behave(self, peer, seen):
        self.order.append(seen.json()["messages"][0]["content"][:8].strip())
        assert self.permits.acquire(timeout=30)
        normal(peer, seen)


class Callers:
    """Requests on threads of their own, and their answers."""

    def __init__(self, frontend):
        self.frontend = frontend
        self.threads: list[threading.Thread] = []
        self.answers: dict[str, tuple] = {}

    def send(self, name: str, headers=None, **more):
        def run():
            self.answers[name] = self.frontend.post(PATH, chat(f"{name:8}" + "words " * 300, **more), headers)

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()

    def join(self):
        for thread in self.threads:
            thread.join(30)


def waiting(frontend) -> int:
    return state(frontend)["queue"]["waiting"]


def test_explain_is_what_the_next_request_gets(stack):
    frontend, _ = two_workers(stack)
    for group in range(6):
        body = chat(f"group {group} " + "shared words of the prompt " * 60)
        worker = int(frontend.post(PATH, body)[1]["x-dynamo-worker-id"])
        before = state(frontend)
        found = explain(frontend, body)
        assert found["decision"]["outcome"] == "chosen" and found["decision"]["worker_id"] == worker
        assert found["candidates"][0]["overlap_blocks"] == found["prompt"]["blocks"] > 10
        assert [c["likelihood"] for c in found["candidates"]] == [1, 0]
        assert state(frontend) == before, "a dry run leaves nothing behind"
        assert int(frontend.post(PATH, body)[1]["x-dynamo-worker-id"]) == worker


def test_state_counts_what_is_in_flight(stack):
    frontend, workers = two_workers(stack)
    gate = Gate(workers)
    callers = Callers(frontend)
    callers.send("a")
    eventually("it is there", lambda: gate.order == ["a"])
    model = state(frontend)
    assert sorted(w["active_requests"] for w in model["workers"]) == [0, 1]
    assert sum(w["active_prefill_tokens"] for w in model["workers"]) > 400
    assert {w["url"] for w in model["workers"]} == {w.url for w in workers}
    assert all(w["cache"]["source"] == "predicted" and w["refusal"] is None for w in model["workers"])
    gate.permits.release()
    callers.join()
    assert [w["active_requests"] for w in state(frontend)["workers"]] == [0, 0]


def test_two_frontends_weigh_each_others_load(stack, tmp_path):
    workers = [stack.upstream(), stack.upstream()]
    addresses = [f"ipc://{tmp_path}/{name}" for name in "ab"]
    peers = ",".join(addresses)
    args = [arg for worker in workers for arg in ("--worker", worker.url)]
    args += ["--router-replica-sync", "--router-replica-sync-peers", peers, "--router-replica-sync-address"]
    env = {"DYN_ROUTER_REPLICA_SYNC_LEASE_SECS": "1"}
    a, b = (stack.frontend(*args, address, env=env) for address in addresses)
    for frontend in (a, b):
        eventually("both are ready", lambda: frontend.get("/health")[2].count(b'"state":"ready"') == 2)
    gate = Gate(workers)
    callers = Callers(a)
    callers.send("a")
    eventually("it is there", lambda: gate.order == ["a"])
    busy = next(w["worker_id"] for w in state(a)["workers"] if w["active_requests"])

    def load(frontend):
        return next(w for w in state(frontend)["workers"] if w["worker_id"] == busy)

    eventually("the other heard of it", lambda: load(b)["peers"]["active_requests"] == 1)
    own = load(a)
    assert load(b)["peers"] == {key: own[key] for key in load(b)["peers"]}
    assert load(b)["active_requests"] == 0 and own["peers"]["active_requests"] == 0
    for index in range(6):
        found = explain(b, chat(f"{index} other " + "words " * 100))
        assert found["decision"]["worker_id"] != busy, "the load of the other frontend is weighed"
    gate.permits.release()
    callers.join()
    eventually("and of its end", lambda: load(b)["peers"]["active_requests"] == 0)
    with Connection(a.port) as caller:
        caller.send(post(PATH, json.dumps(chat("again")).encode()))
        eventually("heard again", lambda: sum(w["peers"]["active_requests"] for w in state(b)["workers"]) == 1)
        a.kill()
        eventually(
            "the load of one that was killed goes with its lease",
            lambda: all(w["peers"]["active_requests"] == 0 for w in state(b)["workers"]),
        )
    gate.permits.release()
    gone = f'dynamo_frontend_peer_up{{peer="{addresses[0]}"}} 0'
    eventually("metrics tell of it", lambda: gone in b.get("/metrics")[2].decode())


def test_long_prompts_are_explained(stack):
    frontend, _ = two_workers(stack)
    text = "a long prompt of many words " * 40_000
    found = explain(frontend, {"model": MODEL, "prompt": text})
    assert found["prompt"]["blocks"] == len(text) // 64 and found["prompt"]["source"] == "bytes"
    assert frontend.post(EXPLAIN, {"model": MODEL, "prompt": "x" * (5 << 20)})[0] == 413


def test_the_operator_can_hide_both(stack):
    frontend, _ = two_workers(stack, env={"DYN_DISABLE_FRONTEND_ADMIN_API": "1"})
    assert frontend.get(STATE)[0] == 404
    assert frontend.post(EXPLAIN, chat())[0] == 404
    assert frontend.post(PATH, chat())[0] == 200


def test_requests_queue_and_leave_by_priority(stack, receiver):
    frontend, workers = two_workers(stack, "--router-queue-threshold", "0.01", receiver=receiver)
    gate = Gate(workers)
    callers = Callers(frontend)
    for name in ("fill-1", "fill-2"):
        callers.send(name)
    eventually("both workers are full", lambda: len(gate.order) == 2)
    for count, (name, priority) in enumerate([("low", "-500"), ("plain", "0"), ("high", "500")], 1):
        headers = {"x-dynamo-request-priority": priority, "x-request-id": f"queue-{name}"}
        callers.send(name, headers)
        eventually(f"{name} waits", lambda count=count: waiting(frontend) == count)
    assert b"dynamo_frontend_router_queue_pending_requests{" in frontend.get("/metrics")[2]
    for served in range(1, 4):
        gate.permits.release()
        eventually("the next one goes", lambda served=served: len(gate.order) == 2 + served)
    assert gate.order[2:] == ["high", "plain", "low"]
    for _ in range(2):
        gate.permits.release()
    callers.join()
    assert [callers.answers[name][0] for name in ("high", "plain", "low")] == [200] * 3
    assert "queue;dur=" in callers.answers["low"][1]["server-timing"]
    assert "queue;dur=" not in callers.answers["fill-1"][1]["server-timing"]
    trace = receiver.trace("queue-low", "kv_router.schedule")
    schedule = trace.one("kv_router.schedule")
    select = trace.one("kv_router.select_worker")
    assert schedule.parent == select.span_id and select.attributes["router.queued_ms"] > 0
    queue = state(frontend)["queue"]
    assert (queue["queued_total"], queue["released_total"], queue["waiting"]) == (3, 3, 0)


def test_a_caller_that_leaves_the_queue_is_forgotten(stack, receiver):
    frontend, workers = two_workers(stack, "--router-queue-threshold", "0.01", receiver=receiver)
    gate = Gate(workers)
    callers = Callers(frontend)
    for name in ("fill-1", "fill-2"):
        callers.send(name)
    eventually("both workers are full", lambda: len(gate.order) == 2)
    body = json.dumps(chat("leaves  " + "words " * 300)).encode()
    with Connection(frontend.port) as connection:
        connection.send(post(PATH, body, "x-request-id: left-the-queue"))
        eventually("it waits", lambda: waiting(frontend) == 1)
    eventually("it is gone", lambda: waiting(frontend) == 0)
    trace = receiver.trace("left-the-queue", "kv_router.schedule", "http-request")
    assert trace.one("http-request").attributes["request.outcome"] == "cancelled"
    assert "worker_id" not in trace.one("kv_router.select_worker").attributes
    callers.send("stays")
    eventually("another one waits", lambda: waiting(frontend) == 1)
    for _ in range(3):
        gate.permits.release()
    callers.join()
    assert gate.order[2:] == ["stays"] and callers.answers["stays"][0] == 200


def test_full_queue_and_waiting_time_are_529(stack):
    frontend, workers = two_workers(
        stack,
        "--router-queue-threshold=0.01",
        env={"DYN_ROUTER_QUEUE_REQUESTS_PER_WORKER": "1", "DYN_ROUTER_QUEUE_TIMEOUT_SECS": "2"},
    )
    gate = Gate(workers)
    callers = Callers(frontend)
    for name in ("fill-1", "fill-2"):
        callers.send(name)
    eventually("both workers are full", lambda: len(gate.order) == 2)
    for count, name in enumerate(("wait-1", "wait-2"), 1):
        callers.send(name)
        eventually("it waits", lambda count=count: waiting(frontend) == count)
    status, headers, answer = frontend.post(PATH, chat("one too many " * 100))
    assert status == 529 and headers["retry-after"] == "1" and b"overloaded" in answer
    eventually("both gave up", lambda: {"wait-1", "wait-2"} <= set(callers.answers))
    assert callers.answers["wait-1"][0] == callers.answers["wait-2"][0] == 529
    metrics = frontend.get("/metrics")[2].decode()
    for reason, count in (("queue_full", 1), ("timeout", 2)):
        (line,) = [x for x in metrics.splitlines() if "router_queue_backpressure_total{" in x and f'"{reason}"' in x]
        assert line.endswith(f" {count}")
    for _ in range(2):
        gate.permits.release()
    callers.join()


def test_sessions_stay_and_hard_ones_say_when_they_cannot(stack):
    for mode in ("soft", "hard"):
        frontend, workers = two_workers(stack, "--router-session-affinity-mode", mode)
        session = {"x-dynamo-session-id": "conversation"}
        chosen = {
            frontend.post(PATH, chat(f"turn {index} " * 100), session)[1]["x-dynamo-worker-id"] for index in range(6)
        }
        assert len(chosen) == 1 and state(frontend)["sessions"] == 1
        (worker,) = [w for w in state(frontend)["workers"] if str(w["worker_id"]) in chosen]
        next(w for w in workers if w.url == worker["url"]).stop()
        statuses = [frontend.post(PATH, chat(f"later {index}"), session)[0] for index in range(3)]
        if mode == "soft":
            assert statuses == [200] * 3
        else:
            assert statuses[0] in (502, 503) and statuses[-1] == 200


def test_nvext_names_workers_and_weights(stack):
    frontend, _ = two_workers(stack)
    ids = [w["worker_id"] for w in state(frontend)["workers"]]
    for worker in ids + ids:
        status, headers, _ = frontend.post(PATH, chat(nvext={"backend_instance_id": worker}))
        assert status == 200 and headers["x-dynamo-worker-id"] == str(worker)
    status, _, answer = frontend.post(PATH, chat(nvext={"backend_instance_id": 12345}))
    assert status == 503 and b"12345" in answer
    status, _, answer = frontend.post(PATH, chat(nvext={"router_config_override": {"speed": 1}}))
    assert status == 400 and json.loads(answer)["error"]["param"] == "nvext.router_config_override.speed"
    body = chat("a prompt of some length " * 60)
    frontend.post(PATH, body)
    warm = explain(frontend, body)
    assert warm["decision"]["outcome"] == "chosen"
    body["nvext"] = {"router_config_override": {"overlap_score_credit": 0}}
    assert explain(frontend, body)["decision"]["outcome"] == "drawn", "without credit both are equal"


def test_answers_tell_of_their_routing_when_asked(stack, upstream):
    frontend = stack.frontend("--worker", upstream.url)
    prompt = "a prompt of several blocks " * 10
    plain = frontend.post(PATH, chat(prompt))[2]
    nvext = {"extra_fields": ["worker_id", "timing"], "annotations": ["request_id", "worker_instance_id"]}
    status, headers, answer = frontend.post(PATH, chat(prompt, nvext=nvext))
    found = json.loads(answer)
    told = found.pop("nvext")
    assert status == 200 and found == json.loads(plain) and int(headers["content-length"]) == len(answer)
    assert told["worker_id"]["decode_worker_id"] == int(headers["x-dynamo-worker-id"])
    assert told["timing"]["total_time_ms"] > 0 and "kv_hit_rate" in told["timing"]
    name = "00000000-1111-4111-8111-111111111111"
    status, headers, answer = frontend.post(PATH, chat(prompt, stream=True, nvext=nvext), {"request-id": name})
    assert answer.startswith(f'event: request_id\n: "{name}"\n\nevent: worker_instance_id\n: "'.encode())
    payloads = events(answer)
    assert payloads[-1] == "[DONE]" and payloads.count("[DONE]") == 1
    last = json.loads(payloads[-2])
    assert last["choices"] == [] and last["nvext"]["timing"]["ttft_ms"] > 0
    assert last["nvext"]["worker_id"]["prefill_worker_id"] == int(headers["x-dynamo-worker-id"])
