"""The admin listener of a real process: a worker is drained under load, workers come and go, keys are read again."""

import http.client
import json
import socket
import subprocess
import threading

import pytest
from support.processes import BIN, chat, eventually, free_port, request
from support.upstream import normal

PATH = "/v1/chat/completions"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str):
        super().__init__("admin", timeout=20)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self.path)


def admin(path, method: str, target: str, body: dict | None = None) -> tuple[int, dict]:
    connection = UnixConnection(str(path))
    try:
        connection.request(method, target, json.dumps(body) if body is not None else b"")
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"{}")
    finally:
        connection.close()


def test_a_worker_is_drained_and_no_request_is_lost(stack):
    first, second = stack.upstream(), stack.upstream()
    path = stack.folder / "admin.sock"
    frontend = stack.frontend(
        "--worker", first.url, "--worker", second.url, "--router-mode", "round-robin", "--admin-listen", f"unix:{path}"
    )
    eventually("both are ready", lambda: frontend.metrics().sum("dynamo_frontend_worker_up") == 2)
    assert path.stat().st_mode & 0o777 == 0o600
    release = threading.Event()

    def hold(peer, seen):
        release.wait(20)
        normal(peer, seen)

    first.behaviour = hold
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(frontend.post(PATH, chat())[0])) for _ in range(4)]
    for thread in threads:
        thread.start()
    first.wait_requests(2)
    worker = next(
        w for w in admin(path, "GET", "/health")[1]["instances"] if w["transport"]["http"] == first.url
    )["instance_id"]
    assert admin(path, "POST", f"/admin/workers/{worker}/drain") == (200, {"worker_id": worker, "draining": True})

    def state() -> tuple[str, int]:
        health = admin(path, "GET", "/health")[1]["instances"]
        loads = admin(path, "GET", "/v1/router/state")[1]["models"][0]["workers"]
        return (
            next(w["state"] for w in health if w["instance_id"] == worker),
            next(w["active_requests"] for w in loads if w["worker_id"] == worker),
        )

    eventually("it drains", lambda: state() == ("draining", 2))
    for _ in range(6):
        assert frontend.post(PATH, chat())[0] == 200
    assert len(first.requests) == 2
    release.set()
    for thread in threads:
        thread.join(20)
    assert answers == [200] * 4
    eventually("nothing is left there", lambda: state() == ("draining", 0))
    assert admin(path, "POST", f"/admin/workers/{worker}/undrain")[1] == {"worker_id": worker, "draining": False}
    first.behaviour = normal
    eventually("it is asked again", lambda: frontend.post(PATH, chat())[0] == 200 and len(first.requests) > 2)
    assert frontend.post(f"/admin/workers/{worker}/drain", {})[0] == 404
    assert admin(path, "POST", "/admin/workers/1/drain")[0] == 404
    assert frontend.stop() == 0
    assert not path.exists()


def test_static_workers_are_added_and_removed(stack):
    first, second = stack.upstream(), stack.upstream()
    path = stack.folder / "admin.sock"
    frontend = stack.frontend("--worker", first.url, "--admin-listen", f"unix:{path}")
    assert admin(path, "POST", "/admin/workers", {"url": second.url})[0] == 201
    eventually("both are ready", lambda: frontend.metrics().sum("dynamo_frontend_worker_up") == 2)
    assert admin(path, "POST", "/admin/workers", {"url": "ftp://x"})[0] == 400
    [gone] = [w["instance_id"] for w in admin(path, "GET", "/health")[1]["instances"] if w["transport"]["http"] == first.url]
    assert admin(path, "DELETE", f"/admin/workers/{gone}")[0] == 200
    eventually("one is left", lambda: len(admin(path, "GET", "/health")[1]["instances"]) == 1)
    assert frontend.post(PATH, chat())[0] == 200 and len(second.requests) == 1


def test_a_port_needs_a_token_and_metrics_may_move(stack):
    token = stack.folder / "token"
    token.write_text("a-token-of-some-length\n")
    port, metrics = free_port(), free_port()
    frontend = stack.frontend(
        "--admin-listen", f"127.0.0.1:{port}", "--admin-token-file", str(token), "--metrics-listen", f"127.0.0.1:{metrics}",
        "--simulate", "1",
    )
    assert request(port, "POST", "/admin/reload")[0] == 401
    assert request(port, "POST", "/admin/reload", None, {"authorization": "Bearer a-token-of-some-length"})[0] == 202
    assert frontend.status("/metrics") == 404 and request(metrics, "GET", "/metrics")[0] == 200
    assert request(metrics, "POST", "/admin/reload")[0] == 404
    eventually("the reading is told", lambda: "SIGHUP" in frontend.text() or "read again" in frontend.text())


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--admin-listen", "127.0.0.1:0"], "needs --admin-token-file"),
        (["--admin-listen", "0.0.0.0:0"], "loopback only"),
        (["--admin-listen", "nonsense"], "is no HOST:PORT"),
        (["--metrics-listen", "nonsense"], "is no HOST:PORT"),
    ],
)
def test_what_is_unsafe_or_wrong_ends_the_start(stack, flags, said):
    made = subprocess.run(
        [str(BIN / "dynamo-frontend"), "--http-port=0", *flags], env=stack.env(), capture_output=True, text=True, timeout=20
    )
    assert made.returncode == 1 and said in made.stderr
