"""Starting, health, settings, and stopping without losing a request."""

import json
import re
import signal
import socket
import subprocess
import threading

import pytest
from support.processes import BIN, MODEL, ROOT, chat, eventually, events, free_port
from support.raw import Connection, post
from support.upstream import STREAM_HEAD, normal, token

PATH = "/v1/chat/completions"


def test_health_endpoints(stack):
    frontend = stack.frontend("--simulate", "1", "--model-name", MODEL)
    assert json.loads(frontend.get("/live")[2])["status"] == "live"
    health = json.loads(frontend.get("/health")[2])
    assert health["status"] == "healthy" and health["instances"]
    assert frontend.status("/ready") == 200
    version = json.loads(frontend.get("/version")[2])
    assert version["version"]


def test_without_workers_live_but_not_ready(stack):
    frontend = stack.frontend(ready=False)
    assert frontend.status("/live") == 200
    status, headers, _ = frontend.get("/ready")
    assert status == 503


def test_port_zero_picks_one_and_says_which(stack):
    frontend = stack.server("zero", ["dynamo-frontend", "--http-host=127.0.0.1", "--http-port=0"], stack.env(), 0)

    def announced():
        assert frontend.alive(), frontend.text()
        for record in frontend.records():
            if record["level"] == "INFO" and "listening" in record["message"].lower():
                match = re.search(r"127\.0\.0\.1:(\d+)", json.dumps(record)) or re.search(r'"port": ?"?(\d+)', json.dumps(record))
                return match and int(match[1])

    port = eventually("the line that says where", announced)
    assert port > 0
    with socket.create_connection(("127.0.0.1", port), 5):
        pass


def test_taken_port_is_a_clear_failure(stack):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        frontend = stack.server("taken", ["dynamo-frontend", "--http-host=127.0.0.1", f"--http-port={port}"], stack.env(), port)
        assert frontend.wait() != 0
        frontend.child.returncode = 0  # as it should be, for the fixture
        assert "in use" in frontend.text() and str(port) in frontend.text()


@pytest.mark.parametrize("binary", ["dynamo-frontend", "dynamo-worker"])
def test_help_and_unknown_flag(binary):
    done = subprocess.run([BIN / binary, "--help"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0 and "--discovery-backend" in done.stdout
    done = subprocess.run([BIN / binary, "--no-such-flag"], capture_output=True, text=True, timeout=20)
    assert done.returncode != 0 and "--no-such-flag" in done.stderr
    assert "Fatal" not in done.stderr and "0x" not in done.stderr


def test_near_miss_of_a_flag_gets_a_hint():
    done = subprocess.run([BIN / "dynamo-frontend", "--http-prot=1"], capture_output=True, text=True, timeout=20)
    assert done.returncode != 0 and "--http-port" in done.stderr


def test_all_faults_of_the_settings_are_reported_at_once():
    command = [BIN / "dynamo-frontend", "--http-port=x", "--router-mode=fastest", "--threads=-1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode != 0
    for flag in ("--http-port", "--router-mode", "--threads"):
        assert flag in done.stderr


def test_version_subcommand():
    done = subprocess.run([BIN / "dynamo-frontend", "version"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0 and re.search(r"\d+\.\d+", done.stdout)


def test_doctor_prints_settings_and_where_they_came_from(stack):
    done = subprocess.run(
        [BIN / "dynamo-frontend", "doctor", "--http-port=4321"], capture_output=True, text=True, timeout=30,
        env=stack.env({"DYN_ROUTER_MODE": "round-robin"}),
    )  # fmt: skip
    text = done.stdout + done.stderr
    assert "4321" in text and "round-robin" in text


def test_flag_beats_environment_beats_file(stack, upstream):
    port, from_file = free_port(), free_port()
    config = stack.folder / "settings.env"
    config.write_text(f"# comment\nDYN_HTTP_PORT={from_file}\nDYN_WORKERS={upstream.url}\nDYN_HTTP_HOST=127.0.0.1\n")
    by_file = stack.server("file", ["dynamo-frontend", "--config", str(config)], stack.env(), from_file)
    by_file.wait_for("/ready")
    by_env = stack.server("env", ["dynamo-frontend", "--config", str(config)], stack.env({"DYN_HTTP_PORT": port}), port)
    by_env.wait_for("/ready")
    other = free_port()
    argv = ["dynamo-frontend", "--config", str(config), "--http-port", str(other)]
    by_flag = stack.server("flag", argv, stack.env({"DYN_HTTP_PORT": port}), other)
    by_flag.wait_for("/ready")


def test_dynamo_flag_we_do_not_act_on_is_warned_about_once(stack):
    frontend = stack.frontend("--simulate", "1", "--model-name", MODEL, "--request-plane", "nats")

    def warnings():
        return [r for r in frontend.records() if r["level"] == "WARN" and "request-plane" in json.dumps(r)]

    eventually("the warning is written", warnings)
    assert len(warnings()) == 1


def test_idle_stop_is_clean(stack):
    env = {"DYN_GRACEFUL_SHUTDOWN_GRACE_PERIOD_SECS": 0}
    for number in (signal.SIGTERM, signal.SIGINT):
        frontend = stack.frontend("--simulate", "1", "--model-name", MODEL, env=env)
        frontend.signal(number)
        assert frontend.wait() == 0


def test_drain_lets_open_streams_finish(stack, upstream):
    frontend = stack.frontend("--worker", upstream.url, env={"DYN_GRACEFUL_SHUTDOWN_GRACE_PERIOD_SECS": 0})
    go_on = threading.Event()

    def engine(peer, seen):
        peer.send(STREAM_HEAD)
        peer.event(token(0))
        assert go_on.wait(20)
        peer.event(token(1, finish="stop"))
        peer.event("[DONE]")
        peer.send(b"0\r\n\r\n")

    upstream.behaviour = engine
    with Connection(frontend.port) as connection:
        connection.send(post(PATH, json.dumps(chat(stream=True)).encode()))
        connection.until(b" t0")
        frontend.signal(signal.SIGTERM)
        eventually("the listener is closed", lambda: frontend.status("/live") == 0)
        go_on.set()
        assert b"[DONE]" in connection.rest()
    assert frontend.wait() == 0


def test_grace_period_turns_ready_red_and_still_serves(stack, upstream):
    frontend = stack.frontend("--worker", upstream.url, env={"DYN_GRACEFUL_SHUTDOWN_GRACE_PERIOD_SECS": 3})
    frontend.signal(signal.SIGTERM)
    frontend.wait_for("/ready", 503)
    assert frontend.post(PATH, chat())[0] == 200
    assert frontend.wait() == 0


def test_kept_alive_connection_is_told_to_close_while_draining(stack, upstream):
    env = {"DYN_GRACEFUL_SHUTDOWN_GRACE_PERIOD_SECS": 0, "DYN_HTTP_GRACEFUL_SHUTDOWN_TIMEOUT_SECS": 10}
    frontend = stack.frontend("--worker", upstream.url, env=env)
    release = threading.Event()
    upstream.behaviour = lambda peer, seen: (release.wait(20), normal(peer, seen))
    with Connection(frontend.port) as connection:
        connection.send(post(PATH, json.dumps(chat()).encode()))
        upstream.wait_requests()
        frontend.signal(signal.SIGTERM)
        eventually("the listener is closed", lambda: frontend.status("/live") == 0)
        release.set()
        response = connection.response()
        assert response.status == 200 and response.header("connection") == "close"
        assert connection.is_closed()
    assert frontend.wait() == 0


def test_second_signal_ends_at_once(stack, upstream):
    env = {"DYN_GRACEFUL_SHUTDOWN_GRACE_PERIOD_SECS": 0, "DYN_HTTP_GRACEFUL_SHUTDOWN_TIMEOUT_SECS": 60}
    frontend = stack.frontend("--worker", upstream.url, env=env)
    upstream.behaviour = lambda peer, seen: peer.wait_closed(30)
    with Connection(frontend.port) as connection:
        connection.send(post(PATH, json.dumps(chat()).encode()))
        upstream.wait_requests()
        frontend.signal(signal.SIGTERM)
        eventually("the listener is closed", lambda: frontend.status("/live") == 0)

        def ended():
            # One that comes within a second of the first is its echo; a later one is a second wish.
            if frontend.alive():
                frontend.signal(signal.SIGTERM)
            return not frontend.alive()

        eventually("it ended", ended, 10, 0.2)
        frontend.child.returncode = 0


def test_an_echo_of_the_signal_is_not_a_second_wish(stack):
    """Ctrl-C goes to the whole group, and a script that started the server passes it on."""
    stack.worker()
    frontend = stack.frontend()
    result = []
    body = chat(stream=True, max_completion_tokens=60, ignore_eos=True)
    caller = threading.Thread(target=lambda: result.append(frontend.post(PATH, body)))
    caller.start()
    eventually("it streams", lambda: frontend.metrics().sum("dynamo_frontend_active_requests") == 1)
    for number in (signal.SIGINT, signal.SIGTERM):
        frontend.signal(number)
    caller.join(30)
    status, _, answer = result[0]
    assert status == 200 and events(answer)[-1] == "[DONE]"
    assert frontend.wait() == 0


def test_worker_drains_too(stack):
    worker = stack.worker(env={"DYN_GRACEFUL_SHUTDOWN_GRACE_PERIOD_SECS": 0})
    frontend = stack.frontend()
    result = []
    body = chat(stream=True, max_completion_tokens=60, ignore_eos=True)
    thread = threading.Thread(target=lambda: result.append(frontend.post(PATH, body)))
    thread.start()
    eventually("the worker is at it", lambda: frontend.metrics().sum("dynamo_frontend_active_requests") == 1)
    worker.signal(signal.SIGTERM)
    thread.join(30)
    assert worker.wait() == 0
    status, _, answer = result[0]
    assert status == 200 and events(answer)[-1] == "[DONE]" and b'"error"' not in answer


def test_worker_system_port(stack):
    from support.processes import request

    system = free_port()
    stack.worker(env={"DYN_SYSTEM_PORT": system})
    health = eventually("healthy", lambda: (a := request(system, "GET", "/health"))[0] == 200 and a)
    assert json.loads(health[2])["status"] == "ready"
    assert request(system, "GET", "/live")[0] == 200
    assert b"dynamo_component_" in request(system, "GET", "/metrics")[2]


def test_discovery_folder_is_made_private(stack):
    stack.store.rmdir()
    stack.worker()
    assert stack.store.stat().st_mode & 0o777 == 0o700
    assert list(stack.store.rglob("v1/instances/*/*/*/*")) or list(stack.store.rglob("*generate*"))


def test_readable_log_is_no_json(stack):
    frontend = stack.frontend("--simulate", "1", "--model-name", MODEL, env={"DYN_LOGGING_JSONL": None})
    lines = eventually("the first lines", lambda: frontend.text().splitlines())
    assert not any(line.startswith("{") for line in lines)


def test_log_lines_are_whole_json_objects(stack):
    frontend = stack.frontend("--simulate", "1", "--model-name", MODEL)
    frontend.post(PATH, chat(), {"x-request-id": 'quote"back\\slash'})
    frontend.stop()
    lines = frontend.text().splitlines()
    assert lines
    for line in lines:
        record = json.loads(line)
        assert list(record)[0] == "time" and list(record)[1] == "level" and "target" in record and "message" in record
        rest = list(record)[4:]
        assert rest == sorted(rest)
    assert any(json.loads(line).get("x_request_id") == 'quote"back\\slash' for line in lines)


def test_binaries_need_no_toolchain():
    for binary in ("dynamo-frontend", "dynamo-worker"):
        needed = subprocess.run(["ldd", BIN / binary], capture_output=True, text=True, check=True).stdout
        assert "libswift" not in needed and "libFoundation" not in needed and "not found" not in needed, needed


def test_stderr_that_nobody_reads_blocks_no_request(stack, upstream):
    """A full log pipe costs lines, never requests."""
    import os

    read_end, write_end = os.pipe()
    port = free_port()
    argv = [str(BIN / "dynamo-frontend"), "--http-host=127.0.0.1", f"--http-port={port}", "--worker", upstream.url]
    child = subprocess.Popen(argv, env=stack.env(), stderr=write_end, stdout=subprocess.DEVNULL)
    try:
        os.close(write_end)
        from support.processes import request

        def ready():
            try:
                return request(port, "GET", "/ready")[0] == 200
            except OSError:
                return False

        eventually("ready", ready)
        for index in range(400):
            assert request(port, "POST", PATH, chat(), {"x-request-id": f"{index}-" + "x" * 100})[0] == 200
    finally:
        child.kill()
        child.wait()
        os.close(read_end)


@pytest.mark.timeout(400)
def test_quick_start_prints_a_curl_line_that_works(stack):
    """Scripts/run.sh as a newcomer runs it; needs the build this tree already has."""
    if BIN != ROOT / ".build/release":
        pytest.skip("DYNAMO_BIN names another build")
    import os

    port = free_port()
    page = free_port()
    env = {**os.environ, "DYN_HTTP_PORT": str(port), "DYN_FILE_KV": str(stack.store)}
    env |= {"DYN_TRACE_STORE_HTTP_PORT": str(page), "DYN_TRACE_STORE_OTLP_GRPC_PORT": "0", "DYN_TRACE_STORE_OTLP_HTTP_PORT": "0"}
    from support.processes import Server

    script = Server([str(ROOT / "Scripts/run.sh")], env, stack.folder / "run.log", port)
    stack.started.append(script)
    text = eventually("the curl line", lambda: script.alive() and "Ctrl-C" in script.text() and script.text(), 360, 0.2)
    command = text[text.index("  curl ") : text.index("Then look")]
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60, check=True)
    assert events(done.stdout)[-1] == "[DONE]"
    link = f"http://localhost:{page}/request/test-trace-001"
    assert link in text
    shown = subprocess.run(["curl", "-sf", link], capture_output=True, timeout=10, check=True)
    assert b"<!doctype html>" in shown.stdout
    search = f"http://localhost:{page}/api/search?tags=x_request_id%3Dtest-trace-001"
    eventually("the trace", lambda: b"traceID" in subprocess.run(["curl", "-s", search], capture_output=True).stdout)
    script.signal(signal.SIGINT)
    assert script.wait(30) == 130
    assert script.status("/live") == 0
