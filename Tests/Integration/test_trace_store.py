"""The trace store as its users meet it: curl, a trace, Tempo's query API as Grafana asks it, OTLP from other senders."""

import base64
import http.client
import gzip
import json
import random
import subprocess
import time
from urllib.parse import quote, urlencode

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2
from support.processes import BIN, Server, chat, eventually, free_port, request

PATH = "/v1/chat/completions"


class Store:
    """Asks the query port."""

    def __init__(self, port: int, grpc_port: int, http_port: int):
        self.port, self.grpc_port, self.http_port = port, grpc_port, http_port

    def get(self, path: str, headers: dict | None = None, **parameters):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        query = f"?{urlencode(parameters)}" if parameters else ""
        connection.request("GET", path + query, headers=headers or {})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, dict((k.lower(), v) for k, v in answer.getheaders()), body

    def json(self, path: str, headers: dict | None = None, **parameters):
        status, fields, body = self.get(path, headers, **parameters)
        assert status == 200, body
        assert fields["content-type"] == "application/json"
        return json.loads(body)

    def search(self, **parameters) -> list[dict]:
        return self.json("/api/search", **parameters)["traces"]

    def post(self, body: bytes, path: str = "/v1/traces", headers: dict | None = None):
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=10)
        connection.request("POST", path, body, {"content-type": "application/x-protobuf", **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read()


def ports() -> tuple[int, int, int]:
    return free_port(), free_port(), free_port()


def flags(page: int, grpc_port: int, http_port: int) -> list[str]:
    return [
        f"--trace-store-http-port={page}",
        f"--trace-store-otlp-grpc-port={grpc_port}",
        f"--trace-store-otlp-http-port={http_port}",
    ]


@pytest.fixture
def tempo(stack):
    """dynamo-tempo on its own."""
    chosen = ports()
    server = stack.server("tempo", ["dynamo-tempo", *flags(*chosen)], stack.env(), chosen[0])
    server.wait_for("/ready")
    store = Store(*chosen)
    store.server = server
    return store


def message(service: str = "shop", name: str = "GET /cart", **attributes) -> trace_service_pb2.ExportTraceServiceRequest:
    """One span of a new trace."""
    export = trace_service_pb2.ExportTraceServiceRequest()
    resource = export.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    now = time.time_ns()
    span = resource.scope_spans.add().spans.add(
        trace_id=random.randbytes(16), span_id=random.randbytes(8), name=name, kind=trace_pb2.Span.SPAN_KIND_SERVER,
        start_time_unix_nano=now - 5_000_000, end_time_unix_nano=now,
    )  # fmt: skip
    for key, value in attributes.items():
        any_value = span.attributes.add(key=key).value
        if isinstance(value, int):
            any_value.int_value = value
        else:
            any_value.string_value = value
    return export


def trace_id(export) -> str:
    return export.resource_spans[0].scope_spans[0].spans[0].trace_id.hex()


def test_a_curl_is_found_by_service_by_name_and_by_its_request_id(stack):
    """The frontend with the store inside, simulated workers, and the three searches of the walk-through."""
    chosen = ports()
    frontend = stack.frontend("--simulate=2", "--model-name=m", "--discovery-backend=mem", "--trace-store", *flags(*chosen))
    store = Store(*chosen)
    status, fields, _ = request(frontend.port, "POST", PATH, chat(model="m"), {"x-request-id": "test-trace-001"})
    assert status == 200
    # Trace context is alive although nothing is exported.
    made = fields["traceresponse"].split("-")[1]
    found = eventually("the worker's spans", lambda: store.search(tags="service.name=dynamo-worker x_request_id=test-trace-001"))
    assert found[0]["traceID"].zfill(32) == made
    assert found[0]["rootServiceName"] == "dynamo-frontend"
    assert found[0]["rootTraceName"] == f"POST {PATH}"
    eventually("all spans", lambda: len(spans(store, made)) == 7)
    for query in (
        '{ resource.service.name = "dynamo-frontend" }',
        '{ name = "http-request" }',
        '{ name = "handle_payload" }',
        '{ .x_request_id = "test-trace-001" }',
        '{ span.x_request_id =~ "test-.*" && kind = server }',
        '{ name = "http-request" } >> { name = "handle_payload" }',
        '{ span.http.response.status_code = 200 }',
    ):  # fmt: skip
        assert [hit["traceID"].zfill(32) for hit in store.search(q=query)] == [made], query
    assert store.search(q="{ status = error }") == []
    assert store.search(q='{ .x_request_id = "other" }') == []
    names = {span["name"] for span in spans(store, made)}
    assert {f"POST {PATH}", "http-request", "kv_router.select_worker", "handle_payload", "engine.generate"} <= names
    # The books are balanced, and the store shows on the frontend's own metrics.
    metrics = frontend.get("/metrics")[2].decode()
    assert "dynamo_trace_store_spans 7" in metrics
    assert "dynamo_trace_spans_dropped_total{reason=\"queue_full\"} 0" in metrics


def spans(store: Store, made: str) -> list[dict]:
    batches = store.json(f"/api/v2/traces/{made}")["trace"].get("resourceSpans", [])
    return [span for batch in batches for scope in batch["scopeSpans"] for span in scope["spans"]]


def test_an_endpoint_that_is_the_store_itself_is_skipped_with_a_line(stack):
    chosen = ports()
    env = {"OTEL_EXPORT_ENABLED": "1", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://localhost:{chosen[1]}"}
    frontend = stack.frontend(
        "--simulate=1", "--model-name=m", "--discovery-backend=mem", "--trace-store", *flags(*chosen), env=env
    )
    store = Store(*chosen)
    eventually("the line", lambda: any("skipped" in record["message"] for record in frontend.records()))
    request(frontend.port, "POST", PATH, chat(model="m"), {"x-request-id": "once"})
    found = eventually("the trace", lambda: store.search(tags="x_request_id=once service.name=dynamo-worker"))
    eventually("all spans", lambda: len(spans(store, found[0]["traceID"])) >= 7)
    assert len(spans(store, found[0]["traceID"])) == 7, "each span once"


def test_spans_go_to_the_store_and_to_a_collector(stack, receiver):
    chosen = ports()
    frontend = stack.frontend(
        "--simulate=1", "--model-name=m", "--discovery-backend=mem", "--trace-store", *flags(*chosen), receiver=receiver
    )
    request(frontend.port, "POST", PATH, chat(model="m"), {"x-request-id": "both"})
    eventually("the trace in the store", lambda: Store(*chosen).search(tags="x_request_id=both"))
    receiver.trace("both", "handle_payload")


def test_a_request_makes_no_spans_at_the_store(stack):
    chosen = ports()
    stack.frontend("--simulate=1", "--model-name=m", "--discovery-backend=mem", "--trace-store", *flags(*chosen))
    store = Store(*chosen)
    for _ in range(3):
        store.search(q="{}")
        store.get("/")
    assert store.json("/status")["spansStored"] == 0


def test_otlp_over_http_is_answered_as_tempo_does(tempo):
    export = message(http_status=200)
    assert tempo.post(export.SerializeToString()) == (200, b"\x0a\x00")
    assert [hit["traceID"].zfill(32) for hit in tempo.search(q='{ resource.service.name = "shop" }')] == [trace_id(export)]
    bad = message()
    bad.resource_spans[0].scope_spans[0].spans.add(trace_id=b"", span_id=b"12345678", name="bad")
    assert tempo.post(bad.SerializeToString())[0] == 400
    assert tempo.get(f"/api/traces/{trace_id(bad)}")[0] == 404, "one bad id condemns its message"
    assert tempo.post(b"garbage")[0] == 400
    assert tempo.post(b"", "/v1/metrics")[0] == 404
    assert tempo.post(b"{}", headers={"content-type": "text/plain"})[0] == 415
    assert tempo.post(export.SerializeToString(), headers={"content-encoding": "br"})[0] == 415
    assert tempo.post(export.SerializeToString(), headers={"content-encoding": "gzip"})[0] == 400
    bomb = gzip.compress(bytes(64 << 20))
    assert tempo.post(bomb, headers={"content-encoding": "gzip"})[0] == 413
    assert tempo.post(gzip.compress(export.SerializeToString()), headers={"content-encoding": "gzip"})[0] == 200
    assert tempo.post(b"x" * (20 << 20 | 1))[0] == 413
    assert tempo.post(b"")[0] == 200


def test_otlp_json_is_read_as_the_specification_has_it(tempo):
    made = message(name="from-json", http_status=200)
    sent = MessageToDict(made)
    # OTLP's JSON differs from protobuf's in its ids, and has enums as numbers.
    for span in sent["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for key in ("traceId", "spanId", "parentSpanId"):
            if key in span:
                span[key] = base64.b64decode(span[key]).hex()
        span["kind"] = 2
    headers = {"content-type": "application/json"}
    assert tempo.post(json.dumps(sent).encode(), headers=headers) == (200, b'{"partialSuccess":{}}')
    status, fields, body = tempo.get(f"/api/traces/{trace_id(made)}", {"accept": "application/protobuf"})
    assert trace_pb2.TracesData.FromString(body).resource_spans == made.resource_spans
    status, body = tempo.post(b'{"resourceSpans":3}', headers=headers)
    assert status == 400 and json.loads(body) == {"code": 3, "message": "the body is no ExportTraceServiceRequest"}
    packed = gzip.compress(json.dumps(sent).encode())
    assert tempo.post(packed, headers={**headers, "content-encoding": "gzip"})[0] == 200


@pytest.mark.parametrize("transport", ["grpc", "grpc-gzip", "http", "http-gzip"])
def test_opentelemetrys_own_sdk_exports_to_the_store(tempo, transport):
    trace = pytest.importorskip("opentelemetry.sdk.trace", reason="Scripts/bootstrap.sh test installs it")
    exporter_module = pytest.importorskip(f"opentelemetry.exporter.otlp.proto.{transport.split('-')[0]}.trace_exporter")
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.trace import Link, SpanKind, Status, StatusCode

    packed = transport.endswith("gzip")
    if transport.startswith("grpc"):
        compression = grpc.Compression.Gzip if packed else None
        exporter = exporter_module.OTLPSpanExporter(f"http://127.0.0.1:{tempo.grpc_port}", insecure=True, compression=compression)
    else:
        compression = exporter_module.Compression.Gzip if packed else None
        exporter = exporter_module.OTLPSpanExporter(f"http://127.0.0.1:{tempo.http_port}/v1/traces", compression=compression)
    provider = trace.TracerProvider(resource=Resource.create({"service.name": "python-sdk", "service.version": "7"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("shop", "1.2")
    with tracer.start_as_current_span("parent", kind=SpanKind.SERVER, attributes={"n": 7, "ratio": 0.5, "ok": True, "tags": ["a", "b"]}) as parent:
        with tracer.start_as_current_span("child", kind=SpanKind.CLIENT, links=[Link(parent.get_span_context())]) as child:
            child.add_event("retry", {"attempt": 2})
            child.set_status(Status(StatusCode.ERROR, "broken"))
    provider.shutdown()
    made = format(parent.get_span_context().trace_id, "032x")
    hits = tempo.search(q='{ resource.service.name = "python-sdk" && name = "child" && status = error && event.attempt = 2 }')
    assert [hit["traceID"].zfill(32) for hit in hits] == [made]
    assert hits[0]["rootTraceName"] == "parent" and hits[0]["serviceStats"] == {"python-sdk": {"spanCount": 2, "errorCount": 1}}
    batch = tempo.json(f"/api/v2/traces/{made}")["trace"]["resourceSpans"][0]
    assert {"key": "telemetry.sdk.language", "value": {"stringValue": "python"}} in batch["resource"]["attributes"]
    assert batch["scopeSpans"][0]["scope"] == {"name": "shop", "version": "1.2"}
    assert len(spans(tempo, made)) == 2
    found = {span["name"]: span for part in tempo.json(f"/api/traces/{made}")["batches"] for span in part["scopeSpans"][0]["spans"]}
    assert found["child"]["parentSpanId"] == found["parent"]["spanId"] == found["child"]["links"][0]["spanId"]
    assert found["child"]["status"] == {"message": "broken", "code": "STATUS_CODE_ERROR"}
    assert {"key": "tags", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"stringValue": "b"}]}}} in found["parent"]["attributes"]
    assert [found["parent"]["kind"], found["child"]["kind"]] == ["SPAN_KIND_SERVER", "SPAN_KIND_CLIENT"]


def test_names_of_strangers_are_not_answered_to(stack):
    chosen = ports()
    command = ["dynamo-tempo", *flags(*chosen), "--trace-store-allowed-hosts=traces.example.org"]
    stack.server("tempo", command, stack.env(), chosen[0]).wait_for("/ready")
    store = Store(*chosen)
    for host, status in [
        ("evil.example", 403), (f"127.0.0.1.evil.example:{chosen[0]}", 403), ("traces.example.org", 200),
        (f"localhost:{chosen[0]}", 200), ("127.0.0.1", 200), ("tempo:3200", 200),
    ]:  # fmt: skip
        assert store.get("/api/search", {"host": host})[0] == status, host
    assert "dynamo_trace_store_hosts_refused_total 2" in store.get("/metrics")[2].decode()


def test_otlp_over_grpc_from_another_implementation(tempo):
    with grpc.insecure_channel(f"127.0.0.1:{tempo.grpc_port}") as channel:
        stub = trace_service_pb2_grpc.TraceServiceStub(channel)
        sent = [message(name=f"call-{index}") for index in range(50)]
        for answer in [stub.Export.future(export) for export in sent]:
            assert answer.result(10).partial_success.rejected_spans == 0
        for export in sent:
            assert len(spans(tempo, trace_id(export))) == 1
        bad = message()
        bad.resource_spans[0].scope_spans[0].spans[0].trace_id = b"short"
        with pytest.raises(grpc.RpcError) as refused:
            stub.Export(bad, timeout=10)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        large = message(text="x" * (5 << 20))
        with pytest.raises(grpc.RpcError) as refused:
            stub.Export(large, timeout=10)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        # The channel is as good as before.
        assert stub.Export(message(), timeout=10) is not None
        other = channel.unary_unary("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export")
        with pytest.raises(grpc.RpcError) as refused:
            other(b"", timeout=10)
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_the_requests_that_grafana_makes(tempo):
    """In the order and form of Grafana's Tempo data source: its health check, search form, completions, and the trace."""
    export = message(name="http-request", x_request_id="g-1", status=200)
    tempo.post(export.SerializeToString())
    made = trace_id(export)
    now = int(time.time())
    window = {"start": now - 3600, "end": now + 60}

    assert tempo.get("/api/echo")[::2] == (200, b"echo")
    assert set(tempo.json("/api/status/buildinfo")) == {"version", "revision", "branch", "buildUser", "buildDate", "goVersion"}
    scopes = tempo.json("/api/v2/search/tags", limit=5000, **window)["scopes"]
    assert {"name": "resource", "tags": ["service.name"]} in scopes
    assert {"name": "span", "tags": ["status", "x_request_id"]} in scopes
    assert "duration" in next(scope for scope in scopes if scope["name"] == "intrinsic")["tags"]
    values = tempo.json("/api/v2/search/tag/resource.service.name/values", q="{}", limit=5000, **window)["tagValues"]
    assert values == [{"type": "string", "value": "shop"}]
    values = tempo.json("/api/v2/search/tag/span.status/values", q='{resource.service.name="shop"}')["tagValues"]
    assert values == [{"type": "int", "value": "200"}]
    assert tempo.json("/api/v2/search/tag/name/values")["tagValues"] == [{"type": "string", "value": "http-request"}]
    assert tempo.json("/api/search/tags")["tagNames"] == ["service.name", "status", "x_request_id"]
    assert tempo.json("/api/search/tag/service.name/values")["tagValues"] == ["shop"]

    query = '{resource.service.name="shop" && name="http-request" && duration>1ms}'
    hits = tempo.search(q=query, limit=20, spss=3, **window)
    assert hits[0]["traceID"].zfill(32) == made
    assert set(hits[0]) == {
        "traceID", "rootServiceName", "rootTraceName", "startTimeUnixNano", "durationMs", "spanSet", "spanSets", "serviceStats",
    }  # fmt: skip
    assert hits[0]["serviceStats"] == {"shop": {"spanCount": 1}}
    assert tempo.search(q=query, start=now - 7200, end=now - 3600) == []

    # What the metrics queries of a panel and of Traces Drilldown ask.
    rate = '{nestedSetParent<0 && true} | rate() by(resource.service.name)'
    answer = tempo.json("/api/metrics/query_range", q=rate, step="60s", **window)
    (series,) = answer["series"]
    assert series["labels"] == [{"key": "resource.service.name", "value": {"stringValue": "shop"}}]
    assert series["promLabels"] == '{"resource.service.name"="shop"}'
    assert sum(sample["value"] for sample in series["samples"]) == pytest.approx(1 / 60)
    assert all(set(sample) == {"timestampMs", "value"} for sample in series["samples"])
    (instant,) = tempo.json("/api/metrics/query", q="{} | count_over_time()", **window)["series"]
    assert (instant["value"], instant["promLabels"]) == (1, '{__name__="count_over_time"}')

    protobuf = {"accept": "application/protobuf"}
    status, fields, body = tempo.get(f"/api/traces/{made}", protobuf, **window)
    assert (status, fields["content-type"]) == (200, "application/protobuf")
    assert trace_pb2.TracesData.FromString(body).resource_spans == export.resource_spans
    status, fields, body = tempo.get(f"/api/v2/traces/{made}", protobuf, **window)
    assert body[:1] == b"\x0a" and body.count(export.resource_spans[0].SerializeToString()) == 1
    assert tempo.get("/api/traces/1234", protobuf)[::2] == (404, b"")

    # JSON, as curl and older versions ask.
    batches = tempo.json(f"/api/traces/{made}")["batches"]
    span = batches[0]["scopeSpans"][0]["spans"][0]
    assert base64.b64decode(span["traceId"]).hex() == made
    assert (span["kind"], span["status"]) == ("SPAN_KIND_SERVER", {})
    assert {"key": "status", "value": {"intValue": "200"}} in span["attributes"]
    assert tempo.json("/api/v2/traces/1234") == {"trace": {}, "metrics": {}}


@pytest.mark.parametrize(
    "path",
    [
        "/api/search?q=" + quote("{ foo = 1 }"),
        "/api/search?q=" + quote("{} | rate()"),
        "/api/metrics/query_range?start=1&end=9&q=" + quote("{}"),
        "/api/search?limit=0",
        "/api/search?limit=many",
        "/api/search?start=5",
        "/api/search?start=5&end=4",
        "/api/search?minDuration=long",
        "/api/search?tags=x",
        "/api/traces/nothex",
        "/api/v2/traces/" + "1" * 33,
        "/api/v2/search/tag/nonsense/values",
    ],
)
def test_a_bad_request_gets_400_and_a_reason(tempo, path):
    status, fields, body = tempo.get(path)
    assert status == 400
    assert fields["content-type"].startswith("text/plain")
    assert len(body) > 15


def test_the_page_is_one_document_that_runs_nothing_else(tempo):
    status, fields, body = tempo.get("/")
    assert (status, fields["content-type"]) == (200, "text/html; charset=utf-8")
    policy = fields["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe-inline" not in policy
    assert body == tempo.get("/trace/abc")[2] == tempo.get("/request/some%2Fid")[2]
    # Nothing is fetched from elsewhere.
    for word in (b"https://", b"//cdn", b"@import", b"innerHTML", b"insertAdjacentHTML", b"document.write"):
        assert word not in body
    assert tempo.get("/favicon.svg")[1]["content-type"] == "image/svg+xml"
    assert tempo.get("/nothing")[0] == 404


def test_memory_is_bounded_and_the_oldest_goes(stack):
    chosen = ports()
    server = stack.server("tempo", ["dynamo-tempo", "--trace-store-memory-mb=1", *flags(*chosen)], stack.env(), chosen[0])
    server.wait_for("/ready")
    store = Store(*chosen)
    sent = []
    for _ in range(40):
        export = message(text="x" * 100_000)
        assert store.post(export.SerializeToString())[0] == 200
        sent.append(trace_id(export))
    status = store.json("/status")
    assert status["bytes"] <= status["bytesMax"] == 1 << 20
    assert status["tracesEvicted"] == 40 - status["traces"] > 0
    assert store.get(f"/api/traces/{sent[0]}")[0] == 404
    assert store.get(f"/api/traces/{sent[-1]}")[0] == 200


def test_dynamo_tempo_ends_in_order_and_says_where_it_listens(stack):
    args = ["dynamo-tempo", *flags(0, 0, 0)]
    server = Server([str(BIN / args[0]), *args[1:]], stack.env(), stack.folder / "tempo.log", 0)
    stack.started.append(server)
    line = eventually("the line", lambda: [r for r in server.records() if r["message"] == "trace store listening"])[0]
    assert all(line[key] > 0 for key in ("port", "otlp_grpc", "otlp_http"))
    assert Store(line["port"], 0, 0).get("/ready")[::2] == (200, b"ready\n")
    assert server.stop() == 0
    done = subprocess.run([str(BIN / "dynamo-tempo"), "--nonsense"], capture_output=True, env=stack.env())
    assert done.returncode == 2


def test_a_file_keeps_traces_over_a_restart(stack):
    file = stack.folder / "spans"
    sent = []
    for _ in range(2):
        chosen = ports()
        server = stack.server("tempo", ["dynamo-tempo", f"--trace-store-file={file}", *flags(*chosen)], stack.env(), chosen[0])
        server.wait_for("/ready")
        store = Store(*chosen)
        export = message()
        assert store.post(export.SerializeToString())[0] == 200
        sent.append(trace_id(export))
        for made in sent:
            assert len(spans(store, made)) == 1
        # A crash, not an orderly end: nothing is waited for.
        server.kill()
        server.wait()
    export = trace_service_pb2.ExportTraceServiceRequest.FromString(file.read_bytes())
    assert len(export.resource_spans) == 2, "the file is one message of them all"
