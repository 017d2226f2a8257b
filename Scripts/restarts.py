#!/usr/bin/env python3
"""Replaces a frontend again and again under load, by handing its listening sockets over, and counts what was lost.

Scripts/restarts.py [ROUNDS] [CALLERS]    (100 and 16)

Callers keep their connections, and open new ones only when an answer said `connection: close`; half of them stream. Takes
the executables of DYNAMO_BIN, else the release build. Ends with 1 when a single request failed.
"""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(os.environ.get("DYNAMO_BIN", ROOT / ".build/release"))
MODEL = "simulated"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Caller(threading.Thread):
    def __init__(self, port: int, stream: bool):
        super().__init__(daemon=True)
        self.port, self.stopping = port, threading.Event()
        self.done, self.told, self.failures = 0, 0, []
        self.body = json.dumps(
            {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8, "stream": stream}
        )

    def run(self):
        connection = None
        while not self.stopping.is_set():
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
                    connection.connect()
                connection.request("POST", "/v1/chat/completions", self.body, {"content-type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != 200 or b'"error"' in text:
                    raise OSError(f"{answer.status}: {text[:200]!r}")
                self.done += 1
                if answer.will_close:
                    self.told += 1
                    connection = None
            except (OSError, http.client.HTTPException) as failure:
                self.failures.append(repr(failure))
                connection = None


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 16
    folder = Path(tempfile.mkdtemp(prefix="dynamo-restarts-"))
    started = []
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("DYN_", "OTEL_"))}
    environment |= {"DYN_FILE_KV": str(folder / "store"), "DYN_HTTP_GRACEFUL_SHUTDOWN_TIMEOUT_SECS": "60"}
    (folder / "store").mkdir(mode=0o700)

    def start(name: str, *arguments: str) -> subprocess.Popen:
        log = open(folder / f"{len(started)}.log", "wb")
        child = subprocess.Popen([BIN / name, *arguments], env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        child.log = Path(log.name)
        started.append(child)
        return child

    def wait_for(child: subprocess.Popen, text: str):
        deadline = time.monotonic() + 60
        while text not in child.log.read_text(errors="replace"):
            if child.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"a process did not say '{text}':\n{child.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.005)

    port = free_port()
    frontend = ["--http-host=127.0.0.1", f"--http-port={port}", "--threads=2", f"--handover={folder / 'handover'}"]
    callers: list[Caller] = []
    try:
        for _ in range(2):
            start("dynamo-worker", "--model", MODEL, "--host=127.0.0.1", "--port=0", "--speedup-ratio=100")
        present = start("dynamo-frontend", *frontend)
        wait_for(present, "listening")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", "/ready")
                if connection.getresponse().status == 200:
                    break
            except OSError:
                pass
            time.sleep(0.05)
        callers = [Caller(port, index % 2 == 0) for index in range(count)]
        for caller in callers:
            caller.start()
        for _ in range(rounds):
            following = start("dynamo-frontend", *frontend)
            wait_for(following, "listening")
            if present.wait(90) != 0:
                raise SystemExit(f"a process ended with {present.returncode}:\n{present.log.read_text()[-2000:]}")
            present = following
    finally:
        for caller in callers:
            caller.stopping.set()
        for caller in callers:
            caller.join(60)
        for child in started:
            if child.poll() is None:
                child.send_signal(signal.SIGKILL)
                child.wait()
        shutil.rmtree(folder, ignore_errors=True)
    failures = [failure for caller in callers for failure in caller.failures]
    done, told = sum(caller.done for caller in callers), sum(caller.told for caller in callers)
    print(f"{rounds} restarts, {done} requests, {told} connections told to close, {len(failures)} requests failed")
    for failure in failures[:10]:
        print(f"  {failure}")
    return 1 if failures or not done else 0


if __name__ == "__main__":
    sys.exit(main())
