"""Log lines for people: colours on a terminal and nowhere else; and doctor's look at telemetry."""

import os
import pty
import re
import socket
import subprocess

from support.processes import BIN, MODEL, Server, chat, eventually, free_port

PATH = "/v1/chat/completions"
COLOURED = re.compile(r"\x1b\[2m(\d{4}-\d\d-\d\dT[\d:.]+Z)\x1b\[0m  \x1b\[32mINFO\x1b\[0m \x1b\[2m([\w:]+)\x1b\[0m: (.*)")


def terminal_lines(stack, **env) -> list[str]:
    """What a frontend writes to a terminal while it serves one request."""
    port = free_port()
    ours, its = pty.openpty()
    argv = [str(BIN / "dynamo-frontend"), "--http-host=127.0.0.1", f"--http-port={port}", "--simulate=1", "--model-name", MODEL]
    full = stack.env({"DYN_LOGGING_JSONL": None, "TERM": "xterm", **env})
    child = subprocess.Popen(argv, env=full, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=its, start_new_session=True)
    os.close(its)
    text = b""
    try:
        server = Server.__new__(Server)
        server.argv, server.child, server.port = argv, child, port
        server.text = lambda: ""
        server.wait_for("/ready")
        assert server.post(PATH, chat(), {"x-request-id": "seen"})[0] == 200
        child.terminate()
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:
                break
            if not piece:
                break
            text += piece
        assert child.wait(15) == 0
    finally:
        child.kill()
        child.wait(10)
        os.close(ours)
    return text.decode().splitlines()


def test_lines_have_colours_on_a_terminal(stack):
    lines = terminal_lines(stack)
    matches = [match for line in lines if (match := COLOURED.match(line))]
    done = next(m for m in matches if m[2] == "dynamo_frontend::http")
    assert done[3].startswith("request completed \x1b[2mattempts\x1b[0m=1 ")
    assert "\x1b[2mx_request_id\x1b[0m=seen" in done[3]


def test_colours_can_be_declined(stack):
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}, {"DYN_SDK_DISABLE_ANSI_LOGGING": "true"}):
        lines = terminal_lines(stack, **env)
        assert any("request completed attempts=1 " in line for line in lines), env
        assert not any("\x1b" in line for line in lines), env


def test_json_lines_have_none_even_on_a_terminal(stack):
    lines = terminal_lines(stack, DYN_LOGGING_JSONL="true")
    assert any(line.startswith('{"time":"') for line in lines)
    assert not any("\x1b" in line for line in lines)


def test_a_failing_engines_line_names_its_request_and_trace(stack, receiver, upstream):
    upstream.behaviour = lambda peer, seen: peer.reset()
    worker = stack.worker("--engine", "openai", "--engine-url", upstream.url, receiver=receiver)
    worker.post(PATH, chat(), {"x-request-id": "broken-engine"})
    line = eventually(
        "the engine's line", lambda: [r for r in worker.records() if r["message"] == "engine failed a request"]
    )[0]
    assert line["x_request_id"] == "broken-engine"
    assert len(line["trace_id"]) == 32 and len(line["span_id"]) == 16 and len(line["request_id"]) == 36
    assert line["span_name"] == "handle_payload"


def doctor(stack, *args, program="dynamo-frontend", **env) -> tuple[int, str]:
    done = subprocess.run([BIN / program, "doctor", *args], env=stack.env(env), capture_output=True, text=True, timeout=30)
    assert not done.stderr
    return done.returncode, done.stdout.split("checks:\n")[1]


def test_doctor_knows_the_spool(stack, receiver):
    spool = stack.folder / "spool"
    env = {"OTEL_EXPORT_ENABLED": "1", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": receiver.endpoint, "DYN_TRACE_SPOOL_DIR": str(spool)}
    status, text = doctor(stack, **env)
    assert status == 0 and f"ok       spool {spool}, which is made at the start\n" in text
    (spool / "dynamo-frontend").mkdir(parents=True)
    (spool / "dynamo-frontend" / "01000000000000000000.spans").write_bytes(bytes(4096))
    (spool / "other").mkdir()
    (spool / "other" / "01000000000000000000.spans").write_bytes(bytes(4096))
    status, text = doctor(stack, **env)
    assert status == 0
    assert re.search(rf"^ok +spool {spool}: 1 files with 4 KiB of 256 MiB, the oldest from \d{{9}} s ago$", text, re.M), text
    status, text = doctor(stack, program="dynamo-worker", **env)
    assert status == 0 and f"spool {spool}: 0 files" in text
    status, text = doctor(stack, **{**env, "DYN_TRACE_SPOOL_DIR": f"{stack.folder}/no/where"})
    assert status == 1 and re.search(r"^PROBLEM +spool .*/no/where, .*No such file", text, re.M), text


def test_doctor_knows_the_trace_store(stack):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        free = free_port()
        args = ("--trace-store", f"--trace-store-http-port={port}", f"--trace-store-otlp-grpc-port={free}", "--trace-store-otlp-http-port=0")
        status, text = doctor(stack, *args)
        assert status == 1
        assert "note     trace store keeps 64 MiB and " in text
        assert re.search(rf"^PROBLEM +trace store, 127.0.0.1:{port} for the page and queries: bind", text, re.M), text
        assert f"ok       trace store, 127.0.0.1:{free} for OTLP over gRPC\n" in text
        assert "OTLP over HTTP" not in text
    status, text = doctor(stack, *args, f"--trace-store-file={stack.folder}/traces")
    assert status == 0 and f"ok       trace store's file {stack.folder}/traces\n" in text


def test_doctor_looks_at_all_receivers_and_at_request_traces(stack):
    nowhere = f"http://127.0.0.1:{free_port()}"
    status, text = doctor(
        stack, OTEL_METRICS_EXPORTER="otlp", OTEL_LOGS_EXPORTER="otlp", OTEL_EXPORTER_OTLP_ENDPOINT=nowhere,
        DYN_REQUEST_TRACE="1", DYN_REQUEST_TRACE_FILE_PATH="/nowhere/trace",
    )  # fmt: skip
    assert status == 1
    for name in ("collector of metrics 127", "collector of logs 127", "request-trace records in /nowhere/trace.000000.jsonl.gz"):
        assert re.search(rf"^PROBLEM +{re.escape(name)}", text, re.M), text
    assert "note     span export is off" in text
