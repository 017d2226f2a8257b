"""The exporter against receivers that misbehave on the level of HTTP/2 frames: spans arrive or are accounted for."""

import h2.settings
import pytest
from support.h2receiver import H2Receiver
from support.processes import chat, eventually
from test_exporter import SPANS, balanced, serve

PATH = "/v1/chat/completions"


def start(stack, upstream, script, settings=None, **env):
    receiver = H2Receiver(script, settings)
    stack.started.append(receiver)
    frontend = stack.frontend("--worker", upstream.url, receiver=receiver, env=env)
    return frontend, receiver


@pytest.mark.parametrize("first", ["refused", "goaway", "close", "half", "status:14"])
def test_failed_call_is_sent_again(stack, upstream, first):
    frontend, receiver = start(stack, upstream, lambda call: first if call == 0 else "ok")
    serve(frontend, 3)
    made, sent, dropped = balanced(frontend)
    assert dropped == 0 and receiver.accepted == made == sent
    assert receiver.calls >= 2


@pytest.mark.parametrize("status", [3, 12, 13, 16])
def test_final_status_drops_the_batch_as_rejected(stack, upstream, status):
    frontend, receiver = start(stack, upstream, lambda call: f"status:{status}" if call == 0 else "ok")
    serve(frontend, 3)
    made, sent, dropped = balanced(frontend, dropped_at_least=1)
    assert frontend.metrics().sum("dynamo_trace_spans_dropped_total", reason="rejected") == dropped
    assert receiver.accepted == sent


def test_partial_success_is_read(stack, upstream):
    frontend, receiver = start(stack, upstream, lambda call: "partial:2" if call == 0 else "ok")
    serve(frontend, 3)
    made, sent, dropped = balanced(frontend, dropped_at_least=2)
    assert dropped == 2 and receiver.accepted == sent


def test_narrow_flow_control_window(stack, upstream):
    settings = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 500, h2.settings.SettingCodes.MAX_FRAME_SIZE: 16384}
    frontend, receiver = start(stack, upstream, lambda call: "ok", settings)
    serve(frontend, 20)
    made, sent, dropped = balanced(frontend)
    assert dropped == 0 and receiver.accepted == made and receiver.connections == 1


def test_pings_settings_and_unknown_frames_are_taken_in_stride(stack, upstream):
    frontend, receiver = start(stack, upstream, lambda call: "chatter")
    for index in range(4):
        serve(frontend, 2, prefix=f"r{index}-")
        balanced(frontend)
    assert receiver.connections == 1 and receiver.accepted == frontend.metrics().books()[1]


@pytest.mark.parametrize("what", ["garbage", "internal", "silence", "close"])
def test_receiver_that_never_works_harms_nothing(stack, upstream, what):
    frontend, receiver = start(
        stack, upstream, lambda call: what, OTEL_BSP_EXPORT_TIMEOUT=1500, OTEL_EXPORTER_OTLP_TIMEOUT=1500
    )
    serve(frontend, 5)
    made, sent, dropped = balanced(frontend, dropped_at_least=1)
    assert sent == 0
    assert frontend.post(PATH, chat())[0] == 200


def test_gzip(stack, upstream):
    frontend, receiver = start(
        stack, upstream, lambda call: "status:14" if call == 0 else "ok", OTEL_EXPORTER_OTLP_COMPRESSION="gzip"
    )
    serve(frontend, 20)
    eventually("all spans", lambda: frontend.metrics().books() == (20 * SPANS, 20 * SPANS, 0))
    assert receiver.accepted == 20 * SPANS and receiver.compressed == receiver.calls - 1
