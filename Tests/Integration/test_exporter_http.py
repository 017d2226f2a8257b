"""OTLP/HTTP: what the exporter sends, and its books whatever the receiver answers."""

import time

import pytest
from support.http_receiver import HTTPReceiver
from support.processes import eventually
from test_exporter import SPANS, balanced, serve

HTTP = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}


def start(stack, upstream, script=lambda call: "ok", **env):
    receiver = HTTPReceiver(script)
    stack.started.append(receiver)
    return stack.frontend("--worker", upstream.url, receiver=receiver, env=HTTP | env), receiver


def settled(frontend, receiver, requests: int) -> int:
    """The number of dropped spans, once all of so many requests are accounted for on both sides."""

    def probe():
        made, sent, dropped = frontend.metrics().books()
        return made == requests * SPANS == sent + dropped and receiver.accepted == sent and (dropped,)

    return eventually("books that balance on both sides", probe, timeout=30)[0]


def test_spans_arrive_on_one_connection(stack, upstream):
    frontend, receiver = start(stack, upstream, OTEL_EXPORTER_OTLP_HEADERS="x-scope-orgid=tenant%201")
    for index in range(3):
        serve(frontend, 3, prefix=f"r{index}-")
        assert settled(frontend, receiver, 3 * (index + 1)) == 0
    assert receiver.connections == 1 and receiver.calls >= 3
    assert receiver.paths == {"/v1/traces"}
    head = receiver.heads[0]
    assert head["content-type"] == "application/x-protobuf" and "content-encoding" not in head
    assert head["user-agent"].startswith("OTel-OTLP-Exporter-") and head["x-scope-orgid"] == "tenant 1"
    assert frontend.metrics().labels("dynamo_trace_export_requests_total", "status") == {"200"}


def test_gzip(stack, upstream):
    frontend, receiver = start(stack, upstream, OTEL_EXPORTER_OTLP_TRACES_COMPRESSION="gzip")
    serve(frontend, 10)
    assert settled(frontend, receiver, 10) == 0
    assert receiver.compressed == receiver.calls


def test_general_endpoint_is_a_base(stack, upstream):
    receiver = HTTPReceiver()
    stack.started.append(receiver)
    base = receiver.endpoint.removesuffix("/v1/traces")
    env = HTTP | {"OTEL_EXPORT_ENABLED": 1, "OTEL_EXPORTER_OTLP_ENDPOINT": f"{base}/otlp/"}
    frontend = stack.frontend("--worker", upstream.url, env=env)
    serve(frontend, 1)
    balanced(frontend)
    assert receiver.paths == {"/otlp/v1/traces"}


@pytest.mark.parametrize("first", ["status:429", "status:502", "status:503:1", "status:504", "close", "closing", "chunked", "gzip"])
def test_answer_that_loses_nothing(stack, upstream, first):
    frontend, receiver = start(stack, upstream, lambda call: first if call == 0 else "ok")
    serve(frontend, 3)
    assert settled(frontend, receiver, 3) == 0


@pytest.mark.parametrize("status", [302, 400, 401, 404, 413, 500])
def test_final_status_drops_the_batch_as_rejected(stack, upstream, status):
    frontend, receiver = start(stack, upstream, lambda call: f"status:{status}" if call == 0 else "ok")
    serve(frontend, 3)
    dropped = settled(frontend, receiver, 3)
    assert frontend.metrics().sum("dynamo_trace_spans_dropped_total", reason="rejected") == dropped > 0


def test_partial_success_is_read(stack, upstream):
    frontend, receiver = start(stack, upstream, lambda call: "partial:2" if call == 0 else "ok")
    serve(frontend, 3)
    assert settled(frontend, receiver, 3) == 2


def test_stalled_receiver_delays_no_request_and_no_stop(stack, upstream):
    frontend, receiver = start(stack, upstream, lambda call: "silence")
    serve(frontend, 40)
    while receiver.calls == 0:
        time.sleep(0.01)
    serve(frontend, 40, prefix="s")
    assert frontend.stop(timeout=20) == 0
    receiver.released.set()


def test_receiver_that_never_works_harms_nothing(stack, upstream):
    frontend, _ = start(
        stack, upstream, lambda call: "close", OTEL_BSP_EXPORT_TIMEOUT=1500, OTEL_EXPORTER_OTLP_TIMEOUT=1500
    )
    serve(frontend, 5)
    made, sent, dropped = balanced(frontend, dropped_at_least=1)
    assert sent == 0 and dropped == made
