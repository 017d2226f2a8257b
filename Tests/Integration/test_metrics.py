"""The Prometheus page: valid for promtool, Dynamo's names, figures that follow the requests."""

import shutil
import subprocess

import pytest
from support.processes import MODEL, ROOT, chat, eventually

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
LINT_OF_DYNAMOS_NAMES = ("use base unit",)


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
    import threading

    from support.raw import Connection, post
    from support.upstream import normal

    release = threading.Event()
    upstream.behaviour = lambda peer, seen: (release.wait(20), normal(peer, seen))
    frontend = stack.frontend("--worker", upstream.url)
    import json

    with Connection(frontend.port) as connection:
        connection.send(post(PATH, json.dumps(chat()).encode()))
        upstream.wait_requests()
        assert frontend.metrics().sum("dynamo_frontend_active_requests", model=MODEL) == 1
        release.set()
        assert connection.response().status == 200
    eventually("none is open", lambda: frontend.metrics().sum("dynamo_frontend_active_requests") == 0)
