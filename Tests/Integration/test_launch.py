"""The launch scripts beside agg.sh, which the walkthrough runs: engines of every kind, cache events, an orderly end."""

from __future__ import annotations

import itertools
import json
import os
import subprocess

import pytest
from support.processes import BIN, MODEL, ROOT, Server, chat, eventually, free_port

CHAT = "/v1/chat/completions"

# A server with OpenAI's API under the name of an engine: it notes its arguments, and listens on the port that they name.
ENGINE = """#!/bin/bash
printf '%s\\n' "$@" >"$NOTES/${0##*/}.$$"
while [ "$1" != --port ]; do shift; done
exec env -u DYN_SYSTEM_PORT OTEL_EXPORT_ENABLED=false "$BIN/dynamo-worker" --discovery-backend mem --model "$MODEL" --port "$2"
"""


@pytest.fixture
def launched(stack, receiver):
    def start(script: str, *arguments: str, **more: str) -> Server:
        port = free_port()
        tools, runtime = stack.folder / "tools", stack.folder / "run"
        for folder in (tools, runtime):
            folder.mkdir(mode=0o700)
        for name in ("vllm", "llama-server"):
            (tools / name).write_text(ENGINE)
            (tools / name).chmod(0o755)
        env = stack.env({"DYN_FILE_KV": None, "XDG_RUNTIME_DIR": runtime, "DYN_HTTP_PORT": port, "MODEL": MODEL, **more}, receiver)
        workers = 3 if script == "disagg.sh" else 2
        for number in range(1, workers + 1):
            env |= {f"DYN_SYSTEM_PORT{number}": "0", f"ENGINE_PORT{number}": str(free_port())}
        env |= {"PATH": f"{tools}:{env['PATH']}", "NOTES": str(stack.folder), "BIN": str(BIN)}
        server = Server([str(ROOT / "Scripts/launch" / script), *arguments], env, stack.folder / "launch.log", port)
        stack.started.append(server)
        server.wait_for("/ready", timeout=30)
        eventually("all workers serve", lambda: server.metrics().sum("dynamo_frontend_worker_up") == workers, timeout=30)
        assert server.post(CHAT, chat())[0] == 200
        return server

    return start


def end(server: Server) -> None:
    server.signal(15)
    assert server.wait(20) == 143
    eventually("the frontend is gone", lambda: server.status("/live") == 0)


def test_agg_router_follows_cache_events(launched):
    server = launched("agg_router.sh")
    prompts = itertools.count()

    def live() -> bool:
        # A feed is live from its first batch on: a prompt of more than a block, each time another.
        assert server.post(CHAT, chat(f"{next(prompts)}: " + "Which worker holds this? " * 20))[0] == 200
        return server.metrics().sum("dynamo_frontend_kv_event_source", reason="feed_live") == 2

    eventually("caches are known by events", live)
    assert "DYN_SYSTEM_PORT1" not in server.text()
    assert server.metrics().sum("dynamo_frontend_model_kv_cache_block_size", model=MODEL) == 64
    end(server)


def test_disagg_reads_prompts_elsewhere(launched):
    server = launched("disagg.sh")
    assert server.post(CHAT, chat())[0] == 200
    assert server.metrics().sum("dynamo_frontend_prefill_requests_total", route="remote") >= 1
    end(server)


@pytest.mark.parametrize(("engine", "script"), [("vllm", "agg_router.sh"), ("llama", "agg.sh")])
def test_real_engines_are_started_and_ended(launched, stack, receiver, engine, script):
    model_file = stack.folder / "a model.gguf"
    model_file.touch()
    server = launched(script, "--threads", "4", ENGINE=engine, MODEL_FILE=str(model_file))
    notes = [path for path in stack.folder.iterdir() if path.name.startswith(("vllm.", "llama-server."))]
    assert len(notes) == 2
    for path in notes:
        arguments = path.read_text().splitlines()
        assert arguments[-2:] == ["--threads", "4"], "what follows the script's name goes to the engines"
        if engine == "vllm":
            assert arguments[:2] == ["serve", MODEL] and receiver.endpoint in arguments
            events = json.loads(arguments[arguments.index("--kv-events-config") + 1])
            assert events["publisher"] == "zmq" and events["enable_kv_cache_events"] is True
        else:
            assert arguments[:4] == ["-m", str(model_file), "--alias", MODEL]
    end(server)
    for path in notes:
        eventually("the engine is gone", lambda path=path: not os.path.exists(f"/proc/{path.suffix[1:]}"))


@pytest.mark.parametrize(("more", "reason"), [({"ENGINE": "llama"}, "MODEL_FILE"), ({"ENGINE": "magic"}, "sim, vllm or llama")])
def test_what_is_missing_is_said(stack, more, reason):
    env = stack.env(more)
    env["PATH"] = f"{stack.folder}:{env['PATH']}"
    (stack.folder / "llama-server").write_text("#!/bin/sh\n")
    (stack.folder / "llama-server").chmod(0o755)
    done = subprocess.run([ROOT / "Scripts/launch/agg.sh"], env=env, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and reason in done.stderr
