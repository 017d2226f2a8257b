"""The table of errors: status, OpenAI envelope, code and parameter, and what a refusal leaves behind."""

import json

import pytest
from support.processes import MODEL, chat
from support.raw import Connection, post

PATH = "/v1/chat/completions"
TYPES = {400: "invalid_request_error", 404: "invalid_request_error", 405: "invalid_request_error"}
TYPES |= {413: "invalid_request_error", 414: "invalid_request_error", 415: "invalid_request_error"}
TYPES |= {431: "invalid_request_error", 501: "server_error", 503: "server_error", 505: "server_error"}
USER = {"role": "user", "content": "hi"}


@pytest.fixture(scope="module")
def upstream(shared_stack):
    return shared_stack.upstream()


@pytest.fixture(scope="module")
def frontend(shared_stack, upstream):
    return shared_stack.frontend("--worker", upstream.url, env={"DYN_HTTP_BODY_LIMIT_MB": 1})


@pytest.fixture(autouse=True)
def untouched(upstream):
    """No refused request reaches a worker."""
    upstream.requests.clear()


def error_of(status: int, body: bytes, expected: int) -> dict:
    assert status == expected, body
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str) and error["message"]
    assert error["type"] == TYPES[expected]
    return error


BODIES = {
    "cut short": (b'{"model": "a", "messages": [', "invalid_json", None),
    "empty": (b"", "invalid_json", None),
    "only blanks": (b"  \n ", "invalid_json", None),
    "trailing bytes": (json.dumps(chat()).encode() + b"x", "invalid_json", None),
    "two values": (json.dumps(chat()).encode() * 2, "invalid_json", None),
    "trailing comma": (b'{"model":"%s","messages":[{"role":"user","content":"x"},]}' % MODEL.encode(), "invalid_json", None),
    "invalid UTF-8": (b'{"model":"%s","messages":[{"role":"user","content":"\xff\xfe"}]}' % MODEL.encode(), "invalid_json", None),
    "raw control character": (b'{"model":"%s","messages":[{"role":"user","content":"a\nb"}]}' % MODEL.encode(), "invalid_json", None),
    "wrong escape": (b'{"model":"%s","messages":[{"role":"user","content":"\\x"}]}' % MODEL.encode(), "invalid_json", None),
    "single quotes": (b"{'model': 'a'}", "invalid_json", None),
    "leading zero": (b'{"model":"%s","messages":[],"n":01}' % MODEL.encode(), "invalid_json", None),
    "NaN": (b'{"model":"%s","messages":[{"role":"user","content":"x"}],"temperature":NaN}' % MODEL.encode(), "invalid_json", None),
    "nested too deep": (b'{"model":"%s","messages":[{"role":"user","content":"x"}],"x":' % MODEL.encode() + b"[" * 200 + b"]" * 200 + b"}", None, None),
    "an array": (b"[]", None, None),
    "a number": (b"1", None, None),
    "no model": ({"messages": [USER]}, None, "model"),
    "model is a number": ({"model": 1, "messages": [USER]}, "invalid_type", "model"),
    "model is null": ({"model": None, "messages": [USER]}, "invalid_type", "model"),
    "no messages": ({"model": MODEL}, None, "messages"),
    "messages is text": ({"model": MODEL, "messages": "hi"}, "invalid_type", "messages"),
    "messages is an object": ({"model": MODEL, "messages": {}}, "invalid_type", "messages"),
    "stream is text": ({**chat(), "stream": "yes"}, "invalid_type", "stream"),
    "stream is a number": ({**chat(), "stream": 1}, "invalid_type", "stream"),
    "stream_options is text": (chat(stream=True, stream_options="x"), "invalid_type", "stream_options"),
    "n is zero": (chat(n=0), "invalid_value", "n"),
    "n is negative": (chat(n=-1), "invalid_value", "n"),
    "n is text": (chat(n="2"), "invalid_type", "n"),
    "n is a fraction": (chat(n=1.5), None, "n"),
    "max_tokens is zero": (chat(max_tokens=0), "invalid_value", "max_tokens"),
    "max_tokens is text": (chat(max_tokens="9"), "invalid_type", "max_tokens"),
    "max_completion_tokens is negative": (chat(max_completion_tokens=-5), "invalid_value", "max_completion_tokens"),
    "duplicate model": (b'{"model":"a","model":"%s","messages":[{"role":"user","content":"x"}]}' % MODEL.encode(), None, "model"),
    "duplicate stream": (b'{"model":"%s","stream":true,"stream":false,"messages":[{"role":"user","content":"x"}]}' % MODEL.encode(), None, "stream"),
}  # fmt: skip


@pytest.mark.parametrize("case", BODIES)
def test_bad_body_is_a_400_that_names_the_fault(frontend, upstream, case):
    body, code, param = BODIES[case]
    status, _, answer = frontend.post(PATH, body)
    error = error_of(status, answer, 400)
    if code:
        assert error["code"] == code
    assert error["param"] == param
    assert upstream.requests == []


def test_duplicate_of_an_escaped_key_is_found(frontend, upstream):
    body = b'{"model":"%s","mod\\u0065l":"b","messages":[{"role":"user","content":"x"}]}' % MODEL.encode()
    status, _, answer = frontend.post(PATH, body)
    error_of(status, answer, 400)
    assert upstream.requests == []


def test_unknown_field_is_the_engines_business(frontend, upstream):
    body = json.dumps(chat(top_k=3, weird={"a": [None, True, 1e-3, "\u00e9"]})).encode()
    status, _, _ = frontend.post(PATH, body)
    assert status == 200
    assert upstream.requests[0].body == body, "the body goes to the worker byte for byte"


def test_refused_body_leaves_the_connection_usable(frontend):
    with Connection(frontend.port) as connection:
        connection.send(post(PATH, b"{"))
        assert connection.response().status == 400
        connection.send(post(PATH, json.dumps(chat()).encode()))
        assert connection.response().status == 200


def test_unknown_model(frontend, upstream):
    status, _, answer = frontend.post(PATH, chat(model="gpt-nope"))
    assert error_of(status, answer, 404)["code"] == "model_not_found"
    assert upstream.requests == []


def test_unknown_model_is_no_metric_label(frontend):
    frontend.post(PATH, chat(model="label-injection-attempt"))
    assert "label-injection-attempt" not in frontend.metrics().text


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/chat", "/v1/chat/completionsx", "/V1/chat/completions", "/%2e%2e/etc/passwd", "/../etc/passwd"])
def test_unknown_route(frontend, path):
    status, _, answer = frontend.post(path, chat())
    assert error_of(status, answer, 404)["code"] == "not_found"


@pytest.mark.parametrize(
    "method, path, allowed",
    [
        ("GET", PATH, {"POST"}),
        ("PUT", PATH, {"POST"}),
        ("DELETE", "/v1/completions", {"POST"}),
        ("POST", "/v1/models", {"GET"}),
        ("POST", "/health", {"GET"}),
        ("BREW", PATH, {"POST"}),
    ],
)
def test_wrong_method_tells_the_right_one(frontend, method, path, allowed):
    status, headers, answer = frontend.get(path, method=method)
    assert error_of(status, answer, 405)["code"] == "method_not_allowed"
    assert {name.strip() for name in headers["allow"].split(",")} >= allowed


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_not_json_is_an_unsupported_media_type(frontend, upstream, kind):
    status, _, answer = frontend.post(PATH, chat(), {"Content-Type": kind})
    assert error_of(status, answer, 415)["code"] == "unsupported_media_type"
    assert upstream.requests == []


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/json;charset=UTF-8"])
def test_json_by_any_spelling_is_served(frontend, kind):
    assert frontend.post(PATH, chat(), {"Content-Type": kind})[0] == 200


def test_body_over_the_limit_is_refused_before_100_continue(frontend, upstream):
    head = "\r\n".join(
        [f"POST {PATH} HTTP/1.1", "Host: a", "Content-Type: application/json", "Expect: 100-continue", "Content-Length: 1048577", "", ""]
    )
    with Connection(frontend.port) as connection:
        connection.send(head)
        response = connection.head()
        assert response.status == 413, "no interim response first"
        response.body = connection.take(int(response.header("content-length")))
        assert error_of(413, response.body, 413)["code"] == "body_too_large"
    assert upstream.requests == []


def test_100_continue_is_sent_for_a_body_within_the_limit(frontend):
    body = json.dumps(chat()).encode()
    head = post(PATH, body, "Expect: 100-continue")[: -len(body)]
    with Connection(frontend.port) as connection:
        connection.send(head)
        assert connection.head().status == 100
        connection.send(body)
        assert connection.response().status == 200


def test_chunked_body_over_the_limit(frontend, upstream):
    with Connection(frontend.port) as connection:
        connection.send(f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + b" " * 65536 + b"\r\n"
        for _ in range(20):
            connection.try_send(piece)
        response = connection.response()
        assert error_of(response.status, response.body, 413)["code"] == "body_too_large"
    assert upstream.requests == []


def test_body_of_just_the_limit_passes(frontend, upstream):
    body = json.dumps(chat()).encode()
    body += b" " * (1 << 20)
    status, _, answer = frontend.post(PATH, body[: 1 << 20])
    assert status == 200, answer[:200]


def test_long_request_line(frontend):
    with Connection(frontend.port) as connection:
        connection.send(f"GET /{'a' * 9000} HTTP/1.1\r\nHost: a\r\n\r\n")
        response = connection.response()
        error_of(response.status, response.body, 414)


def test_too_many_headers(frontend):
    with Connection(frontend.port) as connection:
        connection.send(post(PATH, b"{}", *[f"x-h{index}: 1" for index in range(110)]))
        response = connection.response()
        error_of(response.status, response.body, 431)


def test_too_long_head(frontend):
    with Connection(frontend.port) as connection:
        connection.try_send(post(PATH, b"{}", *[f"x-h{index}: {'a' * 1000}" for index in range(40)]))
        response = connection.response()
        error_of(response.status, response.body, 431)


def test_head_that_never_ends_is_cut_at_its_limit(frontend):
    with Connection(frontend.port) as connection:
        connection.send("GET /live HTTP/1.1\r\nHost: a\r\n")
        connection.try_send(b"x-a: " + b"a" * 100_000)
        assert connection.response().status == 431


@pytest.mark.parametrize("version", ["HTTP/2.0", "HTTP/3.0", "HTTP/9.9"])
def test_unknown_http_version(frontend, version):
    with Connection(frontend.port) as connection:
        connection.send(f"GET /live {version}\r\nHost: a\r\n\r\n")
        assert connection.response().status in (400, 505)


def test_http_1_0_is_served_and_closed(frontend):
    body = json.dumps(chat()).encode()
    with Connection(frontend.port) as connection:
        connection.send(post(PATH, body, version="HTTP/1.0"))
        response = connection.response()
        assert response.status == 200
        assert response.header("transfer-encoding") is None
        assert connection.is_closed()


def test_dynamo_error_format(shared_stack, upstream):
    frontend = shared_stack.frontend("--worker", upstream.url, env={"DYN_ERROR_FORMAT": "dynamo"})
    status, _, answer = frontend.post(PATH, chat(model="nope"))
    body = json.loads(answer)
    assert status == 404 and body["code"] == 404 and body["type"] == "Not Found" and body["message"]


def test_every_error_carries_a_request_id(frontend):
    for path, body in (("/nowhere", {}), (PATH, b"{"), (PATH, chat(model="nope"))):
        _, headers, _ = frontend.post(path, body, {"x-request-id": "mine"})
        assert headers["x-request-id"] == "mine"
