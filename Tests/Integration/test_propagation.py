"""Trace headers through the real programs: the cases of the W3C harness, tracestate, B3, baggage, trust, consistent sampling.

Each test of `hop` runs twice: through the frontend to a worker, and through dynamo-worker to an attached engine.
"""

import json

import pytest
from support.processes import chat, eventually
from support.raw import Connection, post

PATH = "/v1/chat/completions"
TRACE, PARENT = "12345678901234567890123456789012", "1234567890123456"
GOOD = f"00-{TRACE}-{PARENT}-01"
UNSAMPLED = f"traceparent: 00-{TRACE}-{PARENT}-00"
B3 = "463ac35c9f6413ad48485a3953bb6124"
SPAN = "a2fb4a1d1a96d312"


class Hop:
    """A program, and what stands behind it."""

    def __init__(self, server, upstream):
        self.server, self.upstream = server, upstream

    def seen(self, *lines: str):
        """The request as it arrives behind the program, when it came with these header lines."""
        count = len(self.upstream.requests)
        with Connection(self.server.port) as connection:
            connection.send(post(PATH, json.dumps(chat()).encode(), "\r\n".join(lines) or "x-none: 1"))
            response = connection.response()
            assert response.status == 200
        return self.upstream.wait_requests(count + 1)[-1], response

    def context(self, *lines: str) -> tuple[str, str, str]:
        seen = self.seen(*lines)[0]
        assert len([1 for name, _ in seen.headers if name == "traceparent"]) == 1
        version, trace, parent, flags = seen.header("traceparent").split("-")
        assert version == "00" and len(trace) == 32 and len(parent) == 16 and len(flags) == 2
        assert int(trace, 16) and int(parent, 16)
        return trace, parent, flags

    def state(self, *lines: str) -> list[str]:
        seen = self.seen(UNSAMPLED, *lines)[0]
        return (seen.header("tracestate") or "").split(",") if seen.header("tracestate") else []


def make_hop(stack, which: str, env: dict | None = None, receiver=None) -> Hop:
    upstream = stack.upstream()
    if which == "frontend":
        return Hop(stack.frontend("--worker", upstream.url, env=env, receiver=receiver), upstream)
    engine = ["--engine", "openai", "--engine-url", upstream.url]
    return Hop(stack.worker(*engine, env=env, receiver=receiver), upstream)


@pytest.fixture(scope="module", params=["frontend", "worker"])
def hop(request, shared_stack):
    return make_hop(shared_stack, request.param)


@pytest.fixture(params=["frontend", "worker"])
def which(request):
    return request.param


# The harness's cases for traceparent.


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["traceparent: " + GOOD.replace(TRACE, TRACE[:-1] + "1"), "traceparent: " + GOOD],
        ["trace-parent: " + GOOD],
        ["trace.parent: " + GOOD],
        *[
            ["traceparent: " + value]
            for value in (
                GOOD + ".",
                GOOD + "-what-the-future-will-be-like",
                "cc" + GOOD[2:] + ".what-the-future-will-be-like",
                "ff" + GOOD[2:],
                ".0" + GOOD[2:],
                "0." + GOOD[2:],
                "0" + GOOD,
                "00" + GOOD,
                GOOD[1:],
                f"00-{'0' * 32}-{PARENT}-01",
                f"00-.{TRACE[1:]}-{PARENT}-01",
                f"00-{TRACE[:-1]}.-{PARENT}-01",
                f"00-{TRACE}3-{PARENT}-01",
                f"00-{TRACE[:-1]}-{PARENT}-01",
                f"00-{TRACE}-{'0' * 16}-01",
                f"00-{TRACE}-.{PARENT[1:]}-01",
                f"00-{TRACE}-{PARENT[:-1]}.-01",
                f"00-{TRACE}-{PARENT}7-01",
                f"00-{TRACE}-{PARENT[:-1]}-01",
                f"00-{TRACE}-{PARENT}-.0",
                f"00-{TRACE}-{PARENT}-0.",
                f"00-{TRACE}-{PARENT}-001",
                f"00-{TRACE}-{PARENT}-1",
            )
        ],
    ],
)
def test_a_new_trace_begins(hop, lines):
    trace, _, flags = hop.context(*lines)
    assert trace not in (TRACE, TRACE[:-1] + "1")
    assert flags == "03", "sampled, and drawn at random"


@pytest.mark.parametrize(
    "line",
    [
        "traceparent: " + GOOD,
        "TraceParent: " + GOOD,
        "TrAcEpArEnT: " + GOOD,
        "TRACEPARENT: " + GOOD,
        "traceparent: cc" + GOOD[2:],
        "traceparent: cc" + GOOD[2:] + "-what-the-future-will-be-like",
        "traceparent:  " + GOOD,
        "traceparent: \t" + GOOD,
        "traceparent: " + GOOD + " ",
        "traceparent: \t " + GOOD + " \t",
    ],
)
def test_a_trace_goes_on(hop, line):
    trace, parent, flags = hop.context(line)
    assert trace == TRACE and parent != PARENT and flags == "01"


@pytest.mark.parametrize("flags", ["00", "01", "02", "03"])
def test_the_flags_of_level_2_are_passed_on(hop, flags):
    assert hop.context(f"traceparent: 00-{TRACE}-{PARENT}-{flags}")[2] == flags


def test_requests_of_one_trace_have_parents_of_their_own(hop):
    seen = [hop.context("traceparent: " + GOOD) for _ in range(3)]
    assert {trace for trace, _, _ in seen} == {TRACE} and len({parent for _, parent, _ in seen}) == 3


# The harness's cases for tracestate.

KEY = "abcdefghijklmnopqrstuvwxyz0123456789_-*/"
VALUE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in ",=")
MEMBERS = [f"bar{index:02}={index:02}" for index in range(1, 33)]


@pytest.mark.parametrize(
    "lines, passed",
    [
        (["tracestate: foo=1,bar=2"], ["foo=1", "bar=2"]),
        (["trace-state: foo=1"], []),
        (["TraceState: foo=1"], ["foo=1"]),
        (["TRACESTATE: foo=1"], ["foo=1"]),
        (["tracestate: "], []),
        (["tracestate: foo=1", "tracestate: "], ["foo=1"]),
        (["tracestate: ", "tracestate: foo=1"], ["foo=1"]),
        (["tracestate: foo=1,bar=2", "tracestate: rojo=1,congo=2", "tracestate: baz=3"], "foo=1 bar=2 rojo=1 congo=2 baz=3".split()),
        (["tracestate: foo=1,foo=1"], ["foo=1", "foo=1"]),
        (["tracestate: foo=1", "tracestate: foo=2"], ["foo=1", "foo=2"]),
        ([f"tracestate: {KEY}={VALUE}"], [f"{KEY}={VALUE}"]),
        ([f"tracestate: {KEY}@a-z0-9_-*/={VALUE}"], [f"{KEY}@a-z0-9_-*/={VALUE}"]),
        (["tracestate: foo=1 \t , \t bar=2, \t baz=3"], ["foo=1", "bar=2", "baz=3"]),
        (["tracestate: foo=1\t \t,\t \tbar=2,\t \tbaz=3"], ["foo=1", "bar=2", "baz=3"]),
        (["tracestate: \t foo=1 \t"], ["foo=1"]),
        (["tracestate: foo =1"], []),
        (["tracestate: FOO=1"], []),
        (["tracestate: foo.bar=1"], []),
        (["tracestate: @foo=1,bar=2"], []),
        (["tracestate: foo@=1,bar=2"], ["foo@=1", "bar=2"]),
        ([f"tracestate: {','.join(MEMBERS[:20])}", f"tracestate: {','.join(MEMBERS[20:])}"], MEMBERS),
        ([f"tracestate: {','.join(MEMBERS)}", "tracestate: bar33=33"], []),
        (["tracestate: foo=1", f"tracestate: {'z' * 256}=1"], ["foo=1", "z" * 256 + "=1"]),
        (["tracestate: foo=1", f"tracestate: {'z' * 257}=1"], []),
        (["tracestate: foo=bar=baz"], []),
        (["tracestate: foo=,bar=3"], []),
    ],
)
def test_tracestate(hop, lines, passed):
    assert hop.state(*lines) == passed


def test_a_state_without_a_trace_is_dropped(hop):
    assert hop.seen("tracestate: foo=1")[0].header("tracestate") is None


# Baggage.


def test_baggage_is_passed_on_as_one_list(hop):
    seen = hop.seen("baggage: userId=alice , serverNode=DF%2028", "x-more: 1", "Baggage: isProduction=false;p")[0]
    assert [value for name, value in seen.headers if name == "baggage"] == [
        "userId=alice,serverNode=DF%2028,isProduction=false;p"
    ]


def test_baggage_stays_within_its_bounds_and_what_is_dropped_is_counted(stack, which):
    hop = make_hop(stack, which, env={"DYN_SYSTEM_PORT": "0"} if which == "worker" else None)
    members = [f"k{index}=v" for index in range(180)]
    seen = hop.seen("baggage: " + ",".join(members), "baggage: one=more,two=more,not a member")[0]
    assert seen.header("baggage").split(",") == members
    long = "a=" + "x" * 5_000
    assert hop.seen(f"baggage: {long}", f"baggage: b={'y' * 5_000}", "baggage: c=1")[0].header("baggage") == f"{long},c=1"
    assert hop.seen("baggage: nothing")[0].header("baggage") is None
    if which == "frontend":
        eventually("the count", lambda: hop.server.metrics().sum("dynamo_baggage_members_dropped_total") == 5)


# B3.


@pytest.mark.parametrize("names, form", [("b3", "single"), ("b3multi", "multi"), ("tracecontext,b3", "both")])
def test_b3_is_read_in_both_forms_and_written_as_asked(stack, which, names, form):
    hop = make_hop(stack, which, env={"OTEL_PROPAGATORS": names})
    single = [f"b3: {B3}-{SPAN}-1-05e3ac9a4f6e3b90"]
    multi = [f"X-B3-TraceId: {B3}", f"X-B3-SpanId: {SPAN}", "X-B3-Sampled: 1", "X-B3-ParentSpanId: 05e3ac9a4f6e3b90"]
    for lines in (single, multi):
        seen = hop.seen(*lines)[0]
        if form == "multi":
            assert seen.header("x-b3-traceid") == B3 and seen.header("x-b3-sampled") == "1"
            span = seen.header("x-b3-spanid")
            assert seen.header("b3") is None
        else:
            trace, span, state = seen.header("b3").split("-")
            assert (trace, state) == (B3, "1")
            assert seen.header("x-b3-traceid") is None
        assert len(span) == 16 and span != SPAN
        assert seen.header("x-b3-parentspanid") is None
        assert (seen.header("traceparent") == f"00-{B3}-{span}-01") == (form == "both")


def test_b3s_decisions_and_its_debug_flag_go_on(stack, which, receiver):
    hop = make_hop(stack, which, env={"OTEL_PROPAGATORS": "b3"}, receiver=receiver)

    def written(*lines: str) -> list[str]:
        return hop.seen(*lines)[0].header("b3").split("-")

    assert written(f"b3: {B3}-{SPAN}-0")[2] == "0"
    assert written(f"b3: {B3}-{SPAN}-d")[2] == "d"
    assert written(f"X-B3-TraceId: {B3}", f"X-B3-SpanId: {SPAN}", "X-B3-Flags: 1")[2] == "d"
    assert written(f"b3: {B3}-{SPAN}")[2] == "1", "who does not decide leaves it to our sampler"
    trace, _, state = written("b3: 0")
    assert state == "0" and trace != B3, "a decision without a trace: it begins here and is not kept"
    assert written(f"b3: {B3}-nonsense-1")[0] != B3
    short = written(f"b3: 48485a3953bb6124-{SPAN}-1")
    assert short[0] == "0" * 16 + "48485a3953bb6124"


def test_b3_links_spans_of_both_programs(stack, receiver):
    env = {"OTEL_PROPAGATORS": "b3multi"}
    stack.worker(env=env, receiver=receiver)
    frontend = stack.frontend(env=env, receiver=receiver)
    status, headers, _ = frontend.post(PATH, chat(max_tokens=2), {"x-request-id": "b3", "b3": f"{B3}-{SPAN}-1"})
    assert status == 200 and headers["traceresponse"].startswith(f"00-{B3}-")
    trace = receiver.trace("b3", "handle_payload", "kv_router.route_request")
    assert trace.root().trace_id == B3 and trace.root().parent == SPAN
    assert trace.one("handle_payload").parent == trace.one("kv_router.route_request").span_id


def test_the_last_named_format_wins(stack, upstream):
    lines = [f"b3: {B3}-{SPAN}-1", "traceparent: " + GOOD]
    for names, trace in (("tracecontext,b3", B3), ("b3,tracecontext", TRACE)):
        hop = Hop(stack.frontend("--worker", upstream.url, env={"OTEL_PROPAGATORS": names}), upstream)
        assert hop.context(*lines)[0] == trace


def test_without_formats_headers_pass_as_they_came(stack, upstream):
    hop = Hop(stack.frontend("--worker", upstream.url, env={"OTEL_PROPAGATORS": "none"}), upstream)
    given = ["traceparent: " + GOOD, "tracestate: Not Valid", "baggage: nor this", f"b3: {B3}-{SPAN}-1"]
    seen, response = hop.seen(*given)
    for line in given:
        name, value = line.split(": ")
        assert seen.header(name) == value
    assert response.header("traceresponse").split("-")[1] != TRACE
    hop = Hop(stack.frontend("--worker", upstream.url), upstream)
    assert hop.seen(f"b3: {B3}-{SPAN}-1")[0].header("b3") == f"{B3}-{SPAN}-1", "by default B3 is not ours"


def test_an_unknown_format_is_named_at_start(stack, which):
    hop = make_hop(stack, which, env={"OTEL_PROPAGATORS": "jaeger,tracecontext"})
    eventually("a warning", lambda: [r for r in hop.server.records() if "jaeger" in r["message"]])
    assert hop.context("traceparent: " + GOOD)[0] == TRACE


# DYN_TRACE_TRUST.


@pytest.mark.parametrize(
    "trust, peers, believed",
    [
        ("always", None, True),
        ("never", None, False),
        ("never", "127.0.0.1", False),
        ("trusted-peers", "127.0.0.1", True),
        ("trusted-peers", "10.0.0.0/8, 127.0.0.0/8", True),
        ("trusted-peers", "::1,128.0.0.0/1", False),
        ("trusted-peers", None, False),
    ],
)
def test_whose_trace_goes_on(stack, receiver, upstream, trust, peers, believed):
    env = {"DYN_TRACE_TRUST": trust, "DYN_TRACE_TRUSTED_PEERS": peers}
    hop = Hop(stack.frontend("--worker", upstream.url, env=env, receiver=receiver), upstream)
    seen, response = hop.seen("traceparent: " + GOOD, "tracestate: foo=1", "x-request-id: trust")
    trace = receiver.trace("trust", "kv_router.route_request")
    root = trace.root()
    assert (root.trace_id == TRACE) == believed and (root.parent == PARENT) == believed
    assert root.links == ([] if believed else [(TRACE, PARENT)]), "what is not believed is still told"
    assert seen.header("traceparent").split("-")[1] == root.trace_id == response.header("traceresponse").split("-")[1]
    assert seen.header("tracestate") == ("foo=1" if believed else None)
    nobody = [r for r in hop.server.records() if "trusts nobody" in r["message"]]
    assert bool(nobody) == (trust == "trusted-peers" and peers is None)


def test_a_peer_that_cannot_be_read_is_named_and_not_trusted(stack, upstream):
    env = {"DYN_TRACE_TRUST": "trusted-peers", "DYN_TRACE_TRUSTED_PEERS": "127.0.0.1/33,::1"}
    hop = Hop(stack.frontend("--worker", upstream.url, env=env), upstream)
    eventually("a warning", lambda: [r for r in hop.server.records() if "127.0.0.1/33" in r["message"]])
    assert hop.context("traceparent: " + GOOD)[0] != TRACE


# Consistent probability sampling.


def test_a_share_is_told_in_tracestate_and_on_spans(stack, which, receiver):
    env = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"}
    hop = make_hop(stack, which, env=env, receiver=receiver)
    kept = f"00-{'1' * 16}ff80000000000000-{PARENT}-00"
    seen = hop.seen(f"traceparent: {kept}", "tracestate: foo=1,ot=p:8;th:0", "x-request-id: kept")[0]
    assert seen.header("tracestate") == "ot=th:8;p:8,foo=1" and seen.header("traceparent").endswith("-01")
    left = f"00-{'1' * 16}ff7fffffffffffff-{PARENT}-01"
    seen = hop.seen(f"traceparent: {left}", "tracestate: foo=1,ot=th:0")[0]
    assert seen.header("tracestate") == "foo=1" and seen.header("traceparent").endswith("-00")
    seen = hop.seen(f"traceparent: {left}", "tracestate: ot=rv:80000000000000")[0]
    assert seen.header("tracestate") == "ot=th:8;rv:80000000000000" and seen.header("traceparent").endswith("-01")
    for _ in range(8):
        seen = hop.seen()[0]
        _, trace, _, flags = seen.header("traceparent").split("-")
        is_kept = int(trace[18:], 16) >= 1 << 55
        assert (flags, seen.header("tracestate")) == (("03", "ot=th:8") if is_kept else ("02", None))
    span = receiver.wait("a span", lambda spans: next((s for s in spans if s.attributes.get("x_request_id") == "kept"), None))
    assert span.trace_state == "ot=th:8;p:8,foo=1"


def test_a_workers_threshold_follows_the_frontends(stack, receiver):
    stack.worker(receiver=receiver)
    frontend = stack.frontend(receiver=receiver, env={"OTEL_TRACES_SAMPLE_RATIO": "1"})
    assert frontend.post(PATH, chat(max_tokens=2), {"x-request-id": "ratio"})[0] == 200
    trace = receiver.trace("ratio", "handle_payload", "engine.generate")
    assert {span.trace_state for span in trace.spans} == {"ot=th:0"}
