"""Starts the real executables, waits for what they promise, reads what they log, stops them."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BIN = Path(os.environ.get("DYNAMO_BIN", ROOT / ".build/release"))
MODEL = "Qwen/Qwen3-0.6B"


_given_ports: set[int] = set()


def free_port() -> int:
    """A port nobody listens on, below the range the kernel takes for outgoing connections; never the same one
    twice in a run, since a port given a moment ago may not be listened on yet."""
    while True:
        port = random.randrange(18000, 32000)
        if port in _given_ports:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _given_ports.add(port)
            return port


def eventually(what: str, probe, timeout: float = 15.0, every: float = 0.02):
    """The first true answer of `probe`; asked again and again, failing with `what` when the time is over."""
    deadline = time.monotonic() + timeout
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(every)


class Process:
    """One child process whose stderr and stdout go to a file that tests can read."""

    def __init__(self, argv: list[str], env: dict[str, str], log: Path):
        self.argv = argv
        self.env = env
        self.log = log
        self.output = open(log, "wb")
        self.child = subprocess.Popen(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT, start_new_session=True
        )

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def records(self) -> list[dict]:
        """The JSON lines of the log; other lines are left out."""
        found = []
        for line in self.text().splitlines():
            if line.startswith("{"):
                try:
                    found.append(json.loads(line))
                except ValueError:
                    pass
        return found

    def alive(self) -> bool:
        return self.child.poll() is None

    def signal(self, number: int) -> None:
        self.child.send_signal(number)

    def wait(self, timeout: float = 15.0) -> int:
        try:
            return self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.argv[0]} still runs {timeout} s later; its log ends:\n{self.text()[-2000:]}")

    def stop(self, timeout: float = 15.0) -> int:
        if self.alive():
            self.signal(signal.SIGTERM)
        try:
            return self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.argv[0]} did not stop on SIGTERM; its log ends:\n{self.text()[-2000:]}")
        finally:
            self.output.close()

    def kill(self) -> None:
        if self.alive():
            self.child.kill()
        self.child.wait(10)

    def kill_all(self) -> None:
        """Kills it and whatever it started in its session."""
        os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait(10)


class Server(Process):
    """A process with an HTTP port."""

    def __init__(self, argv: list[str], env: dict[str, str], log: Path, port: int):
        super().__init__(argv, env, log)
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> tuple[int, dict, bytes]:
        return request(self.port, method, path, None, headers)

    def post(self, path: str, body, headers: dict[str, str] | None = None) -> tuple[int, dict, bytes]:
        return request(self.port, "POST", path, body, headers)

    def status(self, path: str) -> int:
        """The status of a GET, 0 when nobody answers."""
        try:
            return self.get(path)[0]
        except OSError:
            return 0
        except http.client.HTTPException:
            return 0

    def wait_for(self, path: str, status: int = 200, timeout: float = 15.0) -> None:
        def probe() -> bool:
            if not self.alive():
                raise AssertionError(f"{self.argv} ended with {self.child.returncode}:\n{self.text()[-3000:]}")
            return self.status(path) == status

        try:
            eventually(f"{path} answers {status} on {self.port}", probe, timeout)
        except AssertionError as failure:
            raise AssertionError(f"{failure}\nlog:\n{self.text()[-3000:]}") from None

    def metrics(self) -> "Metrics":
        status, _, body = self.get("/metrics")
        assert status == 200
        return Metrics(body.decode())


class Metrics:
    """A Prometheus text page, for looking values up."""

    LINE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
    LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

    def __init__(self, text: str):
        self.text = text
        self.samples: list[tuple[str, dict[str, str], float]] = []
        for line in text.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            match = self.LINE.match(line)
            assert match, f"not a metric line: {line!r}"
            self.samples.append((match[1], dict(self.LABEL.findall(match[2] or "")), float(match[3])))

    def sum(self, name: str, **labels: str) -> float:
        """The sum of all series of `name` that carry these labels; 0 when there is none."""
        return sum(
            value
            for sample, have, value in self.samples
            if sample == name and all(have.get(key) == wanted for key, wanted in labels.items())
        )

    def labels(self, name: str, label: str) -> set[str]:
        return {have[label] for sample, have, _ in self.samples if sample == name and label in have}

    def has(self, name: str) -> bool:
        return any(sample == name for sample, _, _ in self.samples)

    def books(self) -> tuple[int, int, int]:
        """Spans made, sent and dropped."""
        return (
            int(self.sum("dynamo_trace_spans_made_total")),
            int(self.sum("dynamo_trace_spans_sent_total")),
            int(self.sum("dynamo_trace_spans_dropped_total")),
        )


def request(port: int, method: str, path: str, body=None, headers: dict[str, str] | None = None, timeout: float = 30.0):
    """One request on a connection of its own: status, headers (lower case), body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        all_headers = {}
        if body is not None:
            all_headers["Content-Type"] = "application/json"
            if not isinstance(body, (bytes, str)):
                body = json.dumps(body)
            if isinstance(body, str):
                body = body.encode()
        all_headers.update(headers or {})
        connection.request(method, path, body, all_headers)
        response = connection.getresponse()
        data = response.read()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, data
    finally:
        connection.close()


def chat(prompt: str = "What is the capital of France?", *, stream: bool = False, model: str = MODEL, **more) -> dict:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_completion_tokens": 16}
    if stream:
        body["stream"] = True
    body.update(more)
    return body


def events(body: bytes) -> list[str]:
    """The data payloads of an SSE body, in order."""
    found = []
    for block in body.decode().replace("\r\n", "\n").split("\n\n"):
        data = [line[5:].lstrip() for line in block.split("\n") if line.startswith("data:")]
        if data:
            found.append("\n".join(data))
    return found


def streamed_text(body: bytes) -> str:
    text = ""
    for event in events(body):
        if event == "[DONE]":
            continue
        for choice in json.loads(event).get("choices", []):
            text += (choice.get("delta") or {}).get("content") or choice.get("text") or ""
    return text
