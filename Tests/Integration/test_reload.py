"""SIGHUP: the configuration file is read again by a running process."""

import json
import signal
import threading

from support.processes import chat, eventually
from support.upstream import STREAM_HEAD, token

PATH = "/v1/chat/completions"


class Configured:
    """A frontend with a file that a test rewrites."""

    def __init__(self, stack, lines: dict, *flags: str, env: dict | None = None, ready: bool = True):
        self.file = stack.folder / "frontend.conf"
        self.write(lines)
        self.frontend = stack.frontend("--config", str(self.file), *flags, env=env, ready=ready)

    def write(self, lines: dict) -> None:
        self.file.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))

    def hang_up(self) -> list[dict]:
        """Sends the signal and waits for what is said about it: the records from then on."""
        seen = len(self.frontend.records())
        self.frontend.signal(signal.SIGHUP)

        def answer():
            fresh = self.frontend.records()[seen:]
            done = [r for r in fresh if "configuration is" in r["message"] or "no configuration file" in r["message"]]
            return fresh if done else None

        return eventually("the reading is reported", answer)

    def reload(self, lines: dict) -> list[dict]:
        self.write(lines)
        return self.hang_up()


def said(records: list[dict], level: str) -> list[dict]:
    return [record for record in records if record["level"] == level]


def changed(records: list[dict]) -> list[str]:
    """What was taken over."""
    return [record["changed"] for record in records if "changed" in record]


def test_workers_come_and_go(stack):
    first, second = stack.upstream(), stack.upstream()
    process = Configured(stack, {"DYN_WORKERS": first.url})
    frontend = process.frontend
    assert frontend.post(PATH, chat())[0] == 200
    records = process.reload({"DYN_WORKERS": f"{first.url},{second.url}"})
    assert changed(records) == ["DYN_WORKERS"]
    eventually("both are ready", lambda: frontend.metrics().sum("dynamo_frontend_worker_up") == 2)
    process.reload({"DYN_WORKERS": second.url})
    eventually("one is left", lambda: frontend.metrics().sum("dynamo_frontend_worker_up") == 1)
    before = len(first.requests)
    for number in range(5):
        assert frontend.post(PATH, chat(f"prompt {number}"))[0] == 200
    assert len(first.requests) == before and len(second.requests) >= 5
    process.reload({})
    eventually("none is left", lambda: frontend.status("/ready") == 503)
    assert frontend.post(PATH, chat())[0] == 503


def test_a_stream_on_a_worker_that_is_removed_ends_well(stack):
    first, second = stack.upstream(), stack.upstream()
    go_on = threading.Event()

    def slow(peer, seen):
        peer.send(STREAM_HEAD)
        peer.event(token(0, "a"))
        go_on.wait(20)
        peer.event(token(1, "b"))
        peer.event("[DONE]")
        peer.send(b"0\r\n\r\n")

    first.behaviour = slow
    process = Configured(stack, {"DYN_WORKERS": first.url})
    answer = []
    asking = threading.Thread(target=lambda: answer.append(process.frontend.post(PATH, chat(stream=True))))
    asking.start()
    first.wait_requests(1)
    process.reload({"DYN_WORKERS": second.url})
    eventually("the other is ready", lambda: process.frontend.post(PATH, chat())[0] == 200)
    go_on.set()
    asking.join()
    status, _, body = answer[0]
    assert status == 200 and b'"b"' in body and b"[DONE]" in body


def test_limits_and_answers_change(stack, upstream):
    process = Configured(stack, {"DYN_WORKERS": upstream.url})
    frontend = process.frontend
    big = chat("x" * 2_000_000)
    assert frontend.post(PATH, big)[0] == 200
    settings = {
        "DYN_WORKERS": upstream.url,
        "DYN_HTTP_BODY_LIMIT_MB": 1,
        "DYN_ERROR_FORMAT": "dynamo",
        "DYN_HTTP_WORKER_ID_HEADER": "false",
        "DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS": 1,
        "DYN_HTTP_REQUEST_LINE_LIMIT": 256,
    }
    records = process.reload(settings)
    assert not said(records, "WARN")
    assert frontend.post(PATH, big)[0] == 413
    status, headers, _ = frontend.post(PATH, chat())
    assert status == 200 and "x-dynamo-worker-id" not in {key.lower() for key in headers}
    status, _, body = frontend.get("/nowhere")
    assert status == 404 and isinstance(json.loads(body)["message"], str)
    assert frontend.get("/" + "x" * 300)[0] == 414
    upstream.behaviour = lambda peer, seen: peer.wait_closed()
    assert frontend.post(PATH, chat())[0] == 504


def test_the_log_filter_changes(stack, upstream):
    process = Configured(stack, {"DYN_WORKERS": upstream.url, "DYN_LOG": "info"})
    frontend = process.frontend

    def lines(request_id):
        return [r for r in frontend.records() if r.get("x_request_id") == request_id]

    assert frontend.post(PATH, chat(), {"x-request-id": "one"})[0] == 200
    eventually("the line is written", lambda: lines("one"))
    process.reload({"DYN_WORKERS": upstream.url, "DYN_LOG": "info,dynamo_frontend::http=warn"})
    assert frontend.post(PATH, chat(), {"x-request-id": "two"})[0] == 200
    process.reload({"DYN_WORKERS": upstream.url})
    assert frontend.post(PATH, chat(), {"x-request-id": "three"})[0] == 200
    eventually("the line is written again", lambda: lines("three"))
    assert not lines("two")


def test_what_needs_a_restart_is_named_and_stays(stack, upstream):
    process = Configured(stack, {"DYN_WORKERS": upstream.url, "DYN_ROUTER_MODE": "kv"})
    settings = {"DYN_WORKERS": upstream.url, "DYN_ROUTER_MODE": "random", "DYN_HTTP_PORT": 1, "DYN_ROUTER_TEMPERATURE": 0.5}
    # Each reading says it again: nothing has been done about it.
    for _ in range(2):
        records = process.reload(settings)
        warnings = said(records, "WARN")
        assert [w["setting"] for w in warnings] == ["DYN_ROUTER_MODE"]
        assert warnings[0]["now"] == "kv" and warnings[0]["next"] == "random"
        assert warnings[0]["origin"].endswith("frontend.conf:2")
    # The flag --http-port beats the file, so the port has not changed.
    assert process.frontend.post(PATH, chat())[0] == 200


def test_flag_and_environment_stay_what_they_are(stack):
    first, second = stack.upstream(), stack.upstream()
    process = Configured(
        stack, {}, "--worker", first.url, env={"DYN_HTTP_BODY_LIMIT_MB": 2}
    )
    records = process.reload({"DYN_WORKERS": second.url, "DYN_HTTP_BODY_LIMIT_MB": 1})
    assert changed(records) == ["nothing"] and not said(records, "WARN")
    assert process.frontend.post(PATH, chat("x" * 1_500_000))[0] == 200
    assert len(first.requests) == 1 and not second.requests


def test_a_broken_file_changes_nothing_and_says_where(stack, upstream):
    process = Configured(stack, {"DYN_WORKERS": upstream.url})
    process.file.write_text("DYN_HTTP_BODY_LIMIT_MB=1\nDYN_ROUTER_TEMPERATURE=hot\nwhat is this\n")
    process.hang_up()

    def faults():
        return "\n".join(record.get("fault", "") for record in said(process.frontend.records(), "ERROR"))

    eventually("the first fault", lambda: "frontend.conf:2: 'hot' is not a number" in faults())
    eventually("the second fault", lambda: "frontend.conf:3: not KEY=VALUE" in faults())
    process.file.write_text("DYN_HTTP_BODY_LIMIT_MB=1\nDYN_WORKERS=ftp://nowhere\n")
    [fault] = [r["fault"] for r in said(process.hang_up(), "ERROR")]
    assert "frontend.conf:2" in fault and "ftp://nowhere" in fault
    process.file.unlink()
    [fault] = [r["fault"] for r in said(process.hang_up(), "ERROR")]
    assert "No such file" in fault
    assert process.frontend.post(PATH, chat("x" * 1_500_000))[0] == 200


def test_without_a_file_the_signal_is_answered(stack, upstream):
    frontend = stack.frontend("--worker", upstream.url)
    frontend.signal(signal.SIGHUP)
    eventually(
        "a warning", lambda: [r for r in frontend.records() if "there is no configuration file" in r["message"]]
    )
    assert frontend.post(PATH, chat())[0] == 200


def test_many_signals_under_load_lose_no_request(stack):
    first, second = stack.upstream(), stack.upstream()
    process = Configured(stack, {"DYN_WORKERS": f"{first.url},{second.url}"}, "--threads", "2")
    statuses: list[int] = []
    stop = threading.Event()

    def ask():
        while not stop.is_set():
            statuses.append(process.frontend.post(PATH, chat(stream=True))[0])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for index in range(20):
        lines = {"DYN_WORKERS": f"{first.url},{second.url}" if index % 2 else first.url}
        process.reload(lines | {"DYN_PASS_BODY_VERBATIM": "true" if index % 3 else "false"})
    stop.set()
    for thread in threads:
        thread.join()
    assert len(statuses) > 20 and set(statuses) == {200}
