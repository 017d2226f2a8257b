"""The Prometheus page: valid for promtool, Dynamo's names, figures that follow the requests."""

import json
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
from support.processes import MODEL, ROOT, chat, eventually
from support.raw import Connection, post
from support.upstream import STREAM_HEAD, normal, token

PATH = "/v1/chat/completions"
PROMTOOL = shutil.which("promtool") or (str(ROOT / ".tools/promtool") if (ROOT / ".tools/promtool").exists() else None)


@pytest.fixture
def frontend(stack, receiver):
    return stack.frontend("--simulate", "2", "--model-name", MODEL, receiver=receiver)


def promtool(text: str) -> None:
    if PROMTOOL is None:
        pytest.skip("no promtool: Scripts/bootstrap.sh test fetches it")
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=text.encode(), capture_output=True, timeout=30)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def test_page_passes_promtool(frontend):
    for stream in (False, True):
        assert frontend.post(PATH, chat(stream=stream))[0] == 200
    frontend.post(PATH, b"{")
    frontend.post(PATH, chat(model="nope"))
    text = frontend.metrics().text
    # promtool's lint also has opinions on names; Dynamo's names are given, so only its errors about the format count.
    if PROMTOOL is None:
        pytest.skip("no promtool: Scripts/bootstrap.sh test fetches it")
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=text.encode(), capture_output=True, timeout=30)
    complaints = (done.stdout + done.stderr).decode()
    assert done.returncode in (0, 3), complaints
    for line in complaints.splitlines():
        name = line.split(" ")[0]
        assert any(known in line for known in LINT_OF_DYNAMOS_NAMES), f"{name}: {line}"


# Lint messages that Dynamo's own names provoke and that cannot be mended without renaming.
LINT_OF_DYNAMOS_NAMES = ("use base unit", "should not contain abbreviated units")


def test_content_type_is_prometheus_text(frontend):
    assert frontend.get("/metrics")[1]["content-type"].startswith("text/plain; version=0.0.4")


def test_counters_follow_the_requests(frontend):
    for _ in range(3):
        assert frontend.post(PATH, chat())[0] == 200
    for _ in range(2):
        assert frontend.post(PATH, chat(stream=True))[0] == 200
    frontend.post(PATH, chat(max_tokens=0))

    def counted():
        metrics = frontend.metrics()
        ended = metrics.sum(name, model=MODEL, status="success"), metrics.sum(name, status="error")
        return ended == (5, 1) and metrics

    name = "dynamo_frontend_requests_total"
    metrics = eventually("five successes and one failure", counted)
    assert metrics.sum(name, request_type="unary", endpoint="chat_completions", status="success") == 3
    assert metrics.sum(name, request_type="stream", endpoint="chat_completions", status="success") == 2
    assert metrics.sum(name, status="error", error_type="validation") == 1
    for histogram in ("request_duration_seconds", "time_to_first_token_seconds", "input_sequence_tokens", "output_sequence_tokens"):
        base = f"dynamo_frontend_{histogram}"
        count = metrics.sum(f"{base}_count", model=MODEL)
        assert count >= 2, histogram
        assert metrics.sum(f"{base}_bucket", model=MODEL, le="+Inf") == count, histogram
        assert metrics.sum(f"{base}_sum", model=MODEL) > 0, histogram
    assert metrics.sum("dynamo_frontend_active_requests") == 0
    assert metrics.sum("dynamo_frontend_output_tokens_total", model=MODEL) >= 5


def test_buckets_are_dynamos(frontend):
    frontend.post(PATH, chat(stream=True))
    metrics = eventually(
        "a first token was seen",
        lambda: (m := frontend.metrics()).has("dynamo_frontend_time_to_first_token_seconds_bucket") and m,
    )
    for histogram, lowest, highest, count in (("request_duration_seconds", 1, 512, 10), ("time_to_first_token_seconds", 0.001, 480, 18)):
        edges = sorted(float(e) for e in metrics.labels(f"dynamo_frontend_{histogram}_bucket", "le"))
        assert len(edges) == count + 1 and edges[0] == 0 and edges[1] == lowest
        assert edges[-2] == float(f"{highest:.2g}"), "rounded to two significant figures, as Dynamo does"


def test_inflight_requests_show_while_they_run(stack, upstream):
    release = threading.Event()
    upstream.behaviour = lambda peer, seen: (release.wait(20), normal(peer, seen))
    frontend = stack.frontend("--worker", upstream.url)
    with Connection(frontend.port) as connection:
        connection.send(post(PATH, json.dumps(chat()).encode()))
        upstream.wait_requests()
        metrics = frontend.metrics()
        for gauge in ("active_requests", "inflight_requests", "queued_requests"):
            assert metrics.sum(f"dynamo_frontend_{gauge}", model=MODEL) == 1, gauge
        assert metrics.sum("dynamo_frontend_stage_requests", stage="dispatch", phase="aggregated") == 1
        assert metrics.sum("dynamo_frontend_worker_active_prefill_tokens") > 0
        release.set()
        assert connection.response().status == 200
    eventually("none is open", lambda: frontend.metrics().sum("dynamo_frontend_active_requests") == 0)
    metrics = frontend.metrics()
    for gauge in ("inflight_requests", "queued_requests", "stage_requests", "worker_active_prefill_tokens", "worker_active_decode_blocks"):
        assert metrics.has(f"dynamo_frontend_{gauge}") and metrics.sum(f"dynamo_frontend_{gauge}") == 0, gauge


def test_a_stream_is_queued_until_its_first_byte_only(stack, upstream):
    release = threading.Event()

    def slow(peer, seen):
        peer.send(STREAM_HEAD)
        peer.event(token(0, "one"))
        release.wait(20)
        peer.event(token(1, finish="stop"))
        peer.event("[DONE]")
        peer.send(b"0\r\n\r\n")

    upstream.behaviour = slow
    frontend = stack.frontend("--worker", upstream.url)
    with Connection(frontend.port) as connection:
        connection.send(post(PATH, json.dumps(chat(stream=True)).encode()))
        connection.until(b"one")
        metrics = frontend.metrics()
        assert metrics.sum("dynamo_frontend_active_requests", model=MODEL) == 1
        assert metrics.sum("dynamo_frontend_queued_requests") == 0
        assert metrics.sum("dynamo_frontend_stage_requests") == 0
        release.set()
        connection.until(b"[DONE]")


def test_workers_and_stages_show_what_the_latest_request_was_like(frontend):
    prompt = "a long prompt of many words " * 40
    # Tokens that come in one piece have no time between them, so there are enough that a pause cannot swallow them all.
    for _ in range(3):
        assert frontend.post(PATH, chat(prompt, stream=True, max_tokens=40))[0] == 200

    # Stages are recorded behind the answer's last byte, and a page is no snapshot: the end may come between two series.
    def complete():
        metrics = frontend.metrics()
        counts = [metrics.sum("dynamo_frontend_stage_duration_seconds_count", stage=stage) for stage in stages]
        return counts == [3, 3, 3] and metrics

    stages = ("preprocess", "route", "dispatch")
    metrics = eventually("all stages were recorded", complete)
    labels = {"dp_rank": "0", "worker_type": "decode"}
    ids = metrics.labels("dynamo_frontend_worker_up", "worker_id")
    for name in ("worker_active_decode_blocks", "worker_active_prefill_tokens"):
        assert metrics.labels(f"dynamo_frontend_{name}", "worker_id") == ids, name
    for name in ("time_to_first_token_seconds", "input_sequence_tokens", "inter_token_latency_seconds"):
        family = f"dynamo_frontend_worker_last_{name}"
        assert metrics.labels(family, "worker_id") <= ids
        assert metrics.sum(family, **labels) > 0, name
    assert metrics.sum("dynamo_frontend_worker_last_input_sequence_tokens") > 40
    assert metrics.sum("dynamo_frontend_routing_index_bytes") > 0 and metrics.sum("dynamo_frontend_routing_index_nodes") > 0
    assert metrics.sum("dynamo_component_router_requests_started_total") == 3
    assert metrics.sum("dynamo_component_router_requests_total") == 3
    assert metrics.sum("dynamo_component_router_kv_hit_rate_count") == 3
    assert 0 < metrics.sum("dynamo_component_router_kv_hit_rate_sum") <= 2, "the second and third found the first's blocks"


def test_the_process_and_the_exporters_queue_are_shown(frontend):
    assert frontend.post(PATH, chat())[0] == 200
    metrics = eventually(
        "a span was sent", lambda: (m := frontend.metrics()).sum("dynamo_trace_spans_sent_total") > 0 and m
    )
    assert metrics.sum("dynamo_trace_export_connected") == 1
    assert metrics.has("dynamo_trace_export_queue_spans") and metrics.has("dynamo_trace_export_queue_bytes")
    assert metrics.sum("dynamo_build_info", service="dynamo-frontend") == 1
    assert abs(metrics.sum("process_start_time_seconds") - time.time()) < 60
    assert metrics.sum("process_cpu_seconds_total") > 0
    resident = int(Path(f"/proc/{frontend.child.pid}/statm").read_text().split()[1]) * 4096
    assert 0.5 < metrics.sum("process_resident_memory_bytes") / resident < 2
    if metrics.has("process_open_fds"):  # Linux 6.2 and later
        assert abs(metrics.sum("process_open_fds") - len(list(Path(f"/proc/{frontend.child.pid}/fd").iterdir()))) <= 3
    for counter in ("refused_connections_total", "accept_errors_total"):
        assert metrics.has(f"dynamo_frontend_{counter}") and metrics.sum(f"dynamo_frontend_{counter}") == 0


def test_a_request_that_no_worker_has_room_for_is_a_rejection(stack, upstream):
    release = threading.Event()
    upstream.behaviour = lambda peer, seen: (release.wait(20), normal(peer, seen))
    frontend = stack.frontend("--worker", upstream.url, "--active-prefill-tokens-threshold", "1")
    with Connection(frontend.port) as connection:
        connection.send(post(PATH, json.dumps(chat()).encode()))
        upstream.wait_requests()
        assert frontend.post(PATH, chat())[0] == 529
        release.set()
        assert connection.response().status == 200
    name = "dynamo_frontend_model_rejection_total"
    assert frontend.metrics().sum(name, model=MODEL, endpoint="chat_completions") == 1
    assert frontend.metrics().sum(name) == 1


def test_a_request_that_another_worker_takes_over_is_a_migration(stack, upstream):
    other = stack.upstream()
    other.behaviour = lambda peer, seen: peer.answer(503, {"error": {"message": "no"}})
    frontend = stack.frontend("--worker", upstream.url, "--worker", other.url, "--router-mode", "round-robin")
    eventually("both are ready", lambda: frontend.metrics().sum("dynamo_frontend_worker_up") == 2)
    assert not frontend.metrics().has("dynamo_frontend_model_migration_total")
    for _ in range(2):
        assert frontend.post(PATH, chat())[0] == 200
    refused = sum(seen.path == PATH for seen in other.requests)
    assert refused in (1, 2), "as the turn comes"
    name = "dynamo_frontend_model_migration_total"
    assert frontend.metrics().sum(name, model=MODEL, migration_type="new_request") == refused
    duration = "dynamo_frontend_model_migration_duration_seconds_count"
    eventually(
        "each has its length",
        lambda: frontend.metrics().sum(duration, model=MODEL, migration_type="new_request", outcome="success") == refused,
    )
    assert frontend.metrics().sum("dynamo_component_router_requests_total") == 0, "that is the KV router's"


# What Prometheus 2.43 and later ask for.
OPEN_METRICS = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


def open_metrics(server) -> tuple[str, dict]:
    """The page in OpenMetrics, and its families by name as the reference parser reads them."""
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    status, headers, body = server.get("/metrics", {"accept": OPEN_METRICS})
    assert status == 200
    assert headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    text = body.decode()
    assert text.endswith("\n# EOF\n")
    return text, {family.name: family for family in text_string_to_metric_families(text)}


def test_open_metrics_pass_the_reference_parser_and_hold_the_same_figures(frontend):
    from prometheus_client.parser import text_string_to_metric_families

    for stream in (False, True):
        assert frontend.post(PATH, chat(stream=stream))[0] == 200
    frontend.post(PATH, chat(model="nope"))
    eventually("all is counted", lambda: frontend.metrics().sum("dynamo_frontend_requests_total") == 3)
    _, families = open_metrics(frontend)
    assert families["dynamo_frontend_requests"].type == "counter"
    assert families["dynamo_frontend_time_to_first_token_seconds"].unit == "seconds"
    plain = {family.name: family for family in text_string_to_metric_families(frontend.metrics().text)}
    # These go on between the two readings.
    moving = ("process_", "dynamo_trace_", "dynamo_frontend_accepted", "dynamo_frontend_open", "dynamo_frontend_event_loop")
    for name in plain.keys() ^ families.keys():
        assert name.startswith(moving), name
    for name, family in plain.items():
        if name.startswith(moving):
            continue

        def figures(family):
            def labels(sample):
                return {key: float(value) if key == "le" else value for key, value in sample.labels.items()}

            return [(sample.name, labels(sample), sample.value) for sample in family.samples]

        assert figures(family) == figures(families[name]), name


def test_exemplars_name_traces_that_were_sent(frontend, receiver):
    for stream in (False, True):
        assert frontend.post(PATH, chat(stream=stream, max_tokens=8))[0] == 200

    def exemplars():
        _, families = open_metrics(frontend)
        return {
            name: [sample.exemplar for sample in families[f"dynamo_frontend_{name}_seconds"].samples if sample.exemplar]
            for name in ("request_duration", "time_to_first_token", "inter_token_latency")
        }

    found = eventually("each has one", lambda: all((seen := exemplars()).values()) and seen)
    for name, seen in found.items():
        for exemplar in seen:
            trace, span = exemplar.labels["trace_id"], exemplar.labels["span_id"]
            eventually(
                f"the span of {name} came",
                lambda: any((s.trace_id, s.span_id, s.name) == (trace, span, "http-request") for s in receiver.spans),
            )
            assert exemplar.value >= 0
            assert abs(float(exemplar.timestamp) - time.time()) < 300


def test_without_spans_there_are_no_exemplars(stack):
    frontend = stack.frontend("--simulate", "1", "--model-name", MODEL)
    assert frontend.post(PATH, chat(stream=True))[0] == 200
    eventually("it is counted", lambda: frontend.metrics().sum("dynamo_frontend_requests_total") == 1)
    text, _ = open_metrics(frontend)
    assert "trace_id" not in text


def test_a_workers_page_is_open_metrics_too(stack):
    worker = stack.worker()
    text, families = open_metrics(worker)
    assert "vllm:cache_config_info" in text
    assert "dynamo_component_uptime_seconds" in families


def test_models_facts_are_those_of_their_workers(stack):
    worker = stack.worker("--max-num-seqs", "7", "--max-num-batched-tokens", "1234")
    frontend = stack.frontend()
    metrics = frontend.metrics()
    for family, value in (("ready", 1), ("max_num_seqs", 7), ("max_num_batched_tokens", 1234)):
        assert metrics.sum(f"dynamo_frontend_model_{family}", model=MODEL) == value, family
    assert metrics.sum("dynamo_frontend_model_context_length", model=MODEL) > 0
    worker.kill()
    eventually("it is gone", lambda: frontend.metrics().sum("dynamo_frontend_model_ready", model=MODEL) == 0)


def test_loops_are_looked_at(stack):
    frontend = stack.frontend("--threads", "2", ready=False)
    name = "dynamo_frontend_event_loop_delay_seconds"
    metrics = eventually("both were", lambda: (m := frontend.metrics()).sum(f"{name}_count") >= 4 and m)
    assert metrics.sum(f"{name}_sum") >= 0
    assert metrics.has("dynamo_frontend_event_loop_stall_total")


def test_templates_and_tokenizing_are_timed(stack, upstream, tmp_path):
    from support import tiny_model

    tiny_model.write(tmp_path / "model")
    frontend = stack.frontend("--worker", upstream.url, "--model-path", str(tmp_path / "model"), "--model-name", MODEL)
    for _ in range(2):
        assert frontend.post(PATH, chat("a long prompt " * 200))[0] == 200
    assert frontend.post("/v1/completions", {"model": MODEL, "prompt": "short"})[0] == 200
    metrics = frontend.metrics()
    assert metrics.sum("dynamo_frontend_template_seconds_count") == 2
    assert metrics.sum("dynamo_frontend_tokenize_seconds_count") == 3
    assert metrics.sum("dynamo_frontend_tokenizer_latency_ms_count", operation="tokenize") == 3
    assert metrics.sum("dynamo_frontend_tokenizer_cache_hits_total") > 0
    assert metrics.sum("dynamo_frontend_tokenizer_cache_misses_total") > 0
