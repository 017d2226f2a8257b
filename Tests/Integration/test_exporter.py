"""No receiver can harm a request, and every span is accounted for: made = sent + dropped."""

import grpc
import pytest
from support.processes import chat, eventually

PATH = "/v1/chat/completions"
# What the frontend makes of a request that succeeds at its first worker.
SPANS = 5


def balanced(frontend, dropped_at_least: int = 0):
    """The books, once nothing is in flight any more."""

    def closed():
        made, sent, dropped = frontend.metrics().books()
        return made == sent + dropped and made > 0 and dropped >= dropped_at_least and (made, sent, dropped)

    return eventually("made = sent + dropped", closed, timeout=30)


def serve(frontend, count: int, prefix: str = "r") -> None:
    for index in range(count):
        assert frontend.post(PATH, chat(), {"x-request-id": f"{prefix}{index}"})[0] == 200


def test_books_of_a_healthy_receiver(stack, receiver, upstream):
    frontend = stack.frontend("--worker", upstream.url, receiver=receiver)
    serve(frontend, 20)
    receiver.trace("r19", "kv_router.route_request")
    made, sent, dropped = balanced(frontend)
    assert dropped == 0 and sent == len(receiver.spans) == made
    assert len(receiver.peers) == 1, "one connection, reused"
    agent = receiver.metadata[0]["user-agent"]
    assert agent.startswith("OTel-OTLP-Exporter-")
    resource = receiver.spans[0].resource
    assert resource["service.name"] == "dynamo-frontend"
    assert resource["telemetry.sdk.name"] == "opentelemetry" and resource["telemetry.sdk.language"] == "swift"


def test_absent_receiver_harms_nothing_and_drops_are_counted(stack, receiver, upstream):
    receiver.stop()
    env = {"OTEL_BSP_EXPORT_TIMEOUT": 1000, "OTEL_EXPORTER_OTLP_TIMEOUT": 1000, "OTEL_BSP_MAX_QUEUE_SIZE": 64}
    env["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"] = 32
    frontend = stack.frontend("--worker", upstream.url, receiver=receiver, env=env)
    serve(frontend, 60)
    made, sent, dropped = balanced(frontend, dropped_at_least=1)
    assert sent == 0 and dropped == made
    reasons = frontend.metrics().labels("dynamo_trace_spans_dropped_total", "reason")
    assert reasons <= {"queue_full", "too_large", "rejected", "deadline", "shutdown"}
    assert frontend.status("/ready") == 200


def test_stalled_receiver_delays_no_request(stack, receiver, upstream):
    frontend = stack.frontend("--worker", upstream.url, receiver=receiver)
    receiver.stall()
    serve(frontend, 40)
    receiver.wait_calls()
    serve(frontend, 40, prefix="s")  # all answered while the receiver answers nothing
    receiver.release()
    receiver.trace("s39", "kv_router.route_request")
    made, sent, dropped = balanced(frontend)
    assert dropped == 0 and sent == made


def test_full_queue_drops_and_counts_while_the_receiver_stalls(stack, receiver, upstream):
    env = {"OTEL_BSP_MAX_QUEUE_SIZE": 128, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": 16}
    frontend = stack.frontend("--worker", upstream.url, receiver=receiver, env=env)
    receiver.stall()
    serve(frontend, 5, prefix="first")
    receiver.wait_calls()
    serve(frontend, 100)
    full = eventually(
        "the queue overflows", lambda: frontend.metrics().sum("dynamo_trace_spans_dropped_total", reason="queue_full")
    )
    assert full > 0
    receiver.release()
    balanced(frontend, dropped_at_least=1)


def test_receiver_that_dies_and_returns_gets_spans_again(stack, receiver, upstream):
    env = {"OTEL_BSP_EXPORT_TIMEOUT": 2000, "OTEL_EXPORTER_OTLP_TIMEOUT": 2000}
    frontend = stack.frontend("--worker", upstream.url, receiver=receiver, env=env)
    serve(frontend, 3, prefix="before")
    receiver.trace("before2")
    receiver.stop()
    serve(frontend, 3, prefix="without")
    receiver.start()

    def back():
        serve(frontend, 1, prefix="after")
        return any(span.attributes.get("x_request_id") == "after0" for span in receiver.spans)

    eventually("spans arrive again", back, timeout=40, every=0.2)
    balanced(frontend)


def test_refused_batch_is_dropped_as_rejected(stack, receiver, upstream):
    receiver.refusal = grpc.StatusCode.INVALID_ARGUMENT
    frontend = stack.frontend("--worker", upstream.url, receiver=receiver)
    serve(frontend, 5)
    made, sent, dropped = balanced(frontend, dropped_at_least=1)
    assert sent == 0 and dropped == made
    assert frontend.metrics().sum("dynamo_trace_spans_dropped_total", reason="rejected") == dropped


def test_spans_are_flushed_on_sigterm(stack, receiver, upstream):
    env = {"OTEL_BSP_SCHEDULE_DELAY": 60000}
    frontend = stack.frontend("--worker", upstream.url, receiver=receiver, env=env)
    serve(frontend, 3, prefix="late")
    assert frontend.stop() == 0
    for index in range(3):
        assert receiver.trace(f"late{index}", "kv_router.route_request", timeout=1).root().parent == ""


def test_stop_is_bounded_while_the_receiver_stalls(stack, receiver, upstream):
    frontend = stack.frontend("--worker", upstream.url, receiver=receiver)
    receiver.stall()
    serve(frontend, 3)
    receiver.wait_calls()
    assert frontend.stop(timeout=20) == 0
    receiver.release()


def test_export_off_makes_no_call(stack, receiver, upstream):
    env = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": receiver.endpoint}
    frontend = stack.frontend("--worker", upstream.url, env=env)
    serve(frontend, 3)
    assert frontend.stop() == 0
    assert receiver.calls == 0


@pytest.mark.parametrize("value", ["1", "TRUE", "on", "Yes"])
def test_dynamos_spellings_of_true_turn_export_on(stack, receiver, upstream, value):
    frontend = stack.frontend("--worker", upstream.url, receiver=receiver, env={"OTEL_EXPORT_ENABLED": value})
    serve(frontend, 1, prefix="on")
    receiver.trace("on0")


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORT_ENDPOINT"])
def test_older_and_general_endpoint_names_work(stack, receiver, upstream, name):
    env = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": None, name: receiver.endpoint}
    frontend = stack.frontend("--worker", upstream.url, receiver=receiver, env=env)
    serve(frontend, 1, prefix="named")
    receiver.trace("named0")
    if name == "OTEL_EXPORT_ENDPOINT":
        assert name in frontend.text(), "a line says which old name was used"


def test_worker_keeps_books_too(stack, receiver):
    from support.processes import Metrics, free_port, request

    system = free_port()
    stack.worker(receiver=receiver, env={"DYN_SYSTEM_PORT": system})
    frontend = stack.frontend(receiver=receiver)
    serve(frontend, 5)

    def books():
        made, sent, dropped = Metrics(request(system, "GET", "/metrics")[2].decode()).books()
        return made >= 10 and made == sent + dropped

    eventually("the worker's books balance", books)


def accounted(frontend, requests: int):
    made, sent, dropped = frontend.metrics().books()
    return made == requests * SPANS == sent + dropped and (made, sent, dropped)


RETRYABLE = {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}


@pytest.mark.parametrize("wait", [None, 0.1])
def test_every_grpc_status_is_followed_by_the_table(stack, receiver, upstream, wait):
    frontend = stack.frontend("--worker", upstream.url, receiver=receiver)
    rejected = requests = 0
    for code in [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]:
        receiver.coming.append((code, wait))
        before = len(receiver.spans)
        serve(frontend, 1, prefix=code.name)
        # The answer comes before the request's spans do.
        eventually(f"{code.name} was given", lambda: not receiver.coming)
        requests += 1
        made, sent, dropped = eventually("books", lambda: accounted(frontend, requests))
        is_retried = code.name in RETRYABLE or (code.name == "RESOURCE_EXHAUSTED" and wait is not None)
        # A request's spans may leave in two messages; the first is refused.
        assert (dropped == rejected) == is_retried, code.name
        rejected = dropped
        assert sent == len(receiver.spans) >= before
    metrics = frontend.metrics()
    assert metrics.sum("dynamo_trace_spans_dropped_total", reason="rejected") == rejected
    assert metrics.sum("dynamo_trace_export_requests_total", status="UNAVAILABLE") == 1
    assert metrics.sum("dynamo_trace_spans_resent_total") > 0


def test_calls_run_side_by_side_where_asked(stack, receiver, upstream):
    env = {"DYN_TRACE_EXPORT_CONCURRENCY": 3, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": 16}
    frontend = stack.frontend("--worker", upstream.url, receiver=receiver, env=env)
    receiver.stall()
    serve(frontend, 40)
    receiver.wait_calls(3)
    assert len(receiver.peers) == 3
    receiver.release()
    eventually("all spans", lambda: frontend.metrics().books() == (40 * SPANS, 40 * SPANS, 0))
    assert len(receiver.spans) == 40 * SPANS


def test_disabled_sdk_makes_no_spans(stack, receiver, upstream):
    frontend = stack.frontend("--worker", upstream.url, receiver=receiver, env={"OTEL_SDK_DISABLED": "true"})
    serve(frontend, 3)
    assert frontend.stop() == 0
    assert receiver.calls == 0


def test_limits_hold_on_spans(stack, receiver, upstream):
    receiver.is_limited = True
    env = {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": 8, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": 6, "OTEL_SPAN_EVENT_COUNT_LIMIT": 0}
    frontend = stack.frontend("--worker", upstream.url, receiver=receiver, env=env)
    serve(frontend, 3)
    balanced(frontend)
    assert receiver.spans
    for span in receiver.spans:
        assert len(span.attributes) <= 6 and not span.events
        assert all(len(value) <= 8 for value in span.attributes.values() if isinstance(value, str))
    assert receiver.spans[0].resource["service.name"] == "dynamo-frontend", "no limit of spans cuts the resource"


def test_books_are_in_the_last_line(stack, receiver, upstream):
    frontend = stack.frontend("--worker", upstream.url, receiver=receiver)
    serve(frontend, 5)
    assert frontend.stop() == 0
    line = next(record for record in frontend.records() if record["message"] == "span export closed")
    assert int(line["made"]) == int(line["sent"]) == len(receiver.spans) > 0
    assert int(line["dropped"]) == 0 == int(line["resent"])
