"""A real OTLP/gRPC receiver (grpcio and opentelemetry-proto) that keeps every span, and can refuse, stall or die."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent import futures
from dataclasses import dataclass, field

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

from . import schema

KINDS = {
    trace_pb2.Span.SPAN_KIND_UNSPECIFIED: "UNSPECIFIED",
    trace_pb2.Span.SPAN_KIND_INTERNAL: "INTERNAL",
    trace_pb2.Span.SPAN_KIND_SERVER: "SERVER",
    trace_pb2.Span.SPAN_KIND_CLIENT: "CLIENT",
}
STATUS = {0: "UNSET", 1: "OK", 2: "ERROR"}


def plain(value):
    """An AnyValue as the Python value of the type it was sent with."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {item.key: plain(item.value) for item in value.kvlist_value.values}
    return getattr(value, kind)


@dataclass
class Span:
    name: str
    trace_id: str
    span_id: str
    parent: str
    kind: str
    start: int
    end: int
    attributes: dict
    status: str
    status_message: str
    flags: int
    trace_state: str
    events: list[tuple[str, int]]
    links: list[tuple[str, str]]
    resource: dict
    scope: str

    @property
    def service(self) -> str:
        return self.resource.get("service.name", "")


@dataclass
class Trace:
    """The spans of one trace, for assertions."""

    spans: list[Span] = field(default_factory=list)

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> Span:
        found = self.named(name)
        assert len(found) == 1, f"{len(found)} spans named {name}; the trace has {sorted(s.name for s in self.spans)}"
        return found[0]

    def root(self) -> Span:
        """The span that no other span of the trace is a parent of."""
        ids = {span.span_id for span in self.spans}
        found = [span for span in self.spans if span.parent not in ids]
        assert len(found) == 1, f"{len(found)} roots: {[(s.name, s.parent) for s in found]}"
        return found[0]

    def names(self) -> set[str]:
        return {span.name for span in self.spans}


def retry_info(code: int, seconds: float) -> bytes:
    """A google.rpc.Status with a RetryInfo, by hand: its package is not installed for this alone."""

    def field(number: int, value: bytes | int) -> bytes:
        if isinstance(value, int):
            return bytes([number << 3]) + varint(value)
        return bytes([number << 3 | 2]) + varint(len(value)) + value

    def varint(value: int) -> bytes:
        out = bytearray()
        while value > 0x7F:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        return bytes(out) + bytes([value])

    duration = field(1, int(seconds)) + field(2, int(seconds % 1 * 1e9))
    detail = field(1, b"type.googleapis.com/google.rpc.RetryInfo") + field(2, field(1, duration))
    return field(1, code) + field(3, detail)


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Listens on one port of the loopback; `stop` and `start` again keep port and spans."""

    def __init__(self, port: int, credentials: grpc.ServerCredentials | None = None):
        self.port = port
        self.credentials = credentials
        self.endpoint = f"{'https' if credentials else 'http'}://127.0.0.1:{port}"
        self.changed = threading.Condition()
        self.spans: list[Span] = []
        # What of them is not as the schema says; the fixture that started the receiver fails for it.
        self.faults: list[str] = []
        # Services of others, whose spans the schema does not know.
        self.foreign: set[str] = set()
        # Whether spans are cut or left out by limits that the test sets, so that the schema says too much.
        self.is_limited = False
        self.calls = 0
        self.metadata: list[dict[str, str]] = []
        self.peers: set[str] = set()
        self.refusal: grpc.StatusCode | None = None
        # What becomes of the coming calls, one entry each: a status and the seconds of its RetryInfo, or None for none.
        self.coming: deque[tuple[grpc.StatusCode, float | None]] = deque()
        self.gate = threading.Event()
        self.gate.set()
        self.server: grpc.Server | None = None

    def start(self) -> "Receiver":
        options = [("grpc.so_reuseport", 0)]
        self.server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), options=options)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self.server)
        address = f"127.0.0.1:{self.port}"
        if self.credentials:
            assert self.server.add_secure_port(address, self.credentials) == self.port
        else:
            assert self.server.add_insecure_port(address) == self.port
        self.server.start()
        return self

    def stop(self) -> None:
        """Closes the port and every connection at once; stalled calls are let go."""
        if self.server:
            stopped = self.server.stop(0)
            self.gate.set()
            stopped.wait(10)
            self.server = None

    def stall(self) -> None:
        self.gate.clear()

    def release(self) -> None:
        self.gate.set()

    def Export(self, request, context):  # noqa: N802 (the name is the service's)
        with self.changed:
            self.calls += 1
            self.peers.add(context.peer())
            self.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
            self.changed.notify_all()
        self.gate.wait(60)
        if self.refusal is not None:
            context.abort(self.refusal, "the test refuses")
        if self.coming:
            code, wait = self.coming.popleft()
            if wait is not None:
                context.set_trailing_metadata((("grpc-status-details-bin", retry_info(code.value[0], wait)),))
            context.abort(code, "the test refuses once")
        with self.changed:
            for resource_spans in request.resource_spans:
                resource = {item.key: plain(item.value) for item in resource_spans.resource.attributes}
                for scope_spans in resource_spans.scope_spans:
                    for span in scope_spans.spans:
                        read = self.read(span, resource, scope_spans.scope.name)
                        self.spans.append(read)
                        if not self.is_limited and read.service not in self.foreign:
                            names = [name for name, _ in read.events]
                            self.faults += schema.faults(read.name, read.kind, read.attributes, names)
            self.changed.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    @staticmethod
    def read(span, resource: dict, scope: str) -> Span:
        keys = [item.key for item in span.attributes]
        assert len(keys) == len(set(keys)), f"attribute given twice on {span.name}: {keys}"
        return Span(
            name=span.name,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent=span.parent_span_id.hex(),
            kind=KINDS[span.kind],
            start=span.start_time_unix_nano,
            end=span.end_time_unix_nano,
            attributes={item.key: plain(item.value) for item in span.attributes},
            status=STATUS[span.status.code],
            status_message=span.status.message,
            flags=span.flags,
            trace_state=span.trace_state,
            events=[(event.name, event.time_unix_nano) for event in span.events],
            links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
            resource=resource,
            scope=scope,
        )

    def wait(self, what: str, predicate, timeout: float = 20.0):
        """Waits until `predicate(spans)` is true and returns what it returned."""
        deadline = time.monotonic() + timeout
        with self.changed:
            while True:
                answer = predicate(self.spans)
                if answer:
                    return answer
                left = deadline - time.monotonic()
                if left <= 0:
                    seen = [(s.name, s.service, s.attributes.get("x_request_id")) for s in self.spans[-20:]]
                    raise AssertionError(f"receiver: not within {timeout} s: {what}; {self.calls} calls, last spans {seen}")
                self.changed.wait(left)

    def wait_calls(self, count: int = 1, timeout: float = 20.0) -> None:
        self.wait(f"{count} calls", lambda _: self.calls >= count, timeout)

    def trace(self, request_id: str, *names: str, timeout: float = 20.0) -> Trace:
        """The trace whose root carries this x-request-id, once it holds spans of all these names (and its root)."""

        def complete(spans: list[Span]) -> Trace | None:
            ids = {s.trace_id for s in spans if s.attributes.get("x_request_id") == request_id}
            if not ids:
                return None
            assert len(ids) == 1, f"{request_id} is spread over traces {ids}"
            trace = Trace([s for s in spans if s.trace_id in ids])
            if not trace.names() >= {"http-request", *names}:
                return None
            inner = trace.named("http-request")[0]
            # In Dynamo's shape it is the root itself.
            whole = inner.kind == "SERVER" or any(s.span_id == inner.parent for s in trace.spans)
            return trace if whole else None

        return self.wait(f"a trace of {request_id} with {names}", complete, timeout)
