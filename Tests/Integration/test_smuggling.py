"""Requests that two parsers could read differently are refused, the connection is closed, and no worker sees them."""

import json

import pytest
from support.processes import chat
from support.raw import Closed, Connection, post

PATH = "/v1/chat/completions"
BODY = json.dumps(chat()).encode()
LENGTH = f"Content-Length: {len(BODY)}\r\n"
TYPE = "Content-Type: application/json\r\n"


@pytest.fixture(scope="module")
def upstream(shared_stack):
    return shared_stack.upstream()


@pytest.fixture(scope="module")
def frontend(shared_stack, upstream):
    return shared_stack.frontend("--worker", upstream.url)


def raw(lines: str, body: bytes = BODY, target: str = PATH, version: str = "HTTP/1.1", host: str = "Host: a\r\n") -> bytes:
    return f"POST {target} {version}\r\n{host}{TYPE}{lines}\r\n".encode("latin-1") + body


CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
CASES = {
    "content-length with transfer-encoding": raw(LENGTH + "Transfer-Encoding: chunked\r\n", CHUNKED),
    "two content-lengths": raw(LENGTH + "Content-Length: 3\r\n"),
    "content-length with a sign": raw(f"Content-Length: +{len(BODY)}\r\n"),
    "negative content-length": raw("Content-Length: -1\r\n"),
    "content-length with a blank inside": raw("Content-Length: 1 0\r\n"),
    "content-length list": raw(f"Content-Length: {len(BODY)}, 3\r\n"),
    "hexadecimal content-length": raw("Content-Length: 0x10\r\n"),
    "empty content-length": raw("Content-Length: \r\n"),
    "content-length beyond 64 bits": raw("Content-Length: 99999999999999999999999\r\n"),
    "obsolete folding": raw(LENGTH + "x-a: 1\r\n 2\r\n"),
    "folded first header": b"POST %s HTTP/1.1\r\n Host: a\r\n%s%s\r\n" % (PATH.encode(), TYPE.encode(), LENGTH.encode()) + BODY,
    "bare LF between headers": raw(LENGTH + "x-a: 1\nx-b: 2\r\n"),
    "bare LF everywhere": raw(LENGTH).replace(b"\r\n", b"\n"),
    "bare CR in a value": raw(LENGTH + "x-a: 1\rx-b: 2\r\n"),
    "NUL in a value": raw(LENGTH + "x-a: 1\0\r\n"),
    "control character in a value": raw(LENGTH + "x-a: \x01\r\n"),
    "NUL in a name": raw(LENGTH + "x\0a: 1\r\n"),
    "blank before the colon": raw(f"Content-Length : {len(BODY)}\r\n"),
    "tab before the colon": raw("Transfer-Encoding\t: chunked\r\n", CHUNKED),
    "blank in a name": raw(LENGTH + "x a: 1\r\n"),
    "empty name": raw(LENGTH + ": 1\r\n"),
    "no colon": raw(LENGTH + "nothing\r\n"),
    "chunked not last": raw("Transfer-Encoding: chunked, gzip\r\n", CHUNKED),
    "chunked twice": raw("Transfer-Encoding: chunked, chunked\r\n", CHUNKED),
    "two transfer-encodings": raw("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", CHUNKED),
    "unknown transfer-encoding": raw("Transfer-Encoding: xchunked\r\n", CHUNKED),
    "quoted transfer-encoding": raw('Transfer-Encoding: "chunked"\r\n', CHUNKED),
    "vertical tab before chunked": raw("Transfer-Encoding: \x0bchunked\r\n", CHUNKED),
    "gzip and chunked": raw("Transfer-Encoding: gzip, chunked\r\n", CHUNKED),
    "HTTP/1.0 with chunked": raw("Transfer-Encoding: chunked\r\n", CHUNKED, version="HTTP/1.0"),
    "chunk size overflow": raw("Transfer-Encoding: chunked\r\n", b"10000000000000001\r\na\r\n0\r\n\r\n"),
    "chunk size with a sign": raw("Transfer-Encoding: chunked\r\n", b"+1\r\na\r\n0\r\n\r\n"),
    "chunk size with a prefix": raw("Transfer-Encoding: chunked\r\n", b"0x1\r\na\r\n0\r\n\r\n"),
    "chunk size with a blank before": raw("Transfer-Encoding: chunked\r\n", b" 1\r\na\r\n0\r\n\r\n"),
    "empty chunk size": raw("Transfer-Encoding: chunked\r\n", b"\r\na\r\n0\r\n\r\n"),
    "chunk size ended by LF": raw("Transfer-Encoding: chunked\r\n", b"1\na\r\n0\r\n\r\n"),
    "LF inside a chunk extension": raw("Transfer-Encoding: chunked\r\n", b"1;a\nb\r\na\r\n0\r\n\r\n"),
    "CR inside a chunk extension": raw("Transfer-Encoding: chunked\r\n", b"1;a\rb\r\na\r\n0\r\n\r\n"),
    "chunk longer than its size": raw("Transfer-Encoding: chunked\r\n", b"1\r\nab\r\n0\r\n\r\n"),
    "chunk without its line end": raw("Transfer-Encoding: chunked\r\n", b"1\r\na0\r\n\r\n"),
    "folded trailer": raw("Transfer-Encoding: chunked\r\n", CHUNKED[:-2] + b"x-a: 1\r\n 2\r\n\r\n"),
    "no host": raw(LENGTH, host=""),
    "two hosts": raw(LENGTH + "Host: b\r\n"),
    "host with a blank": raw(LENGTH, host="Host: a b\r\n"),
    "absolute target with another host": raw(LENGTH, target=f"http://other{PATH}"),
    "blank in the target": raw(LENGTH, target=f"{PATH} x"),
    "control character in the target": raw(LENGTH, target=f"{PATH}\x01"),
    "tab after the method": raw(LENGTH).replace(b"POST ", b"POST\t", 1),
    "two blanks after the method": raw(LENGTH).replace(b"POST ", b"POST  ", 1),
    "lower-case protocol": raw(LENGTH, version="http/1.1"),
    "version without a dot": raw(LENGTH, version="HTTP/11"),
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40 + b"\r\n\r\n",
}
# 501 is RFC 9112's word for a transfer coding that is not understood, 505 for a version.
ALSO = {"unknown transfer-encoding": 501, "quoted transfer-encoding": 501, "gzip and chunked": 501, "lower-case protocol": 505}
ALSO |= {"version without a dot": 505, "chunked not last": 501, "two transfer-encodings": 501, "vertical tab before chunked": 501}


@pytest.mark.parametrize("case", CASES)
def test_ambiguous_request_is_refused_and_the_connection_closed(frontend, upstream, case):
    upstream.requests.clear()
    with Connection(frontend.port) as connection:
        # A second, harmless request behind it must not be read as one.
        connection.try_send(CASES[case] + b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n")
        response = connection.response()
        assert response.status in (400, ALSO.get(case, 400))
        assert response.header("connection") == "close"
        assert connection.is_closed(), f"left open, or answered more: {connection.buffer!r}"
    assert upstream.requests == []
    assert frontend.status("/live") == 200


def test_pipelined_bytes_after_an_error_are_not_served(frontend, upstream):
    upstream.requests.clear()
    with Connection(frontend.port) as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: a\r\nx : 1\r\n\r\n" + post(PATH, BODY))
        assert connection.response().status == 400
        assert connection.is_closed()
    assert upstream.requests == []


def test_left_over_body_after_413_is_not_a_request(shared_stack, upstream):
    frontend = shared_stack.frontend("--worker", upstream.url, env={"DYN_HTTP_BODY_LIMIT_MB": 1})
    upstream.requests.clear()
    hidden = post(PATH, BODY)
    with Connection(frontend.port) as connection:
        connection.send(raw("Content-Length: 2000000\r\n", b""))
        connection.try_send(hidden * 4)
        assert connection.response().status == 413
        rest = connection.rest()
    assert b"HTTP/1.1" not in rest and upstream.requests == []


def test_upgrade_with_a_body_is_refused(frontend, upstream):
    """Whose body it is, the request's or the new protocol's, is not for us to guess."""
    upstream.requests.clear()
    with Connection(frontend.port) as connection:
        connection.send(post(PATH, BODY, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"))
        assert connection.response().status == 400
        assert connection.is_closed()
    assert upstream.requests == []


def test_upgrade_without_a_body_is_ignored(frontend):
    with Connection(frontend.port) as connection:
        connection.send(b"GET /live HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert connection.response().status in (200, 400)


def test_body_on_a_get_is_not_the_next_request(frontend, upstream):
    upstream.requests.clear()
    hidden = post(PATH, BODY)
    with Connection(frontend.port) as connection:
        connection.send(b"GET /live HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(hidden) + hidden)
        assert connection.response().status in (200, 400)
        connection.try_send(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n")
        try:
            assert b"version" in connection.response().body
        except Closed:
            pass
    assert upstream.requests == []


def test_framing_field_in_a_trailer_frames_nothing(frontend, upstream):
    upstream.requests.clear()
    with Connection(frontend.port) as connection:
        connection.send(raw("Transfer-Encoding: chunked\r\n", CHUNKED[:-2] + b"content-length: 3\r\nhost: b\r\n\r\n"))
        status = connection.response().status
        assert status in (200, 400)
        if status == 200:
            connection.send(b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n")
            assert connection.response().status == 200
    for seen in upstream.requests:
        assert seen.body == BODY or seen.json()["model"], "the body is what the chunks held"
        assert len([name for name, _ in seen.headers if name == "host"]) == 1


def test_worker_response_with_both_length_headers_is_refused(frontend, upstream):
    def both(peer, seen):
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")

    upstream.behaviour = both
    try:
        status, _, _ = frontend.post(PATH, BODY)
    finally:
        del upstream.behaviour
        from support.upstream import normal

        upstream.behaviour = normal
    assert status == 502


def test_hop_by_hop_headers_stay_on_their_hop(frontend, upstream):
    upstream.requests.clear()
    extra = ["Connection: keep-alive, x-private", "x-private: 1", "Keep-Alive: timeout=5", "Proxy-Authorization: Basic eA==", "TE: trailers", "x-kept: 2"]
    with Connection(frontend.port) as connection:
        connection.send(post(PATH, BODY, *extra))
        assert connection.response().status == 200
    seen = upstream.requests[0]
    assert seen.header("x-kept") == "2"
    for name in ("x-private", "keep-alive", "proxy-authorization", "te", "upgrade"):
        assert seen.header(name) is None, name
