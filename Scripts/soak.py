#!/usr/bin/env python3
"""Soaks dynamo-frontend while the receiver of its spans comes and goes: no request may fail, no span may be lost without
being counted, memory must stay flat.

    Scripts/soak.py [--minutes 30] [--rate 2000] [--flap 20] [--spool] [--bin FOLDER]

The receiver changes its state every FLAP seconds: it takes spans, is gone, refuses connections, reads and never
answers, answers UNAVAILABLE, RESOURCE_EXHAUSTED or INVALID_ARGUMENT, or is slow. It takes spans again in the last minute
(or the last fifth of a short run). Four fake workers answer with streams of 8 tokens. Everything listens on free ports
of 127.0.0.1. Exit status 0 when all held.

Memory is the frontend's resident set: the median of its readings in the last quarter against that of the second
quarter, when all queues and the router's index have reached their bounds.
"""

import argparse
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Flags of `dynamo-bench sink` for each state; None is no receiver at all.
STATES = {
    "takes": [],
    "is gone": None,
    "refuses connections": ["--refuse"],
    "never answers": ["--stall"],
    "says UNAVAILABLE": ["--status", "14"],
    "says RESOURCE_EXHAUSTED": ["--status", "8"],
    "says INVALID_ARGUMENT": ["--status", "3"],
    "is slow": ["--delay-ms", "300"],
}
# Growth that is still flat: what allocators keep back, and a tenth.
SLACK_MIB, SLACK_SHARE = 4.0, 0.10


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Soak:
    def __init__(self, arguments, folder: Path):
        self.arguments = arguments
        self.folder = folder
        self.children: list[subprocess.Popen] = []
        self.sink: subprocess.Popen | None = None
        self.sink_port = free_port()
        self.port = free_port()
        self.readings: list[tuple[float, float]] = []
        self.faults: list[str] = []

    def start(self, name: str, command: list, env: dict | None = None, output=None) -> subprocess.Popen:
        log = output or open(self.folder / f"{name}.log", "ab")
        command = [str(self.arguments.bin / command[0]), *map(str, command[1:])]
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})})
        self.children.append(child)
        return child

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return answer.read().decode()

    def until(self, what: str, condition, seconds: float = 30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if condition():
                    return True
            except OSError:
                pass
            time.sleep(0.2)
        self.faults.append(f"not within {seconds:g} s: {what}")
        return False

    def receive(self, state: str):
        """Replaces the receiver by one in `state`, on the same port."""
        if self.sink:
            self.sink.kill()
            self.sink.wait()
            self.children.remove(self.sink)
        flags = STATES[state]
        command = ["dynamo-bench", "sink", "--port", self.sink_port, *(flags or [])]
        self.sink = None if flags is None else self.start("sink", command)

    def books(self) -> dict[str, int]:
        text = self.get("/metrics")

        def total(name: str) -> int:
            values = re.findall(rf"^{name}(?:{{[^}}]*}})? ([0-9.e+]+)$", text, re.M)
            return sum(int(float(value)) for value in values)

        return {
            "made": total("dynamo_trace_spans_made_total"),
            "sent": total("dynamo_trace_spans_sent_total"),
            "dropped": total("dynamo_trace_spans_dropped_total"),
            "resent": total("dynamo_trace_spans_resent_total"),
            "spooled": total("dynamo_trace_spans_spooled"),
        }

    def resident(self) -> float:
        text = Path(f"/proc/{self.frontend.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024

    def run(self) -> int:
        a = self.arguments
        seconds = a.minutes * 60
        calm = min(60.0, seconds / 5)
        ports = [free_port() for _ in range(4)]
        self.start("workers", ["dynamo-bench", "worker", *(x for p in ports for x in ("--port", p)), "--itl-ms", 10, "--tokens", 8])
        self.receive("takes")
        env = {
            "OTEL_EXPORT_ENABLED": "1",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{self.sink_port}",
            # Low bounds are reached early, and then nothing may grow.
            "DYN_ROUTER_INDEX_LIMIT_MB": "1",
            "DYN_LOG": "warn",
        }
        if a.spool:
            env |= {"DYN_TRACE_SPOOL_DIR": str(self.folder / "spool"), "DYN_TRACE_SPOOL_MB": "64"}
        command = ["dynamo-frontend", "--http-port", self.port, "--discovery-backend", "mem"]
        for port in ports:
            command += ["--worker", f"http://127.0.0.1:{port}"]
        self.frontend = self.start("frontend", command, env)
        if not self.until("the frontend is ready", lambda: self.get("/ready") is not None):
            return self.report(None)
        load = ["dynamo-bench", "load", "--url", f"http://127.0.0.1:{self.port}", "--rate", a.rate, "--duration", seconds]
        load += ["--stream", "--tokens", 8, "--connections", 4096, "--check", "shape", "--timeout", 30, "--json"]
        with open(self.folder / "load.json", "wb") as out:
            loader = self.start("load", load, output=out)
        self.flap(loader, seconds - calm)
        try:
            loader.wait(timeout=calm + 60)
        except subprocess.TimeoutExpired:
            self.faults.append("the load did not end")
        balanced = lambda: (lambda b: b["made"] == b["sent"] + b["dropped"] + b["spooled"] and b["made"] > 0)(self.books())
        self.until("spans made = sent + dropped", balanced, 60)
        books = self.books()
        self.frontend.send_signal(signal.SIGTERM)
        if self.frontend.wait(timeout=30) != 0:
            self.faults.append(f"the frontend ended with {self.frontend.returncode}")
        return self.report(books)

    def flap(self, loader, seconds: float):
        began = time.monotonic()
        states = list(STATES)
        changed, index = began, 0
        while loader.poll() is None and (now := time.monotonic()) < began + seconds:
            if now - changed >= self.arguments.flap:
                changed, index = now, index + 1
                self.receive(states[index % len(states)])
                print(f"{now - began:6.0f} s  {self.resident():6.1f} MiB  the receiver {states[index % len(states)]}", flush=True)
            self.readings.append((now - began, self.resident()))
            time.sleep(1)
        self.receive("takes")

    def report(self, books: dict[str, int] | None) -> int:
        try:
            load = json.loads((self.folder / "load.json").read_text())
        except (OSError, ValueError):
            load = None
            self.faults.append("the load generator said nothing")
        if load:
            print(f"requests: {load['completed']} answered, {load['failed']} failed")
            if load["failed"] or not load["completed"]:
                self.faults.append(f"{load['failed']} requests failed")
        if books:
            print("spans: " + ", ".join(f"{count} {name}" for name, count in books.items()))
        if len(self.readings) >= 8:
            quarter = len(self.readings) // 4
            before = statistics.median(mib for _, mib in self.readings[quarter : 2 * quarter])
            after = statistics.median(mib for _, mib in self.readings[-quarter:])
            peak = max(mib for _, mib in self.readings)
            print(f"resident: {before:.1f} MiB in the second quarter, {after:.1f} MiB in the last, {peak:.1f} MiB at most")
            if after > before * (1 + SLACK_SHARE) + SLACK_MIB:
                self.faults.append(f"memory grew from {before:.1f} to {after:.1f} MiB")
        for fault in self.faults:
            print(f"FAULT: {fault}")
        print("logs: " + str(self.folder) if self.faults else "all held")
        return 1 if self.faults else 0

    def end(self):
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=2000, help="requests a second")
    parser.add_argument("--flap", type=float, default=20, help="seconds of each state of the receiver")
    parser.add_argument("--spool", action="store_true", help="with a spool of 64 MiB on disk")
    parser.add_argument("--bin", type=Path, default=ROOT / ".build/release", help="folder of the executables")
    soak = Soak(parser.parse_args(), Path(tempfile.mkdtemp(prefix="soak-")))
    try:
        return soak.run()
    finally:
        soak.end()


if __name__ == "__main__":
    sys.exit(main())
