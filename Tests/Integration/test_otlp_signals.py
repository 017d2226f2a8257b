"""Metrics and log records by OTLP: off unless asked for, true to /metrics and to stderr, counted, and no burden in an outage."""

import gzip
import http.server
import json
import re
import threading
from concurrent import futures

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from support.otlp import plain
from support.processes import MODEL, chat, eventually, free_port

PATH = "/v1/chat/completions"


class Collector(metrics_service_pb2_grpc.MetricsServiceServicer, logs_service_pb2_grpc.LogsServiceServicer):
    """Takes metrics and log records by gRPC; `refusal` makes it refuse."""

    def __init__(self):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.metrics: list = []
        self.logs: list = []
        self.refusal: grpc.StatusCode | None = None

    def start(self) -> "Collector":
        self.server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), options=[("grpc.so_reuseport", 0)])
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(self, self.server)
        logs_service_pb2_grpc.add_LogsServiceServicer_to_server(self, self.server)
        assert self.server.add_insecure_port(f"127.0.0.1:{self.port}") == self.port
        self.server.start()
        return self

    def stop(self) -> None:
        self.server.stop(0).wait(10)

    def Export(self, request, context):  # noqa: N802 (the name is the services')
        if self.refusal is not None:
            context.abort(self.refusal, "the test refuses")
        if isinstance(request, metrics_service_pb2.ExportMetricsServiceRequest):
            self.metrics += request.resource_metrics
            return metrics_service_pb2.ExportMetricsServiceResponse()
        self.logs += request.resource_logs
        return logs_service_pb2.ExportLogsServiceResponse()

    def records(self) -> list[dict]:
        return [
            {
                "body": record.body.string_value,
                "severity": record.severity_text,
                "number": record.severity_number,
                "trace_id": record.trace_id.hex(),
                "span_id": record.span_id.hex(),
                "time": record.time_unix_nano,
                "service": service(resource),
                **{item.key: plain(item.value) for item in record.attributes},
            }
            for resource in list(self.logs)
            for scope in resource.scope_logs
            for record in scope.log_records
        ]


def service(resource) -> str:
    return {item.key: plain(item.value) for item in resource.resource.attributes}["service.name"]


def latest(resources, wanted: str = "dynamo-frontend") -> dict:
    """The latest metric of each name of one service; parts of one family are put together."""
    found = {}
    for resource in resources:
        if service(resource) != wanted:
            continue
        fresh = {}
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                fresh.setdefault(metric.name, []).append(metric)
        found.update(fresh)
    return found


@pytest.fixture
def collector(stack):
    collector = Collector().start()
    stack.started.append(collector)
    return collector


def metrics_env(collector, **more) -> dict:
    return {
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": collector.url,
        "OTEL_METRIC_EXPORT_INTERVAL": "100",
        **more,
    }


def logs_env(collector, **more) -> dict:
    return {
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": collector.url,
        "OTEL_BLRP_SCHEDULE_DELAY": "20",
        **more,
    }


def test_metrics_arrive_as_they_stand_on_the_page(stack, collector, receiver):
    worker = stack.worker()
    frontend = stack.frontend("--worker", worker.url, env=metrics_env(collector), receiver=receiver)
    for stream in (False, True):
        assert frontend.post(PATH, chat(stream=stream))[0] == 200
    eventually("both are counted", lambda: frontend.metrics().sum("dynamo_frontend_requests_total") == 2)
    assert frontend.stop() == 0, "the last reading is sent at the end"
    found = latest(collector.metrics)
    (requests,) = found["dynamo_frontend_requests_total"]
    assert requests.sum.is_monotonic and requests.sum.aggregation_temporality == 2
    assert sum(point.as_double for point in requests.sum.data_points) == 2
    labels = {item.key: plain(item.value) for item in requests.sum.data_points[0].attributes}
    assert labels["model"] == MODEL and labels["status"] == "success"
    assert 0 < requests.sum.data_points[0].start_time_unix_nano < requests.sum.data_points[0].time_unix_nano
    (active,) = found["dynamo_frontend_active_requests"]
    assert {point.as_double for point in active.gauge.data_points} == {0}
    (ttft,) = found["dynamo_frontend_time_to_first_token_seconds"]
    assert ttft.unit == "s"
    points = [point for point in ttft.histogram.data_points if point.count]
    assert sum(point.count for point in points) == 2
    for point in points:
        assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
        assert sum(point.bucket_counts) == point.count
        assert {span.trace_id for span in receiver.spans} >= {e.trace_id.hex() for e in point.exemplars} != set()


def test_the_worker_sends_its_own(stack, collector):
    worker = stack.worker(env=metrics_env(collector))
    eventually("they came", lambda: "dynamo_component_total_blocks" in latest(collector.metrics, "dynamo-worker"))
    assert worker.alive()


def test_nothing_is_sent_unless_asked_for(stack, collector, receiver):
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    frontend = stack.frontend("--simulate", "1", "--model-name", MODEL, env=env, receiver=receiver)
    assert frontend.post(PATH, chat())[0] == 200
    text = frontend.metrics().text
    assert "dynamo_otlp" not in text and "dynamo_log_records" not in text
    assert frontend.stop() == 0
    assert collector.metrics == [] and collector.logs == []


def test_log_records_say_what_stderr_says(stack, collector, receiver):
    worker = stack.worker(env=logs_env(collector), receiver=receiver)
    frontend = stack.frontend("--worker", worker.url, env=logs_env(collector), receiver=receiver)
    assert frontend.post(PATH, chat(), {"x-request-id": "log-one"})[0] == 200

    def mine(name):
        return [r for r in collector.records() if r.get("x_request_id") == "log-one" and r["service"] == name]

    eventually("both sides' records", lambda: mine("dynamo-frontend") and len(mine("dynamo-worker")) >= 2)
    trace = receiver.trace("log-one", "handle_payload")
    for record in mine("dynamo-frontend") + mine("dynamo-worker"):
        assert record["trace_id"] == trace.root().trace_id
        assert record["span_id"] in {span.span_id for span in trace.spans}
        assert record["severity"] == "INFO" and record["number"] == 9
    (done,) = mine("dynamo-frontend")
    line = next(r for r in frontend.records() if r.get("x_request_id") == "log-one")
    assert done["body"] == line["message"] == "request completed"
    for key in ("target", "status", "elapsed_ms", "model", "request_id", "input_tokens", "outcome"):
        assert done[key] == line[key], key
    assert frontend.stop() == 0
    lines = [r["message"] for r in frontend.records()]
    bodies = [r["body"] for r in collector.records() if r["service"] == "dynamo-frontend"]
    # What tells of the export itself, and what is said after its end, stays here.
    assert bodies == [text for text in lines if text not in ("log record export is on", "log record export closed")]


def test_readable_lines_stay_readable_while_records_are_sent(stack, collector):
    env = logs_env(collector, DYN_LOGGING_JSONL=None)
    frontend = stack.frontend("--simulate", "1", "--model-name", MODEL, env=env)
    assert frontend.post(PATH, chat(), {"x-request-id": "log-two"})[0] == 200
    eventually("the record", lambda: [r for r in collector.records() if r.get("x_request_id") == "log-two"])
    line = eventually("the line", lambda: [l for l in frontend.text().splitlines() if "x_request_id=log-two" in l and "http:" in l])[0]
    assert re.match(r"\d{4}-\d\d-\d\dT\S+Z  INFO dynamo_frontend::http: request completed attempts=1 ", line)
    assert "\x1b" not in frontend.text(), "no colours without a terminal"


def test_a_refusing_collector_is_counted_and_costs_no_request(stack, collector):
    collector.refusal = grpc.StatusCode.INVALID_ARGUMENT
    env = {**metrics_env(collector), **logs_env(collector)}
    frontend = stack.frontend("--simulate", "1", "--model-name", MODEL, env=env)
    for _ in range(5):
        assert frontend.post(PATH, chat())[0] == 200

    def dropped():
        metrics = frontend.metrics()
        return all(metrics.sum("dynamo_otlp_records_dropped_total", signal=s, reason="rejected") > 0 for s in ("metrics", "logs")) and metrics

    metrics = eventually("both are counted as rejected", dropped)
    for signal in ("metrics", "logs"):
        assert metrics.sum("dynamo_otlp_export_requests_total", signal=signal, status="INVALID_ARGUMENT") > 0
        assert metrics.sum("dynamo_otlp_records_sent_total", signal=signal) == 0
    assert frontend.stop() == 0
    closed = {r["message"]: r for r in frontend.records() if r["message"].endswith("export closed")}
    for message in ("metric export closed", "log record export closed"):
        line = closed[message]
        assert int(line["made"]) == int(line["dropped"]) > 0, message


def test_nobody_listening_delays_neither_requests_nor_the_end(stack):
    nowhere = type("Nowhere", (), {"url": f"http://127.0.0.1:{free_port()}"})
    frontend = stack.frontend(
        "--simulate", "1", "--model-name", MODEL, env={**metrics_env(nowhere), **logs_env(nowhere)}
    )
    assert frontend.post(PATH, chat())[0] == 200
    assert frontend.stop(timeout=20) == 0
    books = [r for r in frontend.records() if r["message"] in ("metric export closed", "log record export closed")]
    assert len(books) == 4, "the simulated worker has its own"
    for line in books:
        assert int(line["made"]) == int(line["sent"]) + int(line["dropped"]) > 0


def test_http_protobuf_with_gzip(stack):
    """The other protocol, for both signals, at the general endpoint."""
    seen: dict[str, list[bytes]] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):  # noqa: N802
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            seen.setdefault(self.path, []).append(body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        env = {
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_EXPORT_LOGS_ENABLED": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}/base",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        }
        frontend = stack.frontend("--simulate", "1", "--model-name", MODEL, env=env)
        assert frontend.post(PATH, chat())[0] == 200
        assert frontend.stop() == 0
    finally:
        server.shutdown()
    assert seen.keys() == {"/base/v1/metrics", "/base/v1/logs"}
    metrics = metrics_service_pb2.ExportMetricsServiceRequest.FromString(seen["/base/v1/metrics"][-1])
    assert "dynamo_frontend_requests_total" in latest(metrics.resource_metrics) or len(seen["/base/v1/metrics"]) > 1
    logs = logs_service_pb2.ExportLogsServiceRequest.FromString(seen["/base/v1/logs"][0])
    assert logs.resource_logs[0].scope_logs[0].log_records
    assert json.dumps(service(logs.resource_logs[0])) in ('"dynamo-frontend"', '"dynamo-worker"')
