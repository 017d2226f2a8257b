"""A worker that follows a script: an OpenAI-compatible server over raw sockets that can break in every way we need."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from dataclasses import dataclass, field

from .processes import MODEL, eventually, free_port

JSON_HEAD = "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{more}\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass
class Seen:
    """A request as the worker received it."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    cancelled: threading.Event = field(default_factory=threading.Event)
    finished: threading.Event = field(default_factory=threading.Event)

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key == name]
        return ",".join(found) if found else None

    def json(self) -> dict:
        return json.loads(self.body)


class Gone(Exception):
    """The frontend closed the connection."""


class Peer:
    """One connection of the frontend, with the words a worker would say."""

    def __init__(self, connection: socket.socket):
        self.socket = connection
        self.buffer = b""

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError as failure:
            raise Gone from failure

    def chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def event(self, payload: dict | str) -> None:
        text = payload if isinstance(payload, str) else json.dumps(payload)
        self.chunk(f"data: {text}\n\n".encode())

    def answer(self, status: int, body: dict | bytes, more: str = "") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send(JSON_HEAD.format(status=status, length=len(data), more=more).encode() + data)

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        raise Gone

    def wait_closed(self, timeout: float = 30.0) -> bool:
        """Blocks until the frontend closes; false when it does not within the time."""
        self.socket.settimeout(timeout)
        try:
            while self.socket.recv(65536):
                pass
            return True
        except TimeoutError:
            return False
        except OSError:
            return True


def token(index: int, text: str | None = None, finish: str | None = None) -> dict:
    content = {} if finish else {"content": text if text is not None else f" t{index}"}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "delta": content, "finish_reason": finish}],
    }


def usage(prompt: int, completion: int, cached: int | None = None) -> dict:
    counts: dict = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    if cached is not None:
        counts["prompt_tokens_details"] = {"cached_tokens": cached}
    return counts


def normal(peer: Peer, seen: Seen, tokens: int = 4) -> None:
    """What a healthy engine does, streamed or not as asked."""
    body = seen.json()
    if not body.get("stream"):
        message = {"role": "assistant", "content": "".join(f" t{i}" for i in range(tokens))}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice]}
        peer.answer(200, {**answer, "usage": usage(7, tokens, 0)})
        return
    peer.send(STREAM_HEAD)
    for index in range(tokens):
        peer.event(token(index))
    peer.event(token(tokens, finish="stop"))
    if (body.get("stream_options") or {}).get("include_usage"):
        peer.event({**token(0), "choices": [], "usage": usage(7, tokens, 0)})
    peer.event("[DONE]")
    peer.send(b"0\r\n\r\n")


class Upstream:
    """The server. `behaviour(peer, seen)` decides what happens to each inference request; it may be replaced any time."""

    def __init__(self, model: str = MODEL, tls: ssl.SSLContext | None = None):
        self.model = model
        self.tls = tls
        self.port = free_port()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.behaviour = normal
        # What its OpenAPI document lists; without any it has none.
        self.paths: list[str] = []
        self.requests: list[Seen] = []
        self.lock = threading.Lock()
        self.connections: set[socket.socket] = set()
        self.listener: socket.socket | None = None
        self.start()

    def start(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        self.listener = listener
        threading.Thread(target=self.accept, args=(listener,), daemon=True).start()

    def stop(self) -> None:
        """Refuses new connections and drops those there are."""
        if self.listener:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            self.listener = None
        with self.lock:
            for connection in self.connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        with self.lock:
            self.connections.add(connection)
        try:
            if self.tls:
                connection = self.secured(connection)
            peer = Peer(connection)
            while (seen := self.read(peer)) is not None:
                self.dispatch(peer, seen)
        except (Gone, OSError):
            pass
        finally:
            with self.lock:
                self.connections.discard(connection)
            connection.close()

    def secured(self, connection: socket.socket) -> socket.socket:
        wrapped = self.tls.wrap_socket(connection, server_side=True)
        with self.lock:
            # The plain object has given its descriptor away.
            self.connections.discard(connection)
            self.connections.add(wrapped)
        return wrapped

    def dispatch(self, peer: Peer, seen: Seen) -> None:
        path = seen.path.split("?")[0]
        if seen.method == "GET" and path == "/v1/models":
            peer.answer(200, {"object": "list", "data": [{"id": self.model, "object": "model", "created": 1, "owned_by": "t"}]})
        elif seen.method == "GET" and path == "/openapi.json" and self.paths:
            peer.answer(200, {"openapi": "3.1.0", "paths": {name: {"post": {}} for name in self.paths}})
        elif seen.method == "GET":
            peer.answer(200 if path == "/health" else 404, {})
        else:
            with self.lock:
                self.requests.append(seen)
            try:
                self.behaviour(peer, seen)
            except Gone:
                seen.cancelled.set()
                raise
            finally:
                seen.finished.set()

    @staticmethod
    def read(peer: Peer) -> Seen | None:
        while b"\r\n\r\n" not in peer.buffer:
            data = peer.socket.recv(65536)
            if not data:
                return None
            peer.buffer += data
        head, peer.buffer = peer.buffer.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ")
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
        fields = dict(headers)
        body = b""
        if fields.get("transfer-encoding", "").lower() == "chunked":
            body = Upstream.read_chunked(peer)
        else:
            length = int(fields.get("content-length", "0"))
            while len(peer.buffer) < length:
                data = peer.socket.recv(65536)
                if not data:
                    raise Gone
                peer.buffer += data
            body, peer.buffer = peer.buffer[:length], peer.buffer[length:]
        return Seen(method, path, headers, body)

    @staticmethod
    def read_chunked(peer: Peer) -> bytes:
        def need(count: int) -> None:
            while len(peer.buffer) < count:
                data = peer.socket.recv(65536)
                if not data:
                    raise Gone
                peer.buffer += data

        body = b""
        while True:
            while b"\r\n" not in peer.buffer:
                need(len(peer.buffer) + 1)
            line, peer.buffer = peer.buffer.split(b"\r\n", 1)
            size = int(line.split(b";")[0], 16)
            need(size + 2)
            body, peer.buffer = body + peer.buffer[:size], peer.buffer[size + 2 :]
            if size == 0:
                return body

    def wait_requests(self, count: int = 1) -> list[Seen]:
        eventually(f"{count} requests at the worker", lambda: len(self.requests) >= count)
        return self.requests
