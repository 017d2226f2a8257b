"""HTTP/1.1 by hand over a socket, for what a well-behaved client library would never send."""

from __future__ import annotations

import socket
from dataclasses import dataclass


@dataclass
class Response:
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    trailers: list[tuple[str, str]]

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key == name]
        return ", ".join(found) if found else None


class Closed(Exception):
    """The server closed the connection where a response was expected."""


class Connection:
    def __init__(self, port: int, timeout: float = 10.0, receive_buffer: int | None = None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(("127.0.0.1", port))
        self.buffer = b""

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Closes with RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.socket.close()

    def send(self, data: bytes | str) -> None:
        self.socket.sendall(data.encode() if isinstance(data, str) else data)

    def try_send(self, data: bytes) -> None:
        """Sends what the server still takes: it may have refused and closed already."""
        try:
            self.socket.sendall(data)
        except OSError:
            pass

    def fill(self) -> None:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Closed(self.buffer)
        self.buffer += data

    def line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            self.fill()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def take(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self.fill()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def until(self, mark: bytes) -> bytes:
        """Everything up to and including `mark`."""
        while mark not in self.buffer:
            self.fill()
        end = self.buffer.index(mark) + len(mark)
        taken, self.buffer = self.buffer[:end], self.buffer[end:]
        return taken

    def fields(self) -> list[tuple[str, str]]:
        found = []
        while line := self.line():
            name, _, value = line.partition(b":")
            found.append((name.decode().lower(), value.strip().decode("latin-1")))
        return found

    def head(self) -> Response:
        version, status, _ = (self.line() + b" ").split(b" ", 2)
        assert version == b"HTTP/1.1", version
        return Response(int(status), self.fields(), b"", [])

    def response(self, method: str = "POST") -> Response:
        """A whole response; interim ones are skipped."""
        response = self.head()
        while response.status < 200:
            response = self.head()
        if method == "HEAD" or response.status in (204, 304):
            return response
        if (response.header("transfer-encoding") or "").lower() == "chunked":
            while True:
                size = int(self.line().split(b";")[0], 16)
                if size == 0:
                    response.trailers = self.fields()
                    return response
                response.body += self.take(size)
                assert self.take(2) == b"\r\n"
        length = response.header("content-length")
        if length is not None:
            response.body = self.take(int(length))
        else:
            response.body = self.rest()
        return response

    def rest(self) -> bytes:
        """Everything until the server closes."""
        try:
            while True:
                self.fill()
        except Closed:
            taken, self.buffer = self.buffer, b""
            return taken

    def is_closed(self) -> bool:
        """Waits for the server to close; false when it sends anything or stays open."""
        if self.buffer:
            return False
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False


def post(path: str, body: bytes, *headers: str, host: str = "localhost", version: str = "HTTP/1.1") -> bytes:
    """A POST as bytes, with a content-length and these further header lines."""
    lines = [f"POST {path} {version}", f"Host: {host}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + body
