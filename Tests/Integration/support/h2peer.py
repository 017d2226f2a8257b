"""HTTP/2 by hand, on hyper's `h2`: a worker that answers as a test says, and a caller that sends what it likes."""

from __future__ import annotations

import json
import socket
import threading
import time

import h2.config
import h2.connection
import h2.events
import h2.settings

from support.processes import MODEL, free_port


class Stream:
    """One request as the worker saw it, and what it can do about it."""

    def __init__(self, connection: "Connection", number: int, headers: dict[str, str]):
        self.connection = connection
        self.number = number
        self.headers = headers
        self.body = b""
        self.reset: int | None = None
        self.over = threading.Event()

    @property
    def path(self) -> str:
        return self.headers[":path"]

    def respond(self, status: int = 200, content_type: str = "text/event-stream", end: bool = False, **more) -> None:
        fields = [(":status", str(status)), ("content-type", content_type), *more.items()]
        self.connection.do(lambda h2: h2.send_headers(self.number, fields, end_stream=end))

    def send(self, data: bytes, end: bool = False) -> None:
        self.connection.do(lambda h2: h2.send_data(self.number, data, end_stream=end))

    def event(self, payload) -> None:
        text = payload if isinstance(payload, str) else json.dumps(payload)
        self.send(f"data: {text}\n\n".encode())

    def refuse(self, code: int) -> None:
        self.connection.do(lambda h2: h2.reset_stream(self.number, code))


class Connection:
    """One connection of a worker."""

    def __init__(self, worker: "Worker", peer: socket.socket):
        self.worker = worker
        self.peer = peer
        self.lock = threading.RLock()
        self.streams: dict[int, Stream] = {}
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.h2.local_settings = h2.settings.Settings(
            client=False, initial_values={h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: worker.streams_max}
        )
        self.do(lambda h2: h2.initiate_connection())

    def do(self, action) -> None:
        # The frames of several threads must not overtake each other.
        with self.lock:
            action(self.h2)
            try:
                self.peer.sendall(self.h2.data_to_send())
            except OSError:
                pass

    def close(self) -> None:
        try:
            self.peer.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def run(self) -> None:
        while True:
            try:
                data = self.peer.recv(65536)
            except OSError:
                data = b""
            if not data:
                break
            with self.lock:
                for event in self.h2.receive_data(data):
                    self.take(event)
            self.do(lambda h2: None)
        for stream in self.streams.values():
            stream.over.set()

    def take(self, event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self.streams[event.stream_id] = Stream(self, event.stream_id, dict(event.headers))
        elif isinstance(event, h2.events.DataReceived):
            self.streams[event.stream_id].body += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            stream = self.streams[event.stream_id]
            threading.Thread(target=self.worker.serve, args=(stream,), daemon=True).start()
        elif isinstance(event, h2.events.StreamReset):
            stream = self.streams[event.stream_id]
            stream.reset = event.error_code
            stream.over.set()


class Worker:
    """An h2c worker, or with `tls` an https one that speaks h2 alone: lists its model, and hands every other request to `behaviour`, in a thread of its own."""

    def __init__(self, model: str = MODEL, streams_max: int = 100, tls=None):
        self.model = model
        self.streams_max = streams_max
        self.behaviour = normal
        self.seen: list[Stream] = []
        self.connections: list[Connection] = []
        self.port = free_port()
        self.tls = tls
        if tls:
            tls.set_alpn_protocols(["h2"])
        self.url = f"{'https' if tls else 'h2c'}://127.0.0.1:{self.port}"
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                # With a time to wait the library is never left blocking in a read while another thread writes.
                peer.settimeout(60)
                try:
                    peer = self.tls.wrap_socket(peer, server_side=True)
                except OSError:
                    continue
            connection = Connection(self, peer)
            self.connections.append(connection)
            threading.Thread(target=connection.run, daemon=True).start()

    def serve(self, stream: Stream) -> None:
        if stream.path == "/v1/models":
            stream.respond(200, "application/json")
            stream.send(json.dumps({"object": "list", "data": [{"id": self.model}]}).encode(), end=True)
        elif stream.headers[":method"] == "GET":
            stream.respond(404, "text/plain", end=True)
        else:
            self.seen.append(stream)
            self.behaviour(stream)

    def stop(self) -> None:
        self.listener.close()
        for connection in self.connections:
            connection.close()


def chunk(text: str, finish: str | None = None) -> dict:
    return {
        "id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL,
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}],
    }  # fmt: skip


def normal(stream: Stream) -> None:
    stream.respond()
    stream.event(chunk("one"))
    stream.event(chunk(" two", "stop"))
    stream.send(b"data: [DONE]\n\n", end=True)


class Caller:
    """A client that speaks through `h2`, or sends bytes of its own."""

    def __init__(self, port: int):
        self.peer = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.heads: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.goaway: int | None = None
        self.closed = False
        self.flush()

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *_) -> None:
        self.peer.close()

    def flush(self) -> None:
        self.raw(self.h2.data_to_send())

    def raw(self, data: bytes) -> None:
        try:
            self.peer.sendall(data)
        except OSError:
            self.closed = True

    def ask(self, path: str, body: dict | bytes | None = None, method: str = "POST", **more) -> int:
        """Sends a request and returns its stream."""
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        number = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "http"), (":authority", "localhost"), (":path", path)]
        head += [("content-type", "application/json")] if body else []
        head += [(name.replace("_", "-"), value) for name, value in more.items()]
        self.h2.send_headers(number, head, end_stream=not body)
        if body:
            self.h2.send_data(number, body, end_stream=True)
        self.bodies[number] = b""
        self.flush()
        return number

    def read(self) -> None:
        """Takes what comes next."""
        try:
            data = self.peer.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.closed = True
            return
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                self.heads[event.stream_id] = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(event.stream_id)
            elif isinstance(event, h2.events.StreamReset):
                self.resets[event.stream_id] = event.error_code
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.goaway = event.error_code
        if self.goaway is None:
            self.flush()

    def until(self, what, timeout: float = 15.0) -> None:
        deadline = time.monotonic() + timeout
        while not what():
            assert time.monotonic() < deadline, "the answer did not come in time"
            assert not self.closed, "the connection was closed"
            self.read()

    def until_closed(self) -> None:
        while not self.closed:
            self.read()

    def finish(self, number: int) -> tuple[int, bytes]:
        """Waits for the end of an answer: its status and body."""
        self.until(lambda: number in self.ended)
        return int(self.heads[number][":status"]), self.bodies[number]
