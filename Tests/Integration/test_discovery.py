"""Where workers are found: the folder with records of Dynamo itself beside ours, a real etcd, a scripted API server."""

import base64
import json
import shutil
import signal
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.processes import MODEL, Process, chat, eventually, free_port

PATH = "/v1/chat/completions"


def up(frontend) -> int:
    return int(frontend.metrics().sum("dynamo_frontend_worker_up"))


def state(frontend) -> dict:
    with urllib.request.urlopen(frontend.url + "/v1/router/state", timeout=10) as answer:
        return json.load(answer)


def test_records_of_dynamo_itself_are_listed_and_never_chosen(stack):
    worker = stack.worker()
    frontend = stack.frontend()
    folder = stack.store / "v1" / "instances"
    record = {
        "type": "Endpoint", "namespace": "dynamo", "component": "backend", "endpoint": "generate",
        "instance_id": 15658734567890123301, "transport": {"tcp": "127.0.0.1:41001/d94d98147d54be25/generate"},
    }  # fmt: skip
    draft = folder / ".tmp_1"
    draft.write_text(json.dumps(record))
    draft.rename(folder / "dynamo%2Fbackend%2Fgenerate%2Fd94d98147d54be25")
    unused = eventually("it is listed", lambda: state(frontend)["unused_records"])
    assert unused == [
        {
            "key": "v1/instances/dynamo/backend/generate/d94d98147d54be25",
            "reason": "its transport 'tcp' is not spoken here",
        }
    ]
    assert frontend.metrics().sum("dynamo_frontend_discovery_unused_records", source="file") == 1
    assert up(frontend) == 1
    for _ in range(4):
        assert frontend.post(PATH, chat())[0] == 200
    (folder / "dynamo%2Fbackend%2Fgenerate%2Fd94d98147d54be25").unlink()
    eventually("it is listed no more", lambda: not state(frontend)["unused_records"])
    worker.stop()
    eventually("ours has left", lambda: up(frontend) == 0)


class Etcd:
    """A real etcd of one member, which may be killed and started again on its data."""

    def __init__(self, stack):
        self.binary = shutil.which("etcd")
        if self.binary is None:
            pytest.skip("no etcd here (apt-get install etcd-server)")
        self.stack = stack
        self.port, self.peer = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        peer = f"http://127.0.0.1:{self.peer}"
        argv = [
            self.binary, "--data-dir", str(self.stack.folder / "etcd"), "--listen-client-urls", self.url,
            "--advertise-client-urls", self.url, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"default={peer}", "--unsafe-no-fsync",
        ]  # fmt: skip
        env = {"PATH": "/usr/bin:/bin", "ETCD_UNSUPPORTED_ARCH": "arm64"}
        self.process = Process(argv, env, self.stack.folder / f"etcd-{time.monotonic_ns()}.log")
        self.stack.started.append(self.process)
        eventually("etcd answers", lambda: self.health())
        return self

    def health(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/health", timeout=2) as answer:
                return b"true" in answer.read()
        except OSError:
            return False

    def call(self, path: str, body: dict, token: str | None = None) -> dict:
        headers = {"authorization": token} if token else {}
        call = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(call, timeout=10) as answer:
            return json.load(answer)

    def keys(self) -> list[str]:
        ends = {"key": base64.b64encode(b"v1/").decode(), "range_end": base64.b64encode(b"v10").decode()}
        answer = self.call("/v3/kv/range", ends)
        return [base64.b64decode(pair["key"]).decode() for pair in answer.get("kvs", [])]

    def kill(self):
        self.process.child.send_signal(signal.SIGKILL)
        self.process.child.wait()

    def env(self, **more) -> dict:
        return {"DYN_DISCOVERY_BACKEND": "etcd", "ETCD_ENDPOINTS": self.url, **more}


def test_workers_are_found_in_etcd_and_outlive_it(stack):
    etcd = Etcd(stack).start()
    env = etcd.env(ETCD_LEASE_TTL="2")
    first = stack.worker(env=env)
    frontend = stack.frontend(env=env)
    assert len(etcd.keys()) == 2
    second = stack.worker(env=env)
    eventually("both are known", lambda: up(frontend) == 2)
    # A worker that stops has withdrawn before it is gone.
    second.stop()
    assert len(etcd.keys()) == 2
    eventually("it has left", lambda: up(frontend) == 1)
    # Without etcd everything goes on.
    etcd.kill()
    eventually("the outage is seen", lambda: frontend.metrics().sum("dynamo_frontend_discovery_up", source="etcd") == 0)
    assert frontend.post(PATH, chat())[0] == 200
    etcd.start()
    eventually("it is back", lambda: frontend.metrics().sum("dynamo_frontend_discovery_up", source="etcd") == 1, 30)
    third = stack.worker(env=env)
    eventually("a new one is known", lambda: up(frontend) == 2, 30)
    # One that is killed is forgotten with its lease.
    third.kill()
    eventually("its lease has run out", lambda: len(etcd.keys()) == 2, 30)
    eventually("it has left", lambda: len(frontend.metrics().labels("dynamo_frontend_worker_up", "worker_id")) == 1)
    assert frontend.post(PATH, chat())[0] == 200
    assert first.alive()


def test_etcd_may_ask_for_a_user(stack):
    etcd = Etcd(stack).start()
    etcd.call("/v3/auth/user/add", {"name": "root", "password": "pa\"ss"})
    etcd.call("/v3/auth/role/add", {"name": "root"})
    etcd.call("/v3/auth/user/grant", {"user": "root", "role": "root"})
    etcd.call("/v3/auth/enable", {})
    with pytest.raises(urllib.error.HTTPError):
        etcd.keys()
    env = etcd.env(ETCD_AUTH_USERNAME="root", ETCD_AUTH_PASSWORD="pa\"ss")
    worker = stack.worker(env=env)
    frontend = stack.frontend(env=env)
    assert up(frontend) == 1
    worker.stop()
    eventually("it has left", lambda: up(frontend) == 0)


class APIServer:
    """As much of the Kubernetes API as discovery asks for: one list, then watches that a test feeds."""

    def __init__(self):
        self.slices: dict[str, dict] = {}
        self.version = 1
        self.changed = threading.Condition()
        self.events: list[bytes] = []
        self.seen: list[tuple[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                outer.seen.append((self.path, self.headers.get("authorization", "")))
                if "watch=1" in self.path:
                    outer.watch(self)
                else:
                    with outer.changed:
                        items = list(outer.slices.values())
                        body = json.dumps({"metadata": {"resourceVersion": str(outer.version)}, "items": items}).encode()
                    self.send_response(200)
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def watch(self, handler):
        handler.send_response(200)
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        position = int(handler.path.split("resourceVersion=")[1].split("&")[0]) - 1
        try:
            while True:
                with self.changed:
                    self.changed.wait_for(lambda: len(self.events) > position, timeout=30)
                    news, position = self.events[position:], len(self.events)
                # A line comes in pieces: chunks are no lines.
                for line in news:
                    for piece in (line[:7], line[7:]):
                        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                        handler.wfile.flush()
        except OSError:
            pass

    def change(self, kind: str, name: str, ports: list[int], ready: bool = True):
        """Endpoints on loopback differ by their ports, so each has a slice of its own here."""
        with self.changed:
            self.version += 1
            item = {
                "metadata": {"name": name, "resourceVersion": str(self.version)}, "addressType": "IPv4",
                "ports": [{"name": "http", "port": port} for port in ports],
                "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": ready}}],
            }  # fmt: skip
            self.slices[name] = item
            self.events.append(json.dumps({"type": kind, "object": item}).encode() + b"\n")
            self.changed.notify_all()

    def stop(self):
        self.server.shutdown()


def test_workers_are_found_as_endpoints_of_a_service(stack):
    api = APIServer()
    account = stack.folder / "account"
    account.mkdir()
    (account / "token").write_text("secret-token\n")
    (account / "namespace").write_text("prod")
    env = {
        "DYN_DISCOVERY_BACKEND": "kubernetes", "DYN_KUBE_API_SERVER": api.url,
        "DYN_KUBE_SERVICE_ACCOUNT": str(account),
    }  # fmt: skip
    try:
        first, second = stack.worker(env=env), stack.worker(env=env)
        api.change("ADDED", "a", [int(first.url.rsplit(":", 1)[1])])
        frontend = stack.frontend(env=env)
        assert frontend.post(PATH, chat())[0] == 200
        api.change("ADDED", "b", [int(second.url.rsplit(":", 1)[1])])
        eventually("both are ready", lambda: up(frontend) == 2)
        # A pod that ends is not ready any more.
        api.change("MODIFIED", "a", [int(first.url.rsplit(":", 1)[1])], ready=False)
        eventually("one has left", lambda: up(frontend) == 1)
        assert frontend.post(PATH, chat())[0] == 200
        path, authorization = api.seen[0]
        assert path.startswith("/apis/discovery.k8s.io/v1/namespaces/prod/endpointslices?labelSelector=")
        assert authorization == "Bearer secret-token"
    finally:
        api.stop()
