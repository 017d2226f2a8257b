#!/usr/bin/env python3
"""Sends the requests of Tests/Integration/test_smuggling.py to dynamo-frontend, nginx, haproxy and h11, and compares.

Scripts/smuggling_peers.py [--all]

Prints a Markdown table of the requests of which a peer makes something else than a refusal; `--all` prints every one.
Each is sent with a second request behind it, as an attacker would. The proxies run with their defaults in front of a
recorder that shows what reached it. Wants nginx and haproxy (apt) and the tests' Python (`.venv/bin/python`); takes
dynamo-frontend of DYNAMO_BIN, else of the release build. Ends with 1 when dynamo-frontend lets one through.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(os.environ.get("DYNAMO_BIN", ROOT / ".build/release"))
sys.path.insert(0, str(ROOT / "Tests/Integration"))

import h11  # noqa: E402
from test_smuggling import CASES  # noqa: E402

SECOND = b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Recorder(threading.Thread):
    """A worker that keeps what it gets and answers everything."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port, self.seen = self.listener.getsockname()[1], []

    def run(self):
        while True:
            peer, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer: socket.socket):
        peer.settimeout(0.5)
        got = b""
        try:
            while True:
                piece = peer.recv(65536)
                if not piece:
                    break
                got += piece
                if b"\r\n\r\n" not in got:
                    continue
                head, _, body = got.partition(b"\r\n\r\n")
                length = re.search(rb"(?im)^content-length:\s*(\d+)\r?$", head + b"\r\n")
                if length and len(body) < int(length[1]):
                    continue
                if b"chunked" in head.lower() and not body.endswith(b"0\r\n\r\n"):
                    continue
                break
        except OSError:
            pass
        if got:
            self.seen.append(got)
        text = b'{"object":"list","data":[{"id":"model","object":"model"}]}'
        try:
            peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text))
        except OSError:
            pass
        peer.close()

    def posts(self) -> list[bytes]:
        return [got for got in self.seen if got.startswith(b"POST /v1/chat") or not got.startswith((b"GET", b"HEAD"))]


def ask(port: int, data: bytes) -> bytes:
    """All that comes back within a while."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as peer:
        peer.settimeout(0.7)
        try:
            peer.sendall(data + SECOND)
            while piece := peer.recv(65536):
                said += piece
        except OSError:
            pass
    return said


def through(port: int, recorder: Recorder, data: bytes) -> str:
    recorder.seen.clear()
    statuses = re.findall(rb"HTTP/1\.[01] (\d{3})", ask(port, data))
    passed = recorder.posts()
    first = statuses[0].decode() if statuses else "closed"
    if not passed:
        return f"refused ({first})"
    framing = "chunked" if b"chunked" in passed[0].lower() else "length"
    return f"passed, by {framing}" + (f", {len(passed)} requests" if len(passed) > 1 else "")


def by_h11(data: bytes) -> str:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    body = 0
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Data):
                body += len(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return f"accepted, {body} bytes of body"
            elif event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
                return "waits for more"
    except h11.RemoteProtocolError as error:
        return f"refused ({error.error_status_hint})"


NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{worker}; proxy_http_version 1.1; }} }}
}}
"""
HAPROXY = """
defaults
  mode http
  timeout connect 2s
  timeout client 5s
  timeout server 5s
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  server s 127.0.0.1:{worker}
"""


def started(argv: list, port: int, folder: Path, environment=None) -> subprocess.Popen:
    with open(folder / "log", "ab") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, env=environment)
    for _ in range(400):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return process
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"{argv[0]} does not listen: {(folder / 'log').read_text()[-2000:]}")


def ready(port: int) -> None:
    for _ in range(400):
        if ask(port, b"GET /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 200"):
            return
    raise SystemExit("dynamo-frontend has no worker")


def main() -> int:
    recorder = Recorder()
    recorder.start()
    folder = Path(tempfile.mkdtemp(prefix="dynamo-peers-"))
    folder.chmod(0o755)
    ports = {name: free_port() for name in ("dynamo-frontend", "nginx", "haproxy")}
    processes = []
    try:
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=ports["nginx"], worker=recorder.port))
        (folder / "haproxy.cfg").write_text(HAPROXY.format(port=ports["haproxy"], worker=recorder.port))
        environment = {
            "PATH": os.environ["PATH"], "DYN_HTTP_HOST": "127.0.0.1", "DYN_HTTP_PORT": str(ports["dynamo-frontend"]),
            "DYN_FILE_KV": str(folder / "store"), "DYN_WORKERS": f"http://127.0.0.1:{recorder.port}",
        }
        processes = [
            started([BIN / "dynamo-frontend"], ports["dynamo-frontend"], folder, environment),
            started(["nginx", "-c", folder / "nginx.conf", "-e", folder / "nginx.log"], ports["nginx"], folder),
            started(["haproxy", "-db", "-f", folder / "haproxy.cfg"], ports["haproxy"], folder),
        ]
        ready(ports["dynamo-frontend"])
        print("| request | dynamo-frontend | nginx | haproxy | h11 |\n|---|---|---|---|---|")
        let_through = 0
        for name, data in CASES.items():
            row = [through(ports[peer], recorder, data) for peer in ports] + [by_h11(data)]
            let_through += not row[0].startswith("refused")
            if "--all" in sys.argv or any(not cell.startswith("refused") for cell in row):
                print(f"| {name} | " + " | ".join(row) + " |", flush=True)
        print(f"\n{len(CASES)} requests, {let_through} let through by dynamo-frontend", file=sys.stderr)
        return 1 if let_through else 0
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
