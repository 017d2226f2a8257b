"""Request-trace records: Dynamo's schema in rolling files, lengths and hashes that fit, never a word of the prompt."""

import glob
import gzip
import json

from support.processes import MODEL, chat, eventually

PATH = "/v1/chat/completions"
SECRET = "xylophone-quarterly-figures"


def files(stack) -> list[str]:
    return sorted(glob.glob(f"{stack.folder}/trace.*"))


def records(stack) -> list[dict]:
    found = []
    for name in files(stack):
        try:
            with (gzip.open if name.endswith(".gz") else open)(name, "rt") as lines:
                found += [json.loads(line) for line in lines]
        except FileNotFoundError:
            # Rolled away since it was listed.
            continue
    return found


def settings(stack, **more) -> dict:
    return {
        "DYN_REQUEST_TRACE": "1",
        "DYN_REQUEST_TRACE_FILE_PATH": f"{stack.folder}/trace",
        "DYN_REQUEST_TRACE_FILE_FLUSH_INTERVAL_MS": "20",
        **{f"DYN_REQUEST_TRACE_{key}": str(value) for key, value in more.items()},
    }


def test_records_tell_lengths_hashes_and_times_and_never_the_text(stack):
    frontend = stack.frontend("--simulate", "1", "--model-name", MODEL, env=settings(stack))
    long = SECRET + " word" * 400
    for name, body in (
        ("trace-one", chat(long, max_completion_tokens=5)),
        ("trace-two", chat(long + " and more" * 20, stream=True, max_completion_tokens=5)),
        ("trace-bad", chat(max_tokens=0)),
        ("trace-stranger", chat(model="nope")),
        ("trace-twice", chat(n=2)),
    ):
        frontend.post(PATH, body, {"x-request-id": name})
    seen = eventually("two records", lambda: len(found := records(stack)) == 2 and found)
    requests = {record["event"]["request"]["x_request_id"]: record for record in seen}
    assert requests.keys() == {"trace-one", "trace-two"}, "the others are nothing to replay"
    for record in seen:
        event = record["event"]
        assert record["timestamp"] == event["event_time_unix_ms"]
        assert event["schema"] == "dynamo.request.trace.v1"
        assert event["event_type"] == "request_end"
        assert event["event_source"] == "dynamo"
        assert "agent_context" not in event
        request = event["request"]
        assert request["model"] == MODEL
        assert len(request["request_id"]) == 36
        assert request["input_tokens"] > 0 and request["output_tokens"] == 5
        assert request["finish_reason_metadata"] == {"finish_reason": "length"}
        assert abs(request["request_received_ms"] + request["total_time_ms"] - event["event_time_unix_ms"]) < 50
        assert request["prefill_wait_time_ms"] + request["prefill_time_ms"] <= request["ttft_ms"] + 0.01
        replay = request["replay"]
        # What Dynamo's loader asks for.
        blocks = -(-replay["input_length"] // replay["trace_block_size"])
        assert len(replay["input_sequence_hashes"]) == blocks > 10
    first, second = (requests[name]["event"]["request"]["replay"]["input_sequence_hashes"] for name in ("trace-one", "trace-two"))
    shared = next(i for i, (a, b) in enumerate(zip(first, second)) if a != b)
    assert 10 < shared < len(first), "prompts that begin alike share the hashes of the beginning, and no more"
    raw = b"".join(gzip.open(name).read() for name in files(stack))
    assert SECRET.encode() not in raw and b"word" not in raw
    metrics = frontend.metrics()
    assert metrics.sum("dynamo_frontend_request_trace_records_total") == 2
    assert metrics.sum("dynamo_frontend_request_trace_dropped_total") == 0


def test_nothing_is_written_unless_asked_for(stack):
    env = settings(stack)
    del env["DYN_REQUEST_TRACE"]
    frontend = stack.frontend("--simulate", "1", "--model-name", MODEL, env=env)
    assert frontend.post(PATH, chat())[0] == 200
    assert frontend.stop() == 0
    assert files(stack) == []


def test_files_roll_and_the_oldest_go(stack):
    env = settings(stack, FILE_ROLL_LINES=1, FILE_COUNT=3, FILE_FORMAT="jsonl")
    frontend = stack.frontend("--simulate", "1", "--model-name", MODEL, env=env)
    for number in range(6):
        assert frontend.post(PATH, chat(max_tokens=1), {"x-request-id": f"roll-{number}"})[0] == 200
        eventually("it is written", lambda: any(f"roll-{number}" in json.dumps(r) for r in records(stack)))
    names = [name.rsplit("/")[-1] for name in files(stack)]
    assert names == ["trace.000003.jsonl", "trace.000004.jsonl", "trace.000005.jsonl"]
    assert frontend.metrics().sum("dynamo_frontend_request_trace_files_removed_total") == 3


def test_the_last_records_are_written_at_the_end_and_sessions_are_hashed(stack):
    frontend = stack.frontend("--simulate", "1", "--model-name", MODEL, env=settings(stack, FILE_FLUSH_INTERVAL_MS=600_000))
    assert frontend.post(PATH, chat(), {"x-dynamo-session-id": "someone"})[0] == 200
    assert frontend.stop() == 0
    (record,) = records(stack)
    assert len(record["event"]["agent_context"]["session_id"]) == 16
    assert "someone" not in json.dumps(record)


def test_a_disk_that_refuses_is_counted_and_delays_nobody(stack):
    env = settings(stack, FILE_PATH=f"{stack.folder}/nowhere/trace")
    frontend = stack.frontend("--simulate", "1", "--model-name", MODEL, env=env)
    for _ in range(3):
        assert frontend.post(PATH, chat())[0] == 200
    eventually(
        "all are counted as lost",
        lambda: frontend.metrics().sum("dynamo_frontend_request_trace_dropped_total") == 3,
    )
    lost = [line for line in frontend.records() if line["message"] == "request-trace records are lost"]
    assert len(lost) == 1 and "nowhere" in lost[0]["cause"]


def test_a_share_of_requests_is_recorded(stack):
    frontend = stack.frontend("--simulate", "1", "--model-name", MODEL, env=settings(stack, SAMPLE_RATIO=0.5))
    for _ in range(40):
        assert frontend.post(PATH, chat(max_tokens=1))[0] == 200
    name = "dynamo_frontend_request_trace_sampling_records_total"
    metrics = eventually("all are decided", lambda: (m := frontend.metrics()).sum(name) == 40 and m)
    sampled = metrics.sum(name, decision="sampled")
    assert 0 < sampled < 40
    assert frontend.stop() == 0
    assert len(records(stack)) == sampled
