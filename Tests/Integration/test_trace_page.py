"""The trace store's page in a real browser: headless Chromium writes down the document that its script made.

Skipped where there is no Chromium (Scripts/bootstrap.sh page); $CHROMIUM names another one.
"""

import html
import os
import re
import shutil
import subprocess

import pytest
from support.processes import chat, eventually, request
from test_trace_store import PATH, Store, flags, message, ports, spans, trace_id

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium: Scripts/bootstrap.sh page")


def document(stack, url: str) -> str:
    """The document at `url` once its script has asked what it wanted to know."""
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--virtual-time-budget=6000",
        f"--user-data-dir={stack.folder / 'chromium'}", "--dump-dom", url,
    ]  # fmt: skip
    environment = {**os.environ, "HOME": str(stack.folder)}
    done = subprocess.run(command, capture_output=True, timeout=60, env=environment, check=True)
    return done.stdout.decode()


def text(fragment: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", fragment))


@pytest.fixture
def store(stack):
    """A frontend with two simulated workers and the store, that has answered one request."""
    chosen = ports()
    frontend = stack.frontend("--simulate=2", "--model-name=m", "--discovery-backend=mem", "--trace-store", *flags(*chosen))
    store = Store(*chosen)
    eventually("both workers are known", lambda: frontend.get("/health")[2].count(b'"instance_id"') == 2)
    request(frontend.port, "POST", PATH, chat("word " * 200, model="m"), {"x-request-id": "page/1?x"})
    found = eventually("the trace", lambda: store.search(q='{ .x_request_id = "page/1?x" } && { name = "engine.generate" }'))
    store.trace = found[0]["traceID"].zfill(32)
    eventually("all spans", lambda: len(spans(store, store.trace)) == 7)
    return store


def test_a_request_is_shown_with_its_decision_and_its_spans(stack, store):
    seen = document(stack, f"http://127.0.0.1:{store.port}/request/page%2F1%3Fx")
    trace = seen[seen.index('id="trace"') :]
    assert f"<h1>POST {PATH}</h1>" in trace
    for words in ("Where the time went", "decode", "How the worker was chosen", "2 candidates", "7 spans, 2 services"):
        assert words in text(trace), words
    assert trace.count('class="worker won"') == 1 and trace.count('class="worker') == 2
    names = re.findall(r'class="name">([^<]+)<', trace)
    assert names[:2] == [f"POST {PATH}", "http-request"] and set(names) >= {"handle_payload", "engine.generate"}
    # Children stand deeper than their parents.
    levels = dict(zip(names, map(int, re.findall(r'aria-level="(\d+)"', trace)), strict=True))
    assert levels["http-request"] < levels["kv_router.route_request"] < levels["handle_payload"] < levels["engine.generate"]


def test_the_list_and_a_search_in_the_address(stack, store):
    failed = message(name="fails")
    failed.resource_spans[0].scope_spans[0].spans[0].status.code = 2
    failed.resource_spans[0].scope_spans[0].spans[0].status.message = "the disk is full"
    store.post(failed.SerializeToString())
    seen = document(stack, f"http://127.0.0.1:{store.port}/trace/{trace_id(failed)}")
    assert "What went wrong fails the disk is full" in " ".join(text(seen[seen.index('id="trace"') :]).split())
    rows = re.findall(r'data-id="(\w+)"', document(stack, f"http://127.0.0.1:{store.port}/"))
    assert rows == [trace_id(failed), store.trace], "the newest first"
    rows = re.findall(r'data-id="(\w+)"', document(stack, f"http://127.0.0.1:{store.port}/?status=error"))
    assert rows == [trace_id(failed)]
    found = document(stack, f"http://127.0.0.1:{store.port}/?service=dynamo-worker&tag=model%3Dm&min=1ms")
    assert re.findall(r'data-id="(\w+)"', found) == [store.trace]
    refused = document(stack, f"http://127.0.0.1:{store.port}/?q=%7B+nonsense+%3D+1+%7D")
    assert "unknown name 'nonsense'" in text(refused.split('id="fault"')[1][:400])


def test_what_strangers_write_on_spans_stays_text(stack, store):
    hostile = "<img src=x onerror=\"document.title='pwned'\"></script><script>document.title='pwned'</script>"
    export = message(service=hostile, name=hostile, x_request_id=hostile, model=hostile)
    span = export.resource_spans[0].scope_spans[0].spans[0]
    span.status.code, span.status.message = 2, hostile
    span.events.add(name=hostile, time_unix_nano=span.start_time_unix_nano)
    assert store.post(export.SerializeToString())[0] == 200
    seen = document(stack, f"http://127.0.0.1:{store.port}/trace/{trace_id(export)}")
    title = re.search(r"<title>(.*?)</title>", seen, re.S).group(1)
    assert "pwned" in title and not title.startswith("pwned"), "the name, as text"
    assert "<img" not in seen
    assert seen.count("<script>") == 1
    assert f"<h1>{html.escape(hostile, quote=False)}</h1>" in seen


def test_two_hundred_spans_and_a_parent_that_never_came(stack, store):
    export = message()
    scope = export.resource_spans[0].scope_spans[0]
    root = scope.spans[0]
    for index in range(199):
        parent = scope.spans[index // 3]
        scope.spans.add(
            trace_id=root.trace_id, span_id=(index + 1000).to_bytes(8), name=f"step-{index}", parent_span_id=parent.span_id,
            start_time_unix_nano=root.start_time_unix_nano + index, end_time_unix_nano=root.end_time_unix_nano,
        )  # fmt: skip
    scope.spans[150].parent_span_id = b"absent--"
    store.post(export.SerializeToString())
    seen = document(stack, f"http://127.0.0.1:{store.port}/trace/{trace_id(export)}")
    assert seen.count('role="treeitem"') == 200
    assert "parent is not here" in text(seen)
