"""Tens of thousands of requests through two workers, every span exported: no error, nothing dropped, memory flat."""

import json
import re
import statistics
import subprocess
import time
from pathlib import Path

import pytest
from support.processes import BIN, MODEL, chat, eventually, free_port, request

pytestmark = pytest.mark.timeout(900)

#: Requests before memory is first read: buffers, pools and caches have grown to what the load needs.
WARM_UP = 20_000


def resident(pid: int) -> float:
    """Resident memory of the process's own in MiB: the median of a few readings.

    The pages of its program file do not count: start-up's are let go and come back as they are used.
    """
    readings = []
    for _ in range(7):
        text = Path(f"/proc/{pid}/status").read_text()
        readings.append(int(re.search(r"RssAnon:\s+(\d+)", text)[1]) / 1024)
        time.sleep(0.05)
    return statistics.median(readings)


def load(port: int, requests: int, seed: int) -> None:
    command = [BIN / "dynamo-bench", "load", "--url", f"http://127.0.0.1:{port}", "--model", MODEL, "--seed", str(seed)]
    command += ["--requests", str(requests), "--connections", "256", "--stream", "--tokens", "8", "--check", "shape", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.parametrize("requests", [20_000, pytest.param(200_000, marks=pytest.mark.full)])
def test_soak(stack, requests):
    sink_port, stats_port = free_port(), free_port()
    sink = stack.server("sink", ["dynamo-bench", "sink", "--port", str(sink_port), "--stats-port", str(stats_port)], stack.env(), sink_port)
    env = {
        # What the router remembers of prompts grows to its bound, and is meant to: a low bound is reached in the warm-up.
        "DYN_ROUTER_INDEX_LIMIT_MB": 1,
        "OTEL_EXPORT_ENABLED": "true",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{sink_port}",
        "DYN_LOGGING_JSONL": None,
    }
    for _ in range(2):
        stack.worker("--speedup-ratio", "100", env=env)
    frontend = stack.frontend(env=env)
    eventually("both known", lambda: frontend.get("/health")[2].count(b'"instance_id"') >= 2)
    for seed in (1, 2):
        load(frontend.port, WARM_UP // 2, seed=seed)
    warm = resident(frontend.child.pid)
    load(frontend.port, requests, seed=3)
    assert frontend.post("/v1/chat/completions", chat())[0] == 200

    def books():
        made, sent, dropped = frontend.metrics().books()
        return made == sent + dropped and (made, sent, dropped)

    made, sent, dropped = eventually("the books balance", books, timeout=60)
    assert dropped == 0 and made >= (WARM_UP + requests) * 3
    after = resident(frontend.child.pid)
    print(f"resident: {warm:.1f} MiB, then {after:.1f} MiB")
    assert after <= warm * 1.1 + 2, f"{warm:.1f} MiB after {WARM_UP:,} requests, {after:.1f} MiB after {requests:,} more"
    received = json.loads(request(stats_port, "GET", "/stats")[2])["spans"]
    assert received >= sent, "the sink has the frontend's spans, and the workers' besides"
    assert sink.alive()
