"""Fixtures: the executables of this tree on free ports, a scripted worker, an OTLP receiver; all end with the test."""

from __future__ import annotations

import itertools
import os
import ssl
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from support.otlp import Receiver  # noqa: E402
from support.processes import BIN, MODEL, Server, free_port  # noqa: E402
from support.upstream import Upstream  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="run the long tests too")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--full"):
        for item in items:
            if "full" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="long: runs with Scripts/test.sh --full"))


class Stack:
    """Starts and, at the end, stops what one test needs. Nothing of the caller's DYN_* or OTEL_* gets in."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.started: list = []
        self.counter = itertools.count()
        self.store = folder / "store"
        self.store.mkdir(mode=0o700)
        self.base = {
            "PATH": f"{BIN}:{os.environ.get('PATH', '')}",
            "HOME": str(folder),
            "DYN_FILE_KV": str(self.store),
            "DYN_LOGGING_JSONL": "true",
        }

    def env(self, more: dict | None = None, receiver: Receiver | None = None) -> dict[str, str]:
        env = dict(self.base)
        if receiver:
            env["OTEL_EXPORT_ENABLED"] = "true"
            env["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = receiver.endpoint
            env["OTEL_BSP_SCHEDULE_DELAY"] = "50"
        for key, value in (more or {}).items():
            if value is None:
                env.pop(key, None)
            else:
                env[key] = str(value)
        return env

    def server(self, name: str, argv: list[str], env: dict[str, str], port: int) -> Server:
        server = Server([str(BIN / argv[0]), *argv[1:]], env, self.folder / f"{next(self.counter)}-{name}.log", port)
        self.started.append(server)
        return server

    def frontend(self, *args: str, env: dict | None = None, receiver: Receiver | None = None, ready: bool = True) -> Server:
        port = free_port()
        argv = ["dynamo-frontend", "--http-host=127.0.0.1", f"--http-port={port}", *args]
        server = self.server("frontend", argv, self.env(env, receiver), port)
        server.wait_for("/ready" if ready else "/live")
        return server

    def worker(self, *args: str, env: dict | None = None, receiver: Receiver | None = None, model: str = MODEL) -> Server:
        port = free_port()
        argv = ["dynamo-worker", "--model", model, "--host", "127.0.0.1", "--port", str(port), *args]
        server = self.server("worker", argv, self.env(env, receiver), port)
        server.wait_for("/v1/models")
        return server

    def upstream(self, model: str = MODEL, tls: ssl.SSLContext | None = None) -> Upstream:
        upstream = Upstream(model, tls)
        self.started.append(upstream)
        return upstream

    def receiver(self, credentials=None) -> Receiver:
        receiver = Receiver(free_port(), credentials).start()
        self.started.append(receiver)
        return receiver

    def close(self) -> None:
        """Ends everything, the latest first. A process that had crashed, and a span that is not as the schema says, make
        the test fail."""
        crashed, faults = [], []
        for thing in reversed(self.started):
            if isinstance(thing, Server):
                if thing.child.poll() not in (None, 0, -9, -15, 130, 143):
                    crashed.append(f"{thing.argv} ended with {thing.child.returncode}:\n{thing.text()[-3000:]}")
                thing.kill()
            else:
                thing.stop()
                if isinstance(thing, Receiver):
                    faults += thing.faults
        assert not crashed, "\n".join(crashed)
        assert not faults, "spans are not as SpanSchema.json says:\n" + "\n".join(sorted(set(faults)))


@pytest.fixture
def stack(tmp_path):
    stack = Stack(tmp_path)
    yield stack
    stack.close()


@pytest.fixture(scope="module")
def shared_stack(tmp_path_factory):
    """The same for a whole file, where tests leave no state behind."""
    stack = Stack(tmp_path_factory.mktemp("shared"))
    yield stack
    stack.close()


@pytest.fixture
def receiver(stack):
    return stack.receiver()


@pytest.fixture
def upstream(stack):
    return stack.upstream()
