"""Request ids and W3C trace context: what is kept, what is replaced, what goes on to the worker and back."""

import json
import re
import threading
import uuid

import pytest
from support.processes import chat, eventually
from support.raw import Connection, post
from support.upstream import normal

PATH = "/v1/chat/completions"
BODY = json.dumps(chat()).encode()
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.fixture
def frontend(stack, receiver, upstream):
    return stack.frontend("--worker", upstream.url, receiver=receiver)


def ask(frontend, *headers: str):
    with Connection(frontend.port) as connection:
        connection.send(post(PATH, BODY, *headers))
        return connection.response()


def test_request_without_an_id_is_given_one(frontend, receiver, upstream):
    response = ask(frontend)
    given = response.header("x-request-id")
    assert uuid.UUID(given).version == 4
    root = receiver.trace(given).root()
    assert root.attributes["request_id"] == given
    assert upstream.requests[0].header("x-request-id") == given


@pytest.mark.parametrize("value", ["a", "test-trace-001", "A" * 128, "!#$%&'*+-.^_`|~/:@[]{}()<>\"\\,;=?"])
def test_visible_ascii_id_is_kept_verbatim(frontend, receiver, upstream, value):
    response = ask(frontend, f"X-Request-ID: {value}")
    assert response.header("x-request-id") == value
    trace = receiver.trace(value)
    root = trace.root()
    assert all("x_request_id.replaced" not in span.attributes for span in trace.spans)
    assert root.attributes["request_id"] != value
    assert upstream.requests[0].header("x-request-id") == value


@pytest.mark.parametrize(
    "headers",
    [
        ["x-request-id: " + "A" * 129],
        ["x-request-id: sp ace-secret"],
        ["x-request-id: one-secret", "x-request-id: two-secret"],
        ["x-request-id:"],
    ],
)
def test_unfit_id_is_replaced_marked_and_never_logged(frontend, receiver, headers):
    response = ask(frontend, *headers)
    assert response.status == 200
    given = response.header("x-request-id")
    assert uuid.UUID(given).version == 4
    if headers != ["x-request-id:"]:
        assert receiver.trace(given).one("http-request").attributes["x_request_id.replaced"] is True
    frontend.stop()
    assert "secret" not in frontend.text() and "A" * 129 not in frontend.text()


def test_id_that_is_no_utf8_is_refused_like_any_such_header(frontend, upstream):
    response = ask(frontend, "x-request-id: caf\xe9-secret")
    assert response.status == 400 and upstream.requests == []


def test_request_id_header_that_is_a_uuid_becomes_the_internal_id(frontend, receiver):
    mine = str(uuid.uuid4())
    ask(frontend, "x-request-id: outer", f"request-id: {mine}")
    assert receiver.trace("outer").root().attributes["request_id"] == mine


def test_callers_trace_is_continued(frontend, receiver, upstream):
    response = ask(
        frontend, "x-request-id: cont", f"traceparent: 00-{TRACE}-{PARENT}-01",
        "tracestate: a=1,b=2", "tracestate: c=3", "baggage: user=x",
    )  # fmt: skip
    trace = receiver.trace("cont", "kv_router.route_request")
    root = trace.root()
    assert (root.trace_id, root.parent) == (TRACE, PARENT)
    assert root.flags & 0x300 == 0x300, "the parent is known to be remote"
    assert response.header("traceresponse") == f"00-{TRACE}-{root.span_id}-01"
    seen = upstream.requests[0]
    routed = trace.one("kv_router.route_request")
    assert seen.header("traceparent") == f"00-{TRACE}-{routed.span_id}-01"
    assert re.sub(r"\s", "", seen.header("tracestate")) == "a=1,b=2,c=3"
    assert seen.header("baggage") == "user=x"
    assert seen.header("request-id") == root.attributes["request_id"]
    assert re.sub(r"\s", "", root.trace_state) == "a=1,b=2,c=3"


BAD = {
    "all-zero trace id": f"00-{'0' * 32}-{PARENT}-01",
    "all-zero parent": f"00-{TRACE}-{'0' * 16}-01",
    "version ff": f"ff-{TRACE}-{PARENT}-01",
    "upper case": f"00-{TRACE.upper()}-{PARENT}-01",
    "short trace id": f"00-{TRACE[:-1]}-{PARENT}-01",
    "long parent": f"00-{TRACE}-{PARENT}0-01",
    "more after version 00": f"00-{TRACE}-{PARENT}-01-x",
    "no flags": f"00-{TRACE}-{PARENT}",
    "not hexadecimal": f"00-{TRACE[:-1]}g-{PARENT}-01",
    "empty": "",
}


@pytest.mark.parametrize("case", BAD)
def test_bad_traceparent_starts_a_new_trace(frontend, receiver, upstream, case):
    ask(frontend, "x-request-id: bad", f"traceparent: {BAD[case]}", "tracestate: a=1")
    root = receiver.trace("bad").root()
    assert root.trace_id != TRACE and root.parent == ""
    assert root.trace_state == "" and not upstream.requests[0].header("tracestate")


def test_two_traceparents_start_a_new_trace(frontend, receiver):
    header = f"traceparent: 00-{TRACE}-{PARENT}-01"
    ask(frontend, "x-request-id: twice", header, header)
    assert receiver.trace("twice").root().trace_id != TRACE


def test_later_version_is_read_by_its_first_fields(frontend, receiver, upstream):
    ask(frontend, "x-request-id: later", f"traceparent: cc-{TRACE}-{PARENT}-01-what-the-future-brings")
    assert receiver.trace("later").root().trace_id == TRACE
    assert upstream.requests[0].header("traceparent").startswith(f"00-{TRACE}-")


def test_unsampled_caller_makes_no_spans_but_is_passed_on(frontend, receiver, upstream):
    response = ask(frontend, "x-request-id: quiet", f"traceparent: 00-{TRACE}-{PARENT}-00")
    assert response.header("traceresponse").startswith(f"00-{TRACE}-")
    assert response.header("traceresponse").endswith("-00")
    assert re.fullmatch(rf"00-{TRACE}-[0-9a-f]{{16}}-00", upstream.requests[0].header("traceparent"))
    ask(frontend, "x-request-id: loud")
    receiver.trace("loud")
    assert TRACE not in {span.trace_id for span in receiver.spans}
    eventually("the log has the trace id", lambda: [r for r in frontend.records() if r.get("trace_id") == TRACE])


def test_bad_tracestate_is_dropped_whole_and_harms_nothing(frontend, receiver, upstream):
    ask(frontend, "x-request-id: state", f"traceparent: 00-{TRACE}-{PARENT}-01", "tracestate: a=1,=bad,")
    assert receiver.trace("state").root().trace_id == TRACE
    assert not upstream.requests[0].header("tracestate")


def test_engine_never_sees_one_request_id_twice_at_a_time(frontend, upstream):
    release = threading.Event()

    def slow(peer, seen):
        release.wait(20)
        normal(peer, seen)

    upstream.behaviour = slow
    first, second = Connection(frontend.port), Connection(frontend.port)
    for connection in (first, second):
        connection.send(post(PATH, BODY, "x-request-id: same"))
    upstream.wait_requests(2)
    release.set()
    assert [c.response().header("x-request-id") for c in (first, second)] == ["same", "same"]
    ids = sorted(seen.header("x-request-id") for seen in upstream.requests)
    assert ids[0] == "same" and re.fullmatch(r"same-[0-9a-f]{8}", ids[1])


def test_upstreams_own_trace_headers_are_replaced(frontend, upstream):
    upstream.behaviour = lambda peer, seen: peer.answer(200, {"a": 1}, "x-request-id: theirs\r\ntraceresponse: 00-x\r\nx-engine: kept\r\n")
    response = ask(frontend, "x-request-id: ours")
    assert response.header("x-request-id") == "ours"
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", response.header("traceresponse"))
    assert response.header("x-engine") == "kept"


def test_without_tracing_there_is_no_trace_header(stack, upstream):
    frontend = stack.frontend("--worker", upstream.url, env={"DYN_LOGGING_JSONL": None})
    response = ask(frontend)
    assert response.header("traceresponse") is None
    assert uuid.UUID(response.header("x-request-id")).version == 4


def test_caller_may_be_distrusted(stack, receiver, upstream):
    frontend = stack.frontend("--worker", upstream.url, receiver=receiver, env={"DYN_TRACE_TRUST": "never"})
    ask(frontend, "x-request-id: never", f"traceparent: 00-{TRACE}-{PARENT}-01")
    root = receiver.trace("never").root()
    assert root.trace_id != TRACE and root.parent == ""
    assert (TRACE, PARENT) in root.links
