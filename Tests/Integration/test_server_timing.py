"""server-timing: where the time of a request went, in the answer's head and behind a stream."""

import json
import re

from support.processes import chat
from support.raw import Connection, post
from support.upstream import STREAM_HEAD, token

PATH = "/v1/chat/completions"
METRIC = re.compile(r"(\w+);dur=(\d+\.\d+)")


def times(value: str) -> dict[str, float]:
    """The metrics of a server-timing value, which must hold nothing else."""
    found = METRIC.findall(value)
    assert ", ".join(f"{name};dur={time}" for name, time in found) == value
    return {name: float(time) for name, time in found}


def ask(frontend, *lines: str, **more):
    with Connection(frontend.port) as connection:
        connection.send(post(PATH, json.dumps(chat(**more)).encode(), "\r\n".join(lines) or "x-none: 1"))
        return connection.response()


def slow(peer, seen):
    peer.wait_closed(0.05)
    peer.answer(200, {"choices": []}, "server-timing: engine;dur=7\r\n")


def slow_stream(peer, seen):
    peer.send(STREAM_HEAD)
    peer.wait_closed(0.05)
    for index in range(3):
        peer.event(token(index))
    peer.event(token(3, finish="stop"))
    peer.event("[DONE]")
    peer.send(b"0\r\nserver-timing: engine;dur=7\r\nx-engine: kept\r\n\r\n")


def test_an_answer_tells_all_stages_and_the_first_token(stack, upstream):
    frontend = stack.frontend("--worker", upstream.url)
    upstream.behaviour = slow
    told = times(ask(frontend).header("server-timing"))
    assert list(told) == ["parse", "preprocess", "route", "ttft"], "the worker's own are replaced"
    assert told["ttft"] >= 50 > told["parse"] + told["preprocess"] + told["route"]


def test_a_stream_tells_the_first_token_behind_it_to_those_who_read_trailers(stack, upstream):
    frontend = stack.frontend("--worker", upstream.url)
    upstream.behaviour = slow_stream
    answer = ask(frontend, "te: trailers", "connection: te", stream=True)
    assert list(times(answer.header("server-timing"))) == ["parse", "preprocess", "route"]
    assert answer.header("trailer") == "server-timing"
    trailers = dict(answer.trailers)
    assert len(answer.trailers) == 2 and trailers["x-engine"] == "kept"
    told = times(trailers["server-timing"])
    assert list(told) == ["total", "ttft"] and told["total"] >= told["ttft"] >= 50


def test_others_get_no_times_behind_a_stream(stack, upstream):
    frontend = stack.frontend("--worker", upstream.url)
    for lines in ([], ["te: gzip"]):
        answer = ask(frontend, *lines, stream=True)
        assert answer.header("trailer") is None and answer.trailers == []
    answer = ask(frontend, "te: gzip;q=0.5, Trailers")
    assert answer.header("trailer") is None and "ttft" in times(answer.header("server-timing"))


def test_a_stream_that_breaks_tells_its_times_too(stack, upstream):
    def breaks(peer, seen):
        peer.send(STREAM_HEAD)
        peer.event(token(0))
        peer.wait_closed(0.05)
        peer.socket.close()

    frontend = stack.frontend("--worker", upstream.url)
    upstream.behaviour = breaks
    answer = ask(frontend, "te: trailers", stream=True)
    assert list(times(dict(answer.trailers)["server-timing"])) == ["total", "ttft"]


def test_refusals_tell_what_came_so_far_and_without_a_trace_nothing_is_told(stack, upstream):
    frontend = stack.frontend("--worker", upstream.url)
    with Connection(frontend.port) as connection:
        connection.send(post(PATH, b"{", "x-none: 1"))
        answer = connection.response()
    assert answer.status == 400 and list(times(answer.header("server-timing"))) == ["parse"]
    quiet = stack.frontend("--worker", upstream.url, env={"DYN_LOGGING_JSONL": None})
    answer = ask(quiet, "te: trailers", stream=True)
    assert answer.header("server-timing") is None and answer.header("traceresponse") is None and answer.trailers == []
