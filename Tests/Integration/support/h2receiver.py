"""An OTLP/gRPC receiver made of HTTP/2 frames by hand (h2), for what a proper server never does."""

from __future__ import annotations

import gzip
import socket
import struct
import threading

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from .processes import free_port


class H2Receiver:
    """`script(call)` names what happens to call number `call` (from 0, over all connections):

    ok, partial:N (N spans rejected), refused (RST_STREAM REFUSED_STREAM), internal (RST_STREAM INTERNAL_ERROR), goaway
    (GOAWAY that excludes the call, then closed), close (the connection, without a word), half (a cut answer), garbage
    (bytes that are no frame), status:N (a gRPC status), silence, chatter (pings, unknown frames and a settings change, then ok).
    """

    def __init__(self, script, settings: dict | None = None):
        self.script = script
        self.settings = settings or {}
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.lock = threading.Lock()
        self.calls = 0
        self.connections = 0
        self.accepted = 0
        self.names: list[str] = []
        # Calls whose message was compressed.
        self.compressed = 0
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.stopping = threading.Event()
        threading.Thread(target=self.accept, daemon=True).start()

    def stop(self) -> None:
        self.stopping.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.guarded, args=(connection,), daemon=True).start()

    def guarded(self, connection: socket.socket) -> None:
        try:
            self.serve(connection)
        except (OSError, h2.exceptions.ProtocolError):
            pass
        finally:
            connection.close()

    def serve(self, connection: socket.socket) -> None:
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        session = h2.connection.H2Connection(config)
        session.initiate_connection()
        if self.settings:
            # Not as initial values: a client may send before it has read them, and h2 would call that an error.
            session.update_settings(self.settings)
        connection.sendall(session.data_to_send())
        bodies: dict[int, bytes] = {}
        while data := connection.recv(65536):
            for event in session.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                    session.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    with self.lock:
                        call = self.calls
                        self.calls += 1
                    if not self.answer(connection, session, event.stream_id, bodies.pop(event.stream_id, b""), self.script(call)):
                        return
            connection.sendall(session.data_to_send())

    def answer(self, connection, session, stream: int, body: bytes, what: str) -> bool:
        """Plays one part; false when the connection ends with it."""
        kind, _, detail = what.partition(":")
        if kind == "silence":
            return True
        if kind == "close":
            return False
        if kind == "garbage":
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 4)
            return False
        if kind in ("refused", "internal"):
            code = h2.errors.ErrorCodes.REFUSED_STREAM if kind == "refused" else h2.errors.ErrorCodes.INTERNAL_ERROR
            session.reset_stream(stream, code)
            return True
        if kind == "goaway":
            session.close_connection(h2.errors.ErrorCodes.NO_ERROR, last_stream_id=0)
            connection.sendall(session.data_to_send())
            return False
        if kind == "chatter":
            session.ping(b"12345678")
            session.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 20_000})
            connection.sendall(session.data_to_send())
            connection.sendall(struct.pack(">I", 3)[1:] + b"\xfa\x00" + struct.pack(">I", 0) + b"abc")  # an unknown frame type
        session.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        if kind == "half":
            session.send_data(stream, b"\0\0")
            connection.sendall(session.data_to_send())
            return False
        status = int(detail) if kind == "status" else 0
        if status == 0:
            assert len(body) == 5 + struct.unpack(">I", body[1:5])[0] and body[0] in (0, 1)
            message = gzip.decompress(body[5:]) if body[0] == 1 else body[5:]
            self.compressed += body[0]
            request = trace_service_pb2.ExportTraceServiceRequest.FromString(message)
            spans = [s for r in request.resource_spans for scope in r.scope_spans for s in scope.spans]
            rejected = int(detail) if kind == "partial" else 0
            reply = trace_service_pb2.ExportTraceServiceResponse()
            if rejected:
                reply.partial_success.rejected_spans = rejected
                reply.partial_success.error_message = "the test rejects some"
            with self.lock:
                self.accepted += len(spans) - rejected
                self.names += [span.name for span in spans]
            message = reply.SerializeToString()
            session.send_data(stream, b"\0" + struct.pack(">I", len(message)) + message)
        session.send_headers(stream, [("grpc-status", str(status)), ("grpc-message", "from%20the%20test")], end_stream=True)
        return True
