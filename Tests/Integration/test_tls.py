"""TLS at every edge: callers by HTTPS, workers by https, the collector by gRPC over TLS."""

import json
import signal
import socket
import ssl
import subprocess
import threading
import time
from http.client import HTTPSConnection

import grpc
import pytest

from support import h2peer
from support.certificates import Authority
from support.processes import Metrics, chat, eventually, free_port
from support.upstream import STREAM_HEAD, token

PATH = "/v1/chat/completions"


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


class Secure:
    """A frontend that serves HTTPS with a certificate of `authority`."""

    def __init__(self, stack, authority, *flags, env=None, receiver=None):
        self.authority = authority
        pair = authority.issue()
        # In places of their own, so that a test can put others there.
        self.certificate, self.key = stack.folder / "server.pem", stack.folder / "server.key"
        self.put(pair)
        self.port = free_port()
        argv = [
            "dynamo-frontend", "--http-host=127.0.0.1", f"--http-port={self.port}",
            f"--tls-cert-path={self.certificate}", f"--tls-key-path={self.key}", *flags,
        ]  # fmt: skip
        self.process = stack.server("frontend", argv, stack.env(env, receiver), self.port)
        eventually("it listens", lambda: "listening" in self.process.text() or not self.process.alive())
        assert self.process.alive(), self.process.text()

    def put(self, pair) -> None:
        self.certificate.write_bytes(pair.certificate.read_bytes())
        self.key.write_bytes(pair.key.read_bytes())

    def curl(self, path, *arguments, roots=None, body=None):
        """Exit status of curl, and what it printed."""
        command = ["curl", "-sS", "--max-time", "20", "--cacert", str(roots or self.authority.path), *arguments]
        if body is not None:
            command += ["-H", "content-type: application/json", "--data", json.dumps(body)]
        done = subprocess.run([*command, f"https://localhost:{self.port}{path}"], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def connection(self, timeout=20, pair=None) -> HTTPSConnection:
        context = ssl.create_default_context(cafile=self.authority.path)
        if pair:
            context.load_cert_chain(pair.certificate, pair.key)
        return HTTPSConnection("localhost", self.port, timeout=timeout, context=context)

    def get(self, path, pair=None):
        connection = self.connection(pair=pair)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def ready(self, pair=None) -> None:
        eventually("it is ready", lambda: self.get("/ready", pair)[0] == 200)

    def metrics(self, pair=None) -> Metrics:
        return Metrics(self.get("/metrics", pair)[1].decode())

    def handshakes(self, outcome, peer="client", pair=None) -> float:
        return self.metrics(pair).sum("dynamo_frontend_tls_handshakes_total", peer=peer, outcome=outcome)

    def served_serial(self) -> str:
        with socket.create_connection(("127.0.0.1", self.port)) as plain:
            context = ssl.create_default_context(cafile=self.authority.path)
            with context.wrap_socket(plain, server_hostname="localhost") as wrapped:
                return wrapped.getpeercert()["serialNumber"]


# Callers


def test_answers_come_over_https_streamed_and_not(stack, upstream, authority):
    frontend = Secure(stack, authority, "--worker", upstream.url)
    frontend.ready()
    for flag, version in [("--http2", "2"), ("--http1.1", "1.1")]:
        code, text = frontend.curl(PATH, flag, "-w", "\n%{http_code} %{http_version}", body=chat())
        assert code == 0 and text.endswith(f"\n200 {version}") and " t0 t1 t2 t3" in text
    code, text = frontend.curl(PATH, "-N", body=chat(stream=True))
    assert code == 0 and text.count("data: ") >= 5 and text.rstrip().endswith("data: [DONE]")
    # curl offers h2 first and takes what there is.
    assert frontend.curl("/live", "--http2", "-w", "%{http_version}")[1].endswith("2")
    for version in ("1.2", "1.3"):
        flags = [f"--tlsv{version}", "--tls-max", version]
        assert frontend.curl("/live", *flags)[0] == 0, version
    metrics = frontend.metrics()
    assert metrics.sum("dynamo_frontend_tls_handshakes_total", peer="client", outcome="ok") >= 5
    end = metrics.sum("dynamo_frontend_tls_certificate_not_after_timestamp_seconds")
    assert 86_400 < end - time.time() < 3 * 86_400


def test_spans_tell_the_scheme_and_the_version(stack, upstream, authority):
    receiver = stack.receiver()
    server = Secure(stack, authority, "--worker", upstream.url, receiver=receiver)
    server.ready()
    for name, version in (("now", "1.1"), ("before", "1.0")):
        assert server.curl(PATH, "--no-alpn", f"--http{version}", "-H", f"x-request-id: {name}", body=chat())[0] == 0
        trace = receiver.trace(name, "kv_router.route_request")
        root = trace.root().attributes
        assert (root["url.scheme"], root["network.protocol.version"]) == ("https", version)
        assert trace.one("http-request").attributes["version"] == f"HTTP/{version}"
        attempt = trace.one("kv_router.route_request").attributes
        assert attempt["url.full"] == upstream.url + PATH
        assert (attempt["server.address"], attempt["server.port"]) == ("127.0.0.1", upstream.port)


def test_tokens_come_as_they_are_made(stack, upstream, authority):
    go_on = threading.Event()

    def slow(peer, seen):
        peer.send(STREAM_HEAD)
        peer.event(token(0, "first"))
        go_on.wait(20)
        peer.event(token(1, "second"))
        peer.event("[DONE]")
        peer.send(b"0\r\n\r\n")

    upstream.behaviour = slow
    frontend = Secure(stack, authority, "--worker", upstream.url)
    frontend.ready()
    connection = frontend.connection()
    connection.request("POST", PATH, json.dumps(chat(stream=True)), {"content-type": "application/json"})
    answer = connection.getresponse()
    assert b"first" in answer.readline()
    go_on.set()
    assert b"second" in answer.read()


def test_large_requests_and_answers_arrive_whole(stack, upstream, authority):
    text = "0123456789" * 200_000

    def echo(peer, seen):
        content = seen.json()["messages"][0]["content"]
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        peer.answer(200, {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})

    upstream.behaviour = echo
    frontend = Secure(stack, authority, "--worker", upstream.url)
    frontend.ready()
    connection = frontend.connection()
    for _ in range(3):
        connection.request("POST", PATH, json.dumps(chat(text)), {"content-type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200
        assert json.loads(answer.read())["choices"][0]["message"]["content"] == text
    assert frontend.handshakes("ok") >= 1


def test_a_caller_that_leaves_cancels_its_request(stack, upstream, authority):
    def stuck(peer, seen):
        peer.send(STREAM_HEAD)
        peer.event(token(0))
        assert peer.wait_closed()
        seen.cancelled.set()

    upstream.behaviour = stuck
    frontend = Secure(stack, authority, "--worker", upstream.url)
    frontend.ready()
    connection = frontend.connection()
    connection.request("POST", PATH, json.dumps(chat(stream=True)), {"content-type": "application/json"})
    answer = connection.getresponse()
    answer.readline()
    answer.close()
    connection.close()
    [seen] = upstream.requests
    assert seen.cancelled.wait(20)


def test_what_is_not_accepted_is_refused_and_counted(stack, upstream, authority, tmp_path):
    frontend = Secure(stack, authority, "--worker", upstream.url)
    frontend.ready()
    stranger = Authority(tmp_path, "stranger")
    code, text = frontend.curl("/live", roots=stranger.path)
    assert code == 60, text
    eventually("the alert is counted", lambda: frontend.handshakes("alert") == 1)

    # Our own OpenSSL would not even offer TLS 1.1 unless it is told to be lax.
    old = ["s_client", "-connect", f"localhost:{frontend.port}", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]
    refused = subprocess.run(["openssl", *old], input=b"", capture_output=True)
    assert refused.returncode != 0 and b"protocol version" in refused.stderr
    eventually("the version is counted", lambda: frontend.handshakes("no_common_parameters") == 1)

    with socket.create_connection(("127.0.0.1", frontend.port)) as plain:
        plain.sendall(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = b""
        while data := plain.recv(4096):
            answer += data
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.endswith(b"This port speaks HTTPS only")
    assert frontend.handshakes("plain_http") == 1

    only = subprocess.run(
        ["openssl", "s_client", "-connect", f"localhost:{frontend.port}", "-alpn", "h3"], input=b"", capture_output=True
    )
    assert b"no application protocol" in only.stderr
    assert frontend.handshakes("no_application_protocol") == 1


def test_renegotiation_is_refused(stack, upstream, authority):
    frontend = Secure(stack, authority, "--worker", upstream.url)
    command = ["openssl", "s_client", "-connect", f"localhost:{frontend.port}", "-tls1_2"]
    done = subprocess.run(command, input=b"R\n", capture_output=True, timeout=20)
    assert b"RENEGOTIATING" in done.stdout + done.stderr and b"no renegotiation" in done.stderr


@pytest.mark.parametrize(
    "offered, chosen",
    [
        ("ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        ("ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    ],
)
def test_the_server_chooses_the_cipher(stack, upstream, authority, offered, chosen):
    """ChaCha20 where the caller puts it first: it has no AES in hardware."""
    frontend = Secure(stack, authority, "--worker", upstream.url)
    context = ssl.create_default_context(cafile=authority.path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    # The certificate's key decides which of the two kinds it is.
    context.set_ciphers(offered + ":" + offered.replace("ECDSA", "RSA"))
    with socket.create_connection(("127.0.0.1", frontend.port), timeout=20) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as secure:
            assert secure.cipher()[0].replace("RSA", "ECDSA") == chosen


def test_a_handshake_has_a_deadline(stack, upstream, authority):
    frontend = Secure(stack, authority, "--worker", upstream.url, env={"DYN_HTTP_TLS_HANDSHAKE_TIMEOUT_SECS": "0.3"})
    with socket.create_connection(("127.0.0.1", frontend.port), timeout=20) as silent:
        assert silent.recv(1) == b""
    assert frontend.handshakes("timeout") == 1


def test_client_certificates_are_required_where_asked_for(stack, upstream, authority, tmp_path):
    clients = Authority(tmp_path, "clients")
    own = clients.issue(usage="clientAuth")
    foreign = Authority(tmp_path, "stranger").issue(usage="clientAuth")
    frontend = Secure(stack, authority, "--worker", upstream.url, f"--tls-client-ca-cert-path={clients.path}")
    frontend.ready(own)
    assert frontend.curl("/live")[0] != 0
    shown = ["--cert", str(foreign.certificate), "--key", str(foreign.key)]
    assert frontend.curl("/live", *shown)[0] != 0
    shown = ["--cert", str(own.certificate), "--key", str(own.key)]
    code, text = frontend.curl(PATH, *shown, body=chat())
    assert code == 0 and " t0" in text
    assert frontend.handshakes("no_certificate", pair=own) == 1
    assert frontend.handshakes("bad_certificate", pair=own) == 1


# Files


def start_error(stack, *flags, env=None) -> str:
    process = stack.server("frontend", ["dynamo-frontend", "--http-port=0", *flags], stack.env(env), 0)
    process.wait()
    stack.started.remove(process)
    assert process.child.returncode == 1, process.text()
    return process.text().strip().splitlines()[-1]


def test_bad_files_are_refused_at_start(stack, authority):
    pair, other = authority.issue(), authority.issue()
    certificate, key = f"--tls-cert-path={pair.certificate}", f"--tls-key-path={pair.key}"
    assert "--tls-key-path is not" in start_error(stack, certificate)
    assert "--tls-cert-path is not" in start_error(stack, key)
    assert "needs --tls-cert-path" in start_error(stack, f"--tls-client-ca-cert-path={authority.path}")
    assert start_error(stack, certificate, "--tls-key-path=/no/such").endswith(
        "cannot serve TLS: /no/such: No such file or directory"
    )
    wrong = start_error(stack, certificate, f"--tls-key-path={other.key}")
    assert f"{other.key}: key values mismatch" in wrong
    assert "holds no certificate" in start_error(stack, f"--tls-cert-path={pair.key}", key)
    assert "/no/such" in start_error(stack, env={"DYN_WORKER_TLS_CA_PATH": "/no/such"})
    assert "go together" in start_error(stack, env={"DYN_WORKER_TLS_CERT_PATH": str(pair.certificate)})
    export = {"OTEL_EXPORT_ENABLED": "1", "OTEL_EXPORTER_OTLP_ENDPOINT": "https://localhost:4317"}
    assert "/no/such" in start_error(stack, env={**export, "OTEL_EXPORTER_OTLP_CERTIFICATE": "/no/such"})


@pytest.mark.parametrize("has_file", [True, False])
def test_a_certificate_is_replaced_under_traffic_and_no_request_is_lost(stack, upstream, authority, has_file):
    flags = []
    if has_file:
        (stack.folder / "frontend.conf").write_text("DYN_HTTP_BODY_LIMIT_MB=9\n")
        flags = ["--config", str(stack.folder / "frontend.conf")]
    frontend = Secure(stack, authority, "--worker", upstream.url, "--threads", "2", *flags)
    frontend.ready()
    statuses: list[int] = []
    stop = threading.Event()

    def ask(keeps: bool):
        connection = frontend.connection()
        while not stop.is_set():
            connection.request("POST", PATH, json.dumps(chat(stream=True)), {"content-type": "application/json"})
            answer = connection.getresponse()
            body = answer.read()
            statuses.append(answer.status if b"[DONE]" in body else 0)
            if not keeps:
                connection.close()

    threads = [threading.Thread(target=ask, args=(index % 2 == 0,)) for index in range(4)]
    for thread in threads:
        thread.start()
    serials = {frontend.served_serial()}
    for _ in range(5):
        frontend.put(authority.issue())
        count = len(said(frontend, " read again"))
        frontend.process.signal(signal.SIGHUP)
        eventually("it is read", lambda: len(said(frontend, " read again")) > count)
        eventually("it is served", lambda: frontend.served_serial() not in serials)
        serials.add(frontend.served_serial())
    asked = len(statuses)
    eventually("traffic goes on", lambda: len(statuses) > asked + 10)
    stop.set()
    for thread in threads:
        thread.join()
    assert len(serials) == 6 and set(statuses) == {200}


def said(frontend, message: str) -> list[dict]:
    return [record for record in frontend.process.records() if message in record["message"]]


def test_a_bad_certificate_changes_nothing(stack, upstream, authority):
    (stack.folder / "frontend.conf").write_text("DYN_HTTP_BODY_LIMIT_MB=9\n")
    frontend = Secure(stack, authority, "--worker", upstream.url, "--config", str(stack.folder / "frontend.conf"))
    frontend.ready()
    serial = frontend.served_serial()
    frontend.key.write_text("no key")
    (stack.folder / "frontend.conf").write_text("DYN_HTTP_BODY_LIMIT_MB=1\n")
    frontend.process.signal(signal.SIGHUP)
    [fault] = eventually("it is said", lambda: said(frontend, "configuration is not taken over"))
    assert fault["fault"].endswith(f"{frontend.key}: holds no private key in PEM form")
    assert frontend.served_serial() == serial
    connection = frontend.connection()
    connection.request("POST", PATH, json.dumps(chat("x" * 1_500_000)), {"content-type": "application/json"})
    assert connection.getresponse().status == 200, "the body limit has not changed either"


# Workers


def test_a_worker_by_https_is_verified(stack, authority):
    pair = authority.issue()
    worker = stack.upstream(tls=authority.server_context(pair))
    frontend = stack.frontend("--worker", worker.url, env={"DYN_WORKER_TLS_CA_PATH": str(authority.path)})
    for stream in (False, True):
        status, _, body = frontend.post(PATH, chat(stream=stream))
        assert status == 200 and b" t3" in body
    metrics = frontend.metrics()
    assert metrics.sum("dynamo_frontend_tls_handshakes_total", peer="worker", outcome="ok") >= 2
    assert metrics.sum("dynamo_frontend_tls_handshakes_total", peer="worker") == metrics.sum(
        "dynamo_frontend_tls_handshakes_total", peer="worker", outcome="ok"
    )


def test_a_worker_by_https_that_speaks_http2_gets_it(stack, authority):
    worker = h2peer.Worker(tls=authority.server_context(authority.issue()))
    stack.started.append(worker)
    frontend = stack.frontend("--worker", worker.url, env={"DYN_WORKER_TLS_CA_PATH": str(authority.path)})
    for stream in (False, True):
        status, _, body = frontend.post(PATH, chat(stream=stream))
        assert status == 200 and b"two" in body
    assert [stream.headers[":scheme"] for stream in worker.seen] == ["https", "https"]


def test_the_authority_of_workers_is_read_again_on_sighup(stack, authority, tmp_path):
    stranger = Authority(tmp_path, "stranger")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(authority.path.read_bytes())
    worker = stack.upstream(tls=authority.server_context(authority.issue()))
    frontend = stack.frontend("--worker", worker.url, env={"DYN_WORKER_TLS_CA_PATH": str(trusted)})
    assert frontend.post(PATH, chat())[0] == 200
    trusted.write_text("no certificate")
    frontend.signal(signal.SIGHUP)
    fault = eventually("it is said", lambda: [r for r in frontend.records() if "not taken over" in r["message"]])
    assert fault[0]["fault"] == f"workers: TLS to workers: {trusted}: holds no certificate in PEM form"
    assert frontend.post(PATH, chat())[0] == 200
    trusted.write_bytes(stranger.path.read_bytes())
    frontend.signal(signal.SIGHUP)
    assert "unable to get local issuer" in unreachable_reason(frontend)
    trusted.write_bytes(authority.path.read_bytes())
    frontend.signal(signal.SIGHUP)
    eventually("it is trusted again", lambda: frontend.post(PATH, chat())[0] == 200)


def test_each_address_of_a_name_is_verified_by_the_name(stack, authority):
    worker = stack.upstream(tls=authority.server_context(authority.issue(names="DNS:localhost")))
    url = f"dns+https://localhost:{worker.port}"
    frontend = stack.frontend("--worker", url, env={"DYN_WORKER_TLS_CA_PATH": str(authority.path)})
    assert frontend.post(PATH, chat())[0] == 200
    assert worker.requests[0].header("host") == f"localhost:{worker.port}"


def unreachable_reason(frontend) -> str:
    return eventually(
        "the worker is refused", lambda: [r["reason"] for r in frontend.records() if "unreachable" in r["message"]]
    )[0]


def test_a_worker_that_cannot_be_verified_gets_no_request(stack, authority, tmp_path):
    stranger = Authority(tmp_path, "stranger")
    elsewhere = authority.issue(names="DNS:elsewhere.example")
    cases = [
        # The machine's own authorities do not know ours.
        (authority.issue(), authority, {}, "unable to get local issuer certificate"),
        (stranger.issue(), stranger, {"DYN_WORKER_TLS_CA_PATH": str(authority.path)}, "unable to get local issuer"),
        (elsewhere, authority, {"DYN_WORKER_TLS_CA_PATH": str(authority.path)}, "IP address mismatch"),
    ]
    for pair, signer, env, reason in cases:
        worker = stack.upstream(tls=signer.server_context(pair))
        frontend = stack.frontend("--worker", worker.url, env=env, ready=False)
        assert reason in unreachable_reason(frontend)
        assert frontend.post(PATH, chat())[0] == 503 and not worker.requests
        assert frontend.metrics().sum("dynamo_frontend_tls_handshakes_total", outcome="bad_certificate") >= 1
        frontend.stop()


def test_a_worker_that_asks_for_a_certificate_is_shown_one(stack, authority, tmp_path):
    clients = Authority(tmp_path, "clients")
    own = clients.issue(usage="clientAuth")
    worker = stack.upstream(tls=authority.server_context(authority.issue(), clients))
    roots = {"DYN_WORKER_TLS_CA_PATH": str(authority.path)}
    bare = stack.frontend("--worker", worker.url, env=roots, ready=False)
    assert unreachable_reason(bare)
    identity = {"DYN_WORKER_TLS_CERT_PATH": str(own.certificate), "DYN_WORKER_TLS_KEY_PATH": str(own.key)}
    frontend = stack.frontend("--worker", worker.url, env={**roots, **identity})
    assert frontend.post(PATH, chat())[0] == 200


def test_a_plain_worker_behind_an_https_url_is_refused(stack):
    worker = stack.worker(env={"DYN_DISCOVERY_BACKEND": "mem"})
    frontend = stack.frontend("--worker", worker.url.replace("http:", "https:"), ready=False)
    assert "TLS: wrong version number" in unreachable_reason(frontend)
    assert frontend.post(PATH, chat())[0] == 503


# The collector


def credentials(authority, clients=None):
    pair = authority.issue()
    return grpc.ssl_server_credentials(
        [(pair.key.read_bytes(), pair.certificate.read_bytes())],
        clients.path.read_bytes() if clients else None,
        require_client_auth=clients is not None,
    )


def traced(stack, upstream, receiver, env):
    frontend = stack.frontend("--worker", upstream.url, env=env, receiver=receiver)
    assert frontend.post(PATH, chat(), {"x-request-id": "seen"})[0] == 200
    return frontend


def test_spans_go_to_a_collector_over_tls(stack, upstream, authority):
    receiver = stack.receiver(credentials(authority))
    frontend = traced(stack, upstream, receiver, {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(authority.path)})
    receiver.trace("seen", "http-request")
    for number in range(200):
        assert frontend.post(PATH, chat(), {"x-request-id": f"many-{number}"})[0] == 200
    receiver.trace("many-199", "http-request")
    assert len(receiver.peers) == 1
    frontend.stop()
    assert {s.attributes.get("x_request_id") for s in receiver.spans} >= {f"many-{n}" for n in range(200)}


def test_a_collector_that_asks_for_a_certificate_is_shown_one(stack, upstream, authority, tmp_path):
    clients = Authority(tmp_path, "clients")
    own = clients.issue(usage="clientAuth")
    receiver = stack.receiver(credentials(authority, clients))
    env = {
        "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE": str(authority.path),
        "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE": str(own.certificate),
        "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY": str(own.key),
    }
    traced(stack, upstream, receiver, env)
    receiver.trace("seen", "http-request")


def test_spans_are_not_sent_to_a_stranger(stack, upstream, authority, tmp_path):
    stranger = Authority(tmp_path, "stranger")
    receiver = stack.receiver(credentials(stranger))
    frontend = traced(stack, upstream, receiver, {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(authority.path)})

    def outage():
        return [r for r in frontend.records() if "span export fails" in r["message"]]

    [line] = eventually("the outage is said", outage)
    assert "certificate verify failed" in line["cause"]
    assert receiver.calls == 0
