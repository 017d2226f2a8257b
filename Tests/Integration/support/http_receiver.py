"""An OTLP/HTTP receiver on Python's http.server, which can refuse, stall, close and answer in odd ways."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2


class HTTPReceiver:
    """`script(call)` names what happens to call number `call` (from 0, over all connections):

    ok, partial:N (N spans rejected), gzip (ok with a compressed body), chunked (ok in chunks), closing (ok, and the
    connection ends), status:N or status:N:WAIT (with Retry-After), close (the connection, without a word), silence.
    """

    def __init__(self, script=lambda call: "ok"):
        self.script = script
        self.lock = threading.Lock()
        self.calls = 0
        self.connections = 0
        self.accepted = 0
        self.compressed = 0
        self.paths: set[str] = set()
        self.heads: list[dict[str, str]] = []
        self.released = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                with receiver.lock:
                    receiver.connections += 1
                super().setup()

            def do_POST(self):  # noqa: N802 (the name is http.server's)
                receiver.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}/v1/traces"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["content-length"]))
        with self.lock:
            call = self.calls
            self.calls += 1
            self.paths.add(handler.path)
            self.heads.append({name.lower(): value for name, value in handler.headers.items()})
        kind, _, detail = self.script(call).partition(":")
        if kind == "silence":
            self.released.wait(60)
        if kind in ("silence", "close"):
            handler.close_connection = True
            return
        if kind == "status":
            status, _, wait = detail.partition(":")
            handler.send_response(int(status))
            if wait:
                handler.send_header("retry-after", wait)
            handler.send_header("content-length", "0")
            handler.end_headers()
            return
        if handler.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
            self.compressed += 1
        request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
        spans = sum(len(scope.spans) for r in request.resource_spans for scope in r.scope_spans)
        reply = trace_service_pb2.ExportTraceServiceResponse()
        if kind == "partial":
            reply.partial_success.rejected_spans = int(detail)
            reply.partial_success.error_message = "the test rejects some"
        with self.lock:
            self.accepted += spans - reply.partial_success.rejected_spans
        self.reply(handler, kind, reply.SerializeToString())

    @staticmethod
    def reply(handler: BaseHTTPRequestHandler, kind: str, message: bytes) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "application/x-protobuf")
        if kind == "gzip":
            message = gzip.compress(message)
            handler.send_header("content-encoding", "gzip")
        if kind == "closing":
            handler.send_header("connection", "close")
        if kind == "chunked":
            handler.send_header("transfer-encoding", "chunked")
            message = b"".join(b"1\r\n%c\r\n" % byte for byte in message) + b"0\r\n\r\n"
        else:
            handler.send_header("content-length", str(len(message)))
        handler.end_headers()
        handler.wfile.write(message)
