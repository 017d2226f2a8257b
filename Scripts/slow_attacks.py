#!/usr/bin/env python3
"""Holds a frontend's connections open by slowness, in the ways of slowhttptest, and prints what came of it.

Scripts/slow_attacks.py [--connections N] [--seconds S] [--every S] [MODE...]    (300, 75 and 5)

    headers    a head that never ends, a field every few seconds (slowloris)
    body       a body that never ends, a byte every few seconds
    silence    a body that begins and stops
    read       an answer that is asked for again and again and never read
    ranges     heads with a thousand overlapping ranges, which made servers hold memory (CVE-2011-3192)

Beside each attack an ordinary caller asks `/live` and a chat ten times a second. Takes the executables of DYNAMO_BIN,
else the release build; deadlines are the defaults. Ends with 1 when an ordinary caller was failed.
"""

import argparse
import http.client
import json
import os
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(os.environ.get("DYNAMO_BIN", ROOT / ".build/release"))
PATH = "/v1/chat/completions"
CHAT = json.dumps({"model": "simulated", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def resident(pid: int) -> float:
    """MiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")) / 1024


class Ordinary(threading.Thread):
    """A caller that means well: how long it waits, and whether it is ever failed."""

    def __init__(self, port: int):
        super().__init__(daemon=True)
        self.port, self.stopping, self.times, self.failures = port, threading.Event(), [], []

    def run(self):
        while not self.stopping.wait(0.1):
            began = time.monotonic()
            for method, path, body in (("GET", "/live", None), ("POST", PATH, CHAT)):
                try:
                    connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
                    connection.request(method, path, body, {"content-type": "application/json"} if body else {})
                    answer = connection.getresponse()
                    answer.read()
                    if answer.status != 200:
                        self.failures.append(f"{path}: {answer.status}")
                    connection.close()
                except (OSError, http.client.HTTPException) as failure:
                    self.failures.append(f"{path}: {failure!r}")
            self.times.append(time.monotonic() - began)


HEAD = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
RANGES = "Range: bytes=0-" + ",".join(f"5-{index}" for index in range(1_000))
# What a connection sends first, and then every few seconds; None sends nothing more.
MODES = {
    "headers": (HEAD, "X-A: b\r\n"),
    "body": (HEAD + "Content-Length: 100000\r\n\r\n{", " "),
    "silence": (HEAD + "Content-Length: 100000\r\n\r\n{", None),
    "read": ("GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 40, None),
    "ranges": (f"GET /openapi.json HTTP/1.1\r\nHost: a\r\n{RANGES}\r\nConnection: close\r\n\r\n", None),
}


class Attacker:
    """One connection, which remembers how it was ended."""

    def __init__(self, port: int, mode: str):
        self.mode, self.began, self.ended, self.said = mode, time.monotonic(), None, b""
        self.socket = socket.socket()
        if mode == "read":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.send(MODES[mode][0])

    def send(self, text: str) -> None:
        try:
            self.socket.send(text.encode())
        except BlockingIOError:
            pass
        except OSError:
            self.over()

    def more(self) -> None:
        if self.ended is None and MODES[self.mode][1]:
            self.send(MODES[self.mode][1])

    def hear(self) -> None:
        if self.mode == "read":
            return
        try:
            piece = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        self.said += piece[:64] if len(self.said) < 64 else b""
        if not piece:
            self.over()

    def look(self) -> None:
        """A reader that never reads learns of the end from the kernel's state of the connection."""
        if self.ended is None and self.mode == "read":
            state = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
            if state != 1:
                self.over()

    def over(self) -> None:
        if self.ended is None:
            self.ended = time.monotonic()

    @property
    def status(self) -> str:
        words = self.said.split(b" ", 2)
        return words[1].decode() if len(words) > 1 else "none"


def attack(mode: str, port: int, pid: int, arguments) -> dict:
    before = resident(pid)
    ordinary = Ordinary(port)
    ordinary.start()
    attackers = [Attacker(port, mode) for _ in range(arguments.connections)]
    selector = selectors.DefaultSelector()
    for attacker in attackers:
        if mode != "read":
            selector.register(attacker.socket, selectors.EVENT_READ, attacker)
    end, again, peak = time.monotonic() + arguments.seconds, time.monotonic() + arguments.every, before
    while time.monotonic() < end and any(attacker.ended is None for attacker in attackers):
        for key, _ in selector.select(0.2) if mode != "read" else (time.sleep(0.2) or []):
            key.data.hear()
            if key.data.ended is not None:
                selector.unregister(key.fileobj)
        for attacker in attackers:
            attacker.look()
        peak = max(peak, resident(pid))
        if time.monotonic() > again:
            again += arguments.every
            for attacker in attackers:
                attacker.more()
    ordinary.stopping.set()
    ordinary.join()
    for attacker in attackers:
        attacker.socket.close()
    closed = [attacker.ended - attacker.began for attacker in attackers if attacker.ended is not None]
    times = sorted(ordinary.times)
    return {
        "mode": mode,
        "closed": f"{len(closed)} of {len(attackers)}",
        "after": f"{min(closed):.0f}-{max(closed):.0f} s (median {statistics.median(closed):.0f})" if closed else "-",
        "status": ", ".join(sorted({attacker.status for attacker in attackers if attacker.ended is not None})) or "-",
        "memory": f"{before:.1f} to {peak:.1f} MiB",
        "ordinary": f"{len(times)} pairs, median {1e3 * times[len(times) // 2]:.0f} ms, worst {1e3 * times[-1]:.0f} ms",
        "failures": ordinary.failures,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=75)
    parser.add_argument("--every", type=float, default=5)
    parser.add_argument("modes", nargs="*", metavar="MODE", help="some of " + ", ".join(MODES))
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="dynamo-slow-"))
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"], "DYN_HTTP_HOST": "127.0.0.1", "DYN_HTTP_PORT": str(port), "DYN_FILE_KV": str(folder / "store"),
    }
    with open(folder / "log", "wb") as log:
        frontend = subprocess.Popen(
            [BIN / "dynamo-frontend", "--simulate", "1", "--model-name", "simulated"], env=environment, stderr=log
        )
    failures = 0
    try:
        for _ in range(200):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", "/ready")
                if connection.getresponse().status == 200:
                    break
            except OSError:
                pass
            time.sleep(0.05)
        print("| attack | closed by the server | after | answer | memory | ordinary callers meanwhile | failed |")
        print("|---|---|---|---|---|---|---|")
        for mode in arguments.modes or MODES:
            told = attack(mode, port, frontend.pid, arguments)
            failures += len(told["failures"])
            row = [told[key] for key in ("mode", "closed", "after", "status", "memory", "ordinary")]
            print("| " + " | ".join(row) + f" | {len(told['failures'])} |", flush=True)
            for failure in told["failures"][:5]:
                print(f"  {failure}", file=sys.stderr)
    finally:
        frontend.terminate()
        frontend.wait(20)
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
