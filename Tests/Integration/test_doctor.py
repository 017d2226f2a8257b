"""`dynamo-frontend doctor` on workers and limits. Telemetry is in test_console.py, listeners in test_service.py."""

from __future__ import annotations

import resource
import subprocess

from support.certificates import Authority
from support.processes import BIN, MODEL, free_port


def doctor(stack, *arguments: str, descriptors: int | None = None, **env: str) -> tuple[int, str]:
    def limit() -> None:
        if descriptors:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    argv = [BIN / "dynamo-frontend", "doctor", "--http-port=0", *arguments]
    done = subprocess.run(argv, env=stack.env(env), capture_output=True, text=True, timeout=30, preexec_fn=limit)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def line(text: str, name: str) -> str:
    (found,) = [line for line in text.splitlines() if name in line and line.startswith(("ok", "PROBLEM"))]
    return found


def test_doctor_asks_workers_for_their_models(stack, upstream):
    status, text = doctor(stack, "--worker", upstream.url)
    assert status == 0 and line(text, upstream.url) == f"ok       worker {upstream.url} serves {MODEL}"


def test_doctor_knows_a_model_that_a_worker_does_not_serve(stack, upstream):
    status, text = doctor(stack, "--worker", upstream.url, "--model-name", "another")
    assert status == 1 and line(text, upstream.url).endswith(f"serves {MODEL}: --model-name is another")


def test_doctor_says_why_a_worker_does_not_answer(stack, receiver):
    nobody = f"http://127.0.0.1:{free_port()}"
    status, text = doctor(stack, "--worker", nobody, "--worker", "http://name.invalid:1", "--worker", receiver.endpoint)
    assert status == 1
    assert line(text, nobody).startswith("PROBLEM") and "refused" in line(text, nobody)
    assert "no address" in line(text, "name.invalid")
    # Somebody listens who is no worker.
    assert line(text, receiver.endpoint).startswith("PROBLEM")


def test_doctor_verifies_a_workers_certificate(stack):
    authority = Authority(stack.folder)
    upstream = stack.upstream(tls=authority.server_context(authority.issue()))
    status, text = doctor(stack, "--worker", upstream.url)
    assert status == 1 and "certificate" in line(text, upstream.url), text
    status, text = doctor(stack, "--worker", upstream.url, DYN_WORKER_TLS_CA_PATH=str(authority.path))
    assert status == 0 and line(text, upstream.url).endswith(f"serves {MODEL}")
    status, text = doctor(stack, "--worker", upstream.url, DYN_WORKER_TLS_CA_PATH=f"{stack.folder}/none.pem")
    assert status == 1 and "none.pem" in text


def test_doctor_looks_at_the_limit_of_open_files(stack):
    status, text = doctor(stack, descriptors=512)
    assert status == 1 and "LimitNOFILE" in line(text, "512 open files")
    status, text = doctor(stack, descriptors=8192)
    assert status == 0 and line(text, "open files").startswith("ok")
    status, text = doctor(stack, descriptors=8192, DYN_HTTP_CONNECTION_LIMIT="10000")
    assert status == 1 and "10000 connections" in line(text, "open files")
