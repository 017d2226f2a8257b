"""The main job end to end: the documented lines, curl, and one trace at a real OTLP receiver."""

import json
import re
import subprocess
import uuid

import pytest
from support.otlp import Trace
from support.processes import MODEL, ROOT, Server, chat, eventually, events, free_port, streamed_text

SERVICES = {
    "POST /v1/chat/completions": "dynamo-frontend",
    "http-request": "dynamo-frontend",
    "kv_router.select_worker": "dynamo-frontend",
    "kv_router.route_request": "dynamo-frontend",
    "handle_payload": "dynamo-worker-vllm",
    "engine.generate": "dynamo-worker-vllm",
}
KINDS = {
    "POST /v1/chat/completions": "SERVER",
    "http-request": "INTERNAL",
    "kv_router.select_worker": "INTERNAL",
    "kv_router.route_request": "CLIENT",
    "handle_payload": "SERVER",
    "engine.generate": "INTERNAL",
}
PARENTS = {
    "http-request": "POST /v1/chat/completions",
    "kv_router.select_worker": "http-request",
    "kv_router.route_request": "http-request",
    "handle_payload": "kv_router.route_request",
    "engine.generate": "handle_payload",
}


@pytest.fixture
def seed(stack, receiver):
    """The three processes as the walk-through types them, by bash, with the ports of this test; returns the frontend."""
    port = free_port()
    runtime = stack.folder / "run"
    runtime.mkdir(mode=0o700)
    env = {"PATH": stack.base["PATH"], "HOME": str(stack.folder), "XDG_RUNTIME_DIR": str(runtime)}
    exports = (
        "export DYN_LOGGING_JSONL=true OTEL_EXPORT_ENABLED=true "
        f"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://localhost:{receiver.port}\n"
    )
    frontend_line = f"OTEL_SERVICE_NAME=dynamo-frontend exec dynamo-frontend --router-mode kv --http-port={port}"
    worker_line = f"OTEL_SERVICE_NAME=dynamo-worker-vllm exec dynamo-worker --model {MODEL} --enforce-eager"
    frontend = Server(["bash", "-c", exports + frontend_line], env, stack.folder / "frontend.log", port)
    workers = [
        Server(["bash", "-c", exports + worker_line], env, stack.folder / f"worker{index}.log", 0) for index in range(2)
    ]
    stack.started += [frontend, *workers]
    frontend.wait_for("/ready")
    eventually("both workers are known", lambda: frontend.get("/health")[2].count(b'"instance_id"') == 2)
    frontend.workers = workers
    return frontend


def curl(port: int, body: dict, request_id: str) -> tuple[int, dict[str, str], bytes]:
    command = [
        "curl", "-sS", "-N", "-D", "-", "-H", "Content-Type: application/json", "-H", f"x-request-id: {request_id}",
        "-d", json.dumps(body), f"http://localhost:{port}/v1/chat/completions",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    head, _, answer = done.stdout.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return int(lines[0].split()[1]), headers, answer


def assert_tree(trace: Trace, request_id: str) -> None:
    for name, kind in KINDS.items():
        span = trace.one(name)
        assert span.kind == kind, name
        assert span.service == SERVICES[name], name
        assert 0 < span.start <= span.end, name
        assert span.status != "ERROR", name
    root = trace.root()
    assert root.name == "POST /v1/chat/completions" and root.parent == ""
    for child, parent in PARENTS.items():
        assert trace.one(child).parent == trace.one(parent).span_id, child
    for child, parent in PARENTS.items():
        inner, outer = trace.one(child), trace.one(parent)
        if inner.service == outer.service:
            assert outer.start <= inner.start and inner.end <= outer.end, f"{child} is not inside {parent}"
    for name in ("POST /v1/chat/completions", "http-request", "handle_payload"):
        assert trace.one(name).attributes["x_request_id"] == request_id, name
    assert len({span.span_id for span in trace.spans}) == len(trace.spans)


def assert_attributes(trace: Trace, prompt_tokens: int, completion_tokens: int, streamed: bool) -> None:
    root, inner = trace.root().attributes, trace.one("http-request").attributes
    for attributes in (root, inner):
        assert attributes["model"] == MODEL
        assert uuid.UUID(attributes["request_id"]).version == 4
    assert root["http.request.method"] == "POST"
    assert root["http.route"] == "/v1/chat/completions"
    assert root["http.response.status_code"] == 200 and type(root["http.response.status_code"]) is int
    assert inner["method"] == "POST" and inner["uri"] == "/v1/chat/completions"
    assert inner["request.outcome"] == "success"
    assert inner["tokens.source"] == "usage"
    assert inner["input_tokens"] == prompt_tokens and inner["output_tokens"] == completion_tokens
    for key in ("input_tokens", "output_tokens", "decode_worker_id"):
        assert type(inner[key]) is int, key
    if streamed:
        for key in ("ttft_ms", "avg_itl_ms", "max_itl_ms"):
            assert type(inner[key]) is float and inner[key] > 0, key
    decision = trace.one("kv_router.select_worker").attributes
    assert decision["router.mode"] == "kv"
    for key in ("isl_tokens", "block_size", "num_blocks"):
        assert type(decision[key]) is int, key
    candidates = {key: value for key, value in decision.items() if key.startswith("router.candidates.")}
    assert {len(value) for value in candidates.values()} == {2}, candidates
    assert decision["worker_id"] in decision["router.candidates.worker_id"]
    assert all(0 < worker <= 2**53 for worker in decision["router.candidates.worker_id"])
    assert inner["decode_worker_id"] == decision["worker_id"]
    routed = trace.one("kv_router.route_request").attributes
    assert routed["worker_id"] == decision["worker_id"]
    assert routed["phase"] == "Aggregated"
    assert trace.one("handle_payload").attributes["component"] == "backend"


def test_curl_gets_an_answer_and_one_trace_tells_its_way(seed, receiver):
    body = chat(max_completion_tokens=20)
    status, headers, answer = curl(seed.port, body, "test-trace-001")
    assert status == 200
    assert headers["x-request-id"] == "test-trace-001"
    completion = json.loads(answer)
    assert completion["object"] == "chat.completion" and completion["model"] == MODEL
    assert completion["choices"][0]["message"]["content"]
    assert completion["choices"][0]["finish_reason"] in ("stop", "length")
    usage = completion["usage"]
    assert 1 <= usage["completion_tokens"] <= 20
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    trace = receiver.trace("test-trace-001", *KINDS)
    assert_tree(trace, "test-trace-001")
    assert_attributes(trace, usage["prompt_tokens"], usage["completion_tokens"], streamed=False)
    inner = trace.one("http-request")
    assert headers["traceresponse"] == f"00-{inner.trace_id}-{trace.root().span_id}-{headers['traceresponse'][-2:]}"


def test_curl_streams_and_the_trace_counts_its_tokens(seed, receiver):
    body = chat(stream=True, max_completion_tokens=20, stream_options={"include_usage": True})
    status, headers, answer = curl(seed.port, body, "test-trace-002")
    assert status == 200
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["x-accel-buffering"] == "no"
    payloads = events(answer)
    assert payloads[-1] == "[DONE]"
    chunks = [json.loads(payload) for payload in payloads[:-1]]
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)
    assert streamed_text(answer)
    usage = chunks[-1]["usage"]
    assert chunks[-1]["choices"] == []
    trace = receiver.trace("test-trace-002", *KINDS)
    assert_tree(trace, "test-trace-002")
    assert_attributes(trace, usage["prompt_tokens"], usage["completion_tokens"], streamed=True)
    inner = trace.one("http-request")
    assert "first_token" in {name for name, _ in inner.events} | {
        name for name, _ in trace.one("kv_router.route_request").events
    }


def test_both_sides_log_the_request_with_the_ids_of_its_trace(seed, receiver):
    curl(seed.port, chat(), "test-trace-003")
    trace = receiver.trace("test-trace-003", *KINDS)
    trace_id = trace.root().trace_id

    def lines(process):
        return [line for line in process.records() if line.get("x_request_id") == "test-trace-003"]

    eventually("the frontend's line", lambda: lines(seed))
    eventually("the worker's line", lambda: any(lines(worker) for worker in seed.workers))
    for line in lines(seed) + [line for worker in seed.workers for line in lines(worker)]:
        assert line["trace_id"] == trace_id
        assert re.fullmatch(r"[0-9a-f]{16}", line["span_id"])
        assert list(line)[:2] == ["time", "level"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["time"])
        assert line["request_id"] == trace.root().attributes["request_id"]


def test_ignored_engine_flag_is_named_once_in_a_warning(seed):
    for worker in seed.workers:

        def warnings(worker=worker):
            return [line for line in worker.records() if line["level"] == "WARN" and "enforce-eager" in json.dumps(line)]

        eventually("the warning is written", warnings)
        assert len(warnings()) == 1


def test_launch_script_serves_the_same(stack, receiver):
    port = free_port()
    runtime = stack.folder / "run"
    runtime.mkdir(mode=0o700)
    env = stack.env({"DYN_FILE_KV": None, "XDG_RUNTIME_DIR": runtime, "DYN_HTTP_PORT": port}, receiver)
    env |= {"DYN_SYSTEM_PORT1": "0", "DYN_SYSTEM_PORT2": "0"}
    script = Server([str(ROOT / "Scripts/launch/agg.sh")], env, stack.folder / "agg.log", port)
    stack.started.append(script)
    script.wait_for("/ready")
    status, _, _ = curl(port, chat(), "test-launch-001")
    assert status == 200
    assert_tree(receiver.trace("test-launch-001", *KINDS), "test-launch-001")
    script.signal(15)
    assert script.wait(20) == 143
    eventually("the frontend is gone", lambda: script.status("/live") == 0)


def test_simulated_workers_in_the_same_process_report_as_a_service_of_their_own(stack, receiver):
    frontend = stack.frontend("--simulate", "2", "--model-name", MODEL, receiver=receiver)
    status, _, _ = frontend.post("/v1/chat/completions", chat(), {"x-request-id": "simulated-1"})
    assert status == 200
    trace = receiver.trace("simulated-1", *KINDS)
    assert trace.root().service == "dynamo-frontend"
    assert trace.one("handle_payload").service == "dynamo-worker"
    assert trace.one("handle_payload").parent == trace.one("kv_router.route_request").span_id


def test_completions_are_traced_alike(stack, receiver):
    frontend = stack.frontend("--simulate", "1", "--model-name", MODEL, receiver=receiver)
    body = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 5}
    status, _, answer = frontend.post("/v1/completions", body, {"x-request-id": "completions-1"})
    assert status == 200 and json.loads(answer)["object"] == "text_completion"
    trace = receiver.trace("completions-1", "kv_router.route_request", "handle_payload")
    assert trace.root().name == "POST /v1/completions"
    assert trace.root().attributes["http.route"] == "/v1/completions"
