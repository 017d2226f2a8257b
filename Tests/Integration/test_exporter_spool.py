"""Spans outlive an outage of the receiver and a restart of the program on disk, and the books stay true."""

import re

from support.processes import eventually
from test_exporter import SPANS, serve

NAMES = {"spooled": "dynamo_trace_spans_spooled", "recovered": "dynamo_trace_spans_recovered_total"}


def books(frontend) -> dict[str, int]:
    metrics = frontend.metrics()
    made, sent, dropped = metrics.books()
    more = {key: int(metrics.sum(name)) for key, name in NAMES.items()}
    return {"made": made, "sent": sent, "dropped": dropped, **more}


def closed(frontend, **wanted: int) -> dict[str, int]:
    """The books, once nothing is on its way and they say what is `wanted`."""

    def probe():
        found = books(frontend)
        balances = found["made"] + found["recovered"] == found["sent"] + found["dropped"] + found["spooled"]
        return balances and all(found[key] == value for key, value in wanted.items()) and found

    return eventually(f"books that balance with {wanted}", probe, timeout=30)


def start(stack, receiver, upstream, folder, **env):
    env = {"DYN_TRACE_SPOOL_DIR": folder, "OTEL_BSP_EXPORT_TIMEOUT": 700, "OTEL_EXPORTER_OTLP_TIMEOUT": 700} | env
    return stack.frontend("--worker", upstream.url, receiver=receiver, env=env)


def requests(receiver) -> set[str]:
    return {span.attributes["x_request_id"] for span in receiver.spans if span.name == "http-request"}


def test_outage_is_survived_on_disk(stack, receiver, upstream, tmp_path):
    frontend = start(stack, receiver, upstream, tmp_path / "spool")
    receiver.stop()
    serve(frontend, 10, prefix="out")
    made = 10 * SPANS
    closed(frontend, made=made, sent=0, dropped=0, spooled=made)
    assert list((tmp_path / "spool/dynamo-frontend").glob("*.spans"))
    receiver.start()
    closed(frontend, sent=made, dropped=0, spooled=0)
    assert requests(receiver) == {f"out{index}" for index in range(10)}
    assert len(receiver.spans) == made, "nothing twice: no answer was lost"
    assert not list((tmp_path / "spool/dynamo-frontend").iterdir())


def test_next_process_sends_what_the_last_one_could_not(stack, receiver, upstream, tmp_path):
    first = start(stack, receiver, upstream, tmp_path / "spool", OTEL_BSP_SCHEDULE_DELAY=60000)
    receiver.stop()
    serve(first, 5, prefix="first")
    assert first.stop() == 0
    line = next(record for record in first.records() if record["message"] == "span export closed")
    left = int(line["spooled"])
    assert int(line["made"]) == int(line["sent"]) + int(line["dropped"]) + left and left > 0 == int(line["dropped"])
    receiver.start()
    second = start(stack, receiver, upstream, tmp_path / "spool")
    serve(second, 1, prefix="second")
    receiver.trace("second0", "kv_router.route_request")
    found = closed(second, spooled=0)
    assert found["recovered"] == left and found["dropped"] == 0 and found["sent"] == left + found["made"]
    assert requests(receiver) == {*(f"first{index}" for index in range(5)), "second0"}


def test_killed_process_leaves_its_files_to_the_next(stack, receiver, upstream, tmp_path):
    first = start(stack, receiver, upstream, tmp_path / "spool")
    receiver.stop()
    serve(first, 5, prefix="first")
    spooled = closed(first, made=5 * SPANS, sent=0)["spooled"]
    first.kill()
    folder = tmp_path / "spool/dynamo-frontend"
    whole = sorted(folder.glob("*.spans"))[0].read_bytes()
    (folder / "00000000000000000007.spans").write_bytes(whole[:-5])
    (folder / "00000000000000000008.spans").write_bytes(b"")
    (folder / "9.draft").write_bytes(whole)
    receiver.start()
    second = start(stack, receiver, upstream, tmp_path / "spool")
    found = closed(second, spooled=0)
    assert found["recovered"] == found["sent"] == spooled == len(receiver.spans)
    assert second.metrics().sum("dynamo_trace_spool_files_skipped_total") == 2
    assert not list(folder.iterdir())


def test_spool_is_bounded(stack, receiver, upstream, tmp_path):
    frontend = start(stack, receiver, upstream, tmp_path / "spool", DYN_TRACE_SPOOL_MB=1, OTEL_BSP_MAX_EXPORT_BATCH_SIZE=256)
    receiver.stop()
    for burst in range(12):
        serve(frontend, 60, prefix=f"{burst}-" + "x" * 90)
    found = closed(frontend, made=720 * SPANS, sent=0)
    size = sum(path.stat().st_size for path in (tmp_path / "spool").rglob("*.spans"))
    assert size <= 1 << 20 and size == frontend.metrics().sum("dynamo_trace_spool_bytes")
    assert found["dropped"] == frontend.metrics().sum("dynamo_trace_spans_dropped_total", reason="spool_full") > 0
    receiver.start()
    closed(frontend, spooled=0, sent=found["spooled"])


def test_frontend_and_worker_have_folders_of_their_own(stack, receiver, tmp_path):
    env = {"DYN_TRACE_SPOOL_DIR": tmp_path / "spool"}
    stack.worker(receiver=receiver, env=env)
    stack.worker(receiver=receiver, env=env)
    stack.frontend(receiver=receiver, env=env)
    names = eventually("folders", lambda: len(list((tmp_path / "spool").iterdir())) == 3 and sorted((tmp_path / "spool").iterdir()))
    assert [path.name for path in names] == ["dynamo-frontend", "dynamo-worker", "dynamo-worker.1"]
    assert all(path.stat().st_mode & 0o777 == 0o700 for path in names)


def test_folder_that_cannot_be_used_harms_nothing(stack, receiver, upstream):
    frontend = start(stack, receiver, upstream, "/proc/nowhere")
    serve(frontend, 3)
    closed(frontend, made=3 * SPANS, sent=3 * SPANS, dropped=0)
    assert re.search("span spool cannot be used", frontend.text())
