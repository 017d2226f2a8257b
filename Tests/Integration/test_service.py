"""What a service manager sees: readiness, signs of life, reloads, passed sockets; and sockets handed from one process to
the next under load."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
from support.processes import BIN, Server, chat, eventually, free_port
from support.raw import Connection, post

PATH = "/v1/chat/completions"


class Manager:
    """A service manager's notification socket."""

    def __init__(self, name: str):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self.socket.settimeout(15)
        self.name = name
        self.heard: list[dict[str, str]] = []

    def next(self, key: str) -> dict[str, str]:
        """The next datagram that has `key`; what comes before it is kept in `heard`."""
        while True:
            lines = self.socket.recv(4096).decode().splitlines()
            message = dict(line.split("=", 1) for line in lines)
            self.heard.append(message)
            if key in message:
                return message

    def close(self):
        self.socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    name = f"@dynamo-test-{os.getpid()}-{time.monotonic_ns()}" if request.param == "abstract" else str(tmp_path / "notify")
    manager = Manager(name)
    yield manager
    manager.close()


def test_the_manager_is_told_how_it_goes(stack, upstream, manager):
    config = stack.folder / "frontend.conf"
    config.write_text(f"DYN_WORKERS={upstream.url}\n")
    env = {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": 800_000}
    frontend = stack.frontend("--config", str(config), env=env)
    ready = manager.next("READY")
    assert ready["READY"] == "1" and str(frontend.port) in ready["STATUS"]
    assert manager.next("WATCHDOG")["WATCHDOG"] == "1"
    before = time.monotonic_ns() // 1000
    frontend.signal(signal.SIGHUP)
    reloading = manager.next("RELOADING")
    assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    assert "nothing" in manager.next("READY")["STATUS"]
    config.write_text("DYN_HTTP_BODY_LIMIT_MB=many\n")
    frontend.signal(signal.SIGHUP)
    manager.next("RELOADING")
    assert "fault" in manager.next("READY")["STATUS"]
    frontend.signal(signal.SIGTERM)
    assert manager.next("STOPPING")["STOPPING"] == "1"
    assert frontend.wait() == 0


def test_a_process_that_hangs_gives_no_sign_of_life(stack, upstream, tmp_path):
    manager = Manager(str(tmp_path / "notify"))
    env = {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": 400_000}
    frontend = stack.frontend("--worker", upstream.url, env=env)
    manager.next("WATCHDOG")
    frontend.signal(signal.SIGSTOP)
    try:
        manager.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            while True:  # what was on its way
                manager.next("WATCHDOG")
        manager.socket.settimeout(1)
        with pytest.raises(TimeoutError):
            manager.next("WATCHDOG")
    finally:
        frontend.signal(signal.SIGCONT)
    manager.socket.settimeout(15)
    manager.next("WATCHDOG")
    manager.close()


def test_the_watchdog_of_another_process_is_not_ours(stack, upstream, tmp_path):
    manager = Manager(str(tmp_path / "notify"))
    env = {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": 400_000, "WATCHDOG_PID": 1}
    frontend = stack.frontend("--worker", upstream.url, env=env)
    # Longer than several signs of life would take.
    manager.socket.settimeout(1.5)
    with pytest.raises(TimeoutError):
        manager.next("WATCHDOG")
    manager.socket.settimeout(15)
    frontend.stop()
    manager.next("STOPPING")
    assert not [message for message in manager.heard if "WATCHDOG" in message]
    manager.close()


@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="needs systemd-socket-activate")
def test_a_socket_of_the_manager_is_served_on(stack, upstream):
    port = free_port()
    argv = ["systemd-socket-activate", f"--listen=127.0.0.1:{port}", "--fdname=main"]
    # The environment does not pass through by itself.
    argv += [f"--setenv={key}={value}" for key, value in stack.env().items()]
    argv += [str(BIN / "dynamo-frontend"), "--http-port=1", "--worker", upstream.url]
    server = Server(argv, {**stack.env(), "PATH": os.environ["PATH"]}, stack.folder / "activated.log", port)
    stack.started.append(server)
    server.wait_for("/ready")
    assert server.post(PATH, chat())[0] == 200
    eventually("it says so", lambda: [r for r in server.records() if str(port) in r.get("address", "")])
    assert server.stop() == 0


def test_a_descriptor_that_is_no_listening_socket_is_a_clear_failure(stack):
    # LISTEN_PID has to be the process's own: the shell becomes it.
    script = f'LISTEN_FDS=1 LISTEN_PID=$$ exec {BIN / "dynamo-frontend"} --http-host=127.0.0.1 3</dev/null'
    done = subprocess.run(["bash", "-c", script], env=stack.env(), capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and "descriptor 3 of LISTEN_FDS is no listening socket" in done.stderr


# Hand-over


class Caller(threading.Thread):
    """Asks again and again on one connection, which it opens anew only when it was told to (`connection: close`)."""

    def __init__(self, port: int, stream: bool):
        super().__init__()
        self.port, self.stream = port, stream
        self.stopping = threading.Event()
        self.count, self.closes = 0, 0
        self.failure: Exception | None = None

    def run(self):
        connection = None
        body = json.dumps(chat(stream=self.stream))
        try:
            while not self.stopping.is_set():
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
                    connection.connect()
                connection.request("POST", PATH, body, {"content-type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
                assert answer.status == 200, (answer.status, text)
                assert not self.stream or text.rstrip().endswith(b"[DONE]"), text
                self.count += 1
                if answer.will_close:
                    connection = None
                    self.closes += 1
        except Exception as failure:
            self.failure = failure

    def stop(self):
        self.stopping.set()
        self.join()


def handover_frontend(stack, *args, port=None, env=None):
    port = port or free_port()
    argv = ["dynamo-frontend", "--http-host=127.0.0.1", f"--http-port={port}", "--threads=2"]
    argv += ["--handover", str(stack.folder / "handover"), *args]
    return stack.server("frontend", argv, stack.env(env), port)


def has_said(server, text: str):
    return [record for record in server.records() if text in record["message"]]


def test_restarts_under_load_lose_no_request(stack):
    upstreams = [stack.upstream(), stack.upstream()]
    workers = [part for upstream in upstreams for part in ("--worker", upstream.url)]
    present = handover_frontend(stack, *workers)
    present.wait_for("/ready")
    callers = [Caller(present.port, stream=index % 2 == 0) for index in range(6)]
    for caller in callers:
        caller.start()
    try:
        for _ in range(4):
            next_one = handover_frontend(stack, *workers, port=present.port)
            eventually("the next one serves", lambda: has_said(next_one, "listening"))
            assert present.wait() == 0, present.text()
            assert has_said(present, "handed the listening sockets over")
            present = next_one
            seen = [caller.count for caller in callers]
            eventually("all go on", lambda: all(c.count > s or c.failure for c, s in zip(callers, seen)))
    finally:
        for caller in callers:
            caller.stop()
    assert [caller.failure for caller in callers] == [None] * 6
    # Told so each time, or they would have met a closed connection.
    assert all(caller.closes >= 4 for caller in callers)


def test_an_idle_connection_is_answered_once_more(stack, upstream):
    first = handover_frontend(stack, "--worker", upstream.url)
    first.wait_for("/ready")
    body = json.dumps(chat()).encode()
    with Connection(first.port) as idle:
        idle.send(post(PATH, body))
        assert idle.response().header("connection") is None
        second = handover_frontend(stack, "--worker", upstream.url, port=first.port)
        eventually("the second one serves", lambda: has_said(second, "listening"))
        assert first.alive()
        idle.send(post(PATH, body))
        answer = idle.response()
        assert answer.status == 200 and answer.header("connection") == "close"
        assert idle.is_closed()
    assert first.wait() == 0
    assert second.post(PATH, chat())[0] == 200


def test_idle_connections_of_http2_are_told_to_go_away(stack, upstream):
    h2 = pytest.importorskip("h2.connection")
    import h2.events

    first = handover_frontend(stack, "--worker", upstream.url)
    first.wait_for("/ready")
    peer = h2.connection.H2Connection()
    peer.initiate_connection()
    with socket.create_connection(("127.0.0.1", first.port), 15) as connection:
        connection.sendall(peer.data_to_send())

        def until(kind):
            while True:
                data = connection.recv(65536)
                assert data, f"closed before {kind}"
                found = peer.receive_data(data)
                connection.sendall(peer.data_to_send())
                for event in found:
                    if isinstance(event, kind):
                        return event

        until(h2.events.SettingsAcknowledged)
        second = handover_frontend(stack, "--worker", upstream.url, port=first.port)
        notice = until(h2.events.ConnectionTerminated)
        # The first one leaves room for requests that are on their way; the second is the end.
        assert notice.error_code == 0 and notice.last_stream_id == 2**31 - 1
        eventually("the second one serves", lambda: has_said(second, "listening"))
        while connection.recv(65536):
            pass
    assert first.wait() == 0


def test_a_next_process_that_cannot_serve_changes_nothing(stack, upstream):
    first = handover_frontend(stack, "--worker", upstream.url)
    first.wait_for("/ready")
    wrong = handover_frontend(stack, "--worker", upstream.url, "--tls-cert-path", "/nowhere.pem", port=first.port)
    assert wrong.wait() == 1
    wrong.child.returncode = 0  # as it should be, for the fixture
    # One that dies in the midst of it: its workers never become ready.
    stuck = handover_frontend(stack, "--worker", "http://127.0.0.1:1", port=first.port)
    eventually("it was offered the sockets", lambda: has_said(first, "another process asks"))
    stuck.kill()
    eventually("it is missed", lambda: has_said(first, "went away; serving on"))
    assert first.post(PATH, chat())[0] == 200
    good = handover_frontend(stack, "--worker", upstream.url, port=first.port)
    eventually("a good one still can", lambda: has_said(good, "listening"))
    assert first.wait() == 0 and good.post(PATH, chat())[0] == 200


def test_a_process_that_hands_over_still_obeys_a_signal(stack, upstream):
    first = handover_frontend(stack, "--worker", upstream.url, env={"DYN_HTTP_GRACEFUL_SHUTDOWN_TIMEOUT_SECS": 60})
    first.wait_for("/ready")
    with Connection(first.port) as idle:
        idle.send(post(PATH, json.dumps(chat()).encode()))
        idle.response()
        second = handover_frontend(stack, "--worker", upstream.url, port=first.port)
        eventually("the second one serves", lambda: has_said(second, "listening"))
        first.signal(signal.SIGTERM)
        assert first.wait() == 0 and idle.is_closed()
    assert second.post(PATH, chat())[0] == 200


def test_a_unix_socket_is_handed_over_with_its_file(stack, upstream):
    path = stack.folder / "http.sock"
    listen = ("--listen", f"unix:{path}", "--worker", upstream.url)
    first = handover_frontend(stack, *listen)
    eventually("the first one serves", lambda: has_said(first, "listening"))
    second = handover_frontend(stack, *listen)
    eventually("the second one serves", lambda: has_said(second, "listening"))
    assert first.wait() == 0 and path.exists()
    curl = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", str(path), "http://x/live"]
    assert subprocess.run(curl, capture_output=True, text=True, timeout=20).stdout == "200"
    assert second.stop() == 0 and not path.exists()


def test_a_next_process_that_is_told_to_stop_takes_nothing(stack, upstream):
    first = handover_frontend(stack, "--worker", upstream.url)
    first.wait_for("/ready")
    stuck = handover_frontend(stack, "--worker", "http://127.0.0.1:1", port=first.port)
    eventually("it was offered the sockets", lambda: has_said(first, "another process asks"))
    assert stuck.stop() == 0
    eventually("it is missed", lambda: has_said(first, "went away; serving on"))
    assert first.post(PATH, chat())[0] == 200


def test_a_next_process_that_takes_nothing_leaves_the_files(stack, upstream):
    paths = [stack.folder / "http.sock", stack.folder / "admin.sock"]
    listen = ("--listen", f"unix:{paths[0]}", "--admin-listen", f"unix:{paths[1]}")
    first = handover_frontend(stack, *listen, "--worker", upstream.url)
    eventually("the first one serves", paths[1].exists)
    curl = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket"]
    answers = lambda: [subprocess.run([*curl, p, "http://x/live"], capture_output=True, text=True).stdout for p in paths]
    eventually("it answers", lambda: answers() == ["200", "200"])
    eventually("it is ready", lambda: subprocess.run([*curl, paths[0], "http://x/ready"], capture_output=True, text=True).stdout == "200")
    stuck = handover_frontend(stack, *listen, "--worker", "http://127.0.0.1:1")
    eventually("it was offered the sockets", lambda: has_said(first, "another process asks"))
    # A second one is refused meanwhile.
    late = handover_frontend(stack, *listen, "--worker", upstream.url)
    assert late.wait() == 1
    late.child.returncode = 0  # as it should be, for the fixture
    assert stuck.stop() == 0
    eventually("it is missed", lambda: has_said(first, "went away; serving on"))
    assert answers() == ["200", "200"]
    assert first.stop() == 0 and not any(path.exists() for path in paths)


@pytest.mark.parametrize(
    "option, reason",
    [("--handover=@x", "no absolute path"), ("--admin-listen=unix:@x", "needs --admin-token-file")],
)
def test_abstract_names_guard_nothing(stack, option, reason):
    server = stack.server("frontend", ["dynamo-frontend", option], stack.env(), free_port())
    assert server.wait() == 1 and reason in server.text()
    server.child.returncode = 0  # as it should be, for the fixture


# Where it listens, and who stands before it


def test_unix_and_ipv6_listeners(stack, upstream):
    path = stack.folder / "http.sock"
    port = free_port()
    argv = ["dynamo-frontend", "--listen", f"unix:{path}", "--listen", f"[::1]:{port}", "--worker", upstream.url]
    server = stack.server("frontend", argv, stack.env({"DYN_HTTP_UNIX_SOCKET_MODE": "0600"}), port)
    eventually("both are announced", lambda: len(has_said(server, "listening")) == 2)
    assert path.stat().st_mode & 0o777 == 0o600
    curl = ["curl", "-sg", "-o", "/dev/null", "-w", "%{http_code}"]
    for target in (["--unix-socket", str(path), "http://x/live"], [f"http://[::1]:{port}/live"]):
        done = subprocess.run([*curl, *target], capture_output=True, text=True, timeout=20)
        assert done.stdout == "200", (target, done)
    assert server.stop() == 0 and not path.exists()


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="needs haproxy")
def test_a_real_proxy_tells_whom_it_speaks_for(stack, upstream, receiver):
    front, back = free_port(), free_port()
    config = stack.folder / "haproxy.cfg"
    config.write_text(
        f"""defaults
  mode tcp
  timeout connect 5s
  timeout client 20s
  timeout server 20s
listen edge
  bind 127.0.0.1:{front}
  server frontend 127.0.0.1:{back} send-proxy-v2 source 127.0.0.9
"""
    )
    env = {"DYN_HTTP_PROXY_PROTOCOL_PEERS": "127.0.0.9"}
    argv = ["dynamo-frontend", "--http-host=127.0.0.1", f"--http-port={back}", "--worker", upstream.url]
    frontend = stack.server("frontend", argv, stack.env(env, receiver), back)
    frontend.wait_for("/ready")  # from 127.0.0.1, which is no proxy
    proxy = Server(["haproxy", "-db", "-f", str(config)], {"PATH": os.environ["PATH"]}, stack.folder / "haproxy.log", front)
    try:
        eventually("the proxy answers", lambda: proxy.status("/live") == 200)
        assert proxy.post(PATH, chat())[0] == 200
        config.write_text(config.read_text().replace("send-proxy-v2", "send-proxy"))
    finally:
        proxy.kill()

    def addresses():
        return [span.attributes.get("client.address") for span in receiver.spans if span.name == f"POST {PATH}"]

    eventually("its span has come", lambda: addresses() == ["127.0.0.1"])
    proxy = Server(["haproxy", "-db", "-f", str(config)], {"PATH": os.environ["PATH"]}, stack.folder / "haproxy.log", front)
    try:
        eventually("version 1 is refused", lambda: proxy.status("/live") == 0 and has_said(frontend, "speaks PROXY protocol version 1"))
    finally:
        proxy.kill()
    assert frontend.metrics().sum("dynamo_frontend_bad_proxy_headers_total") >= 1


def test_doctor_names_who_is_in_the_way(stack, upstream):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        argv = [BIN / "dynamo-frontend", "doctor", "--http-host=127.0.0.1", f"--http-port={port}", "--worker", upstream.url]
        done = subprocess.run(argv, env=stack.env(), capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    [line] = [line for line in done.stdout.splitlines() if f"listening on 127.0.0.1:{port}" in line]
    assert line.startswith("PROBLEM") and "in use" in line and f"(process {os.getpid()}) listens there" in line
