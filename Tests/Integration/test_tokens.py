"""Prompts routed by their tokens: what spans say, blocks of real tokens, the tokenizer's routes, models that are refused."""

import json
import subprocess

import pytest
from support import tiny_model
from support.processes import BIN, MODEL, chat, eventually

CHAT = "/v1/chat/completions"


@pytest.fixture
def model(tmp_path):
    tiny_model.write(tmp_path / "model")
    return tmp_path / "model"


def start(stack, model, receiver=None, ready=True):
    workers = [stack.upstream(), stack.upstream()]
    args = [arg for worker in workers for arg in ("--worker", worker.url)]
    frontend = stack.frontend("--model-path", str(model), *args, receiver=receiver, ready=ready)
    eventually("both known", lambda: frontend.get("/health")[2].count(b'"instance_id"') >= 2)
    return frontend


def rendered(prompt: str) -> int:
    """Tokens of a chat with one message: each byte is one, and each special token."""
    return 1 + len(f"user\n{prompt}".encode()) + 1 + len("\n") + 1 + len("assistant\n")


def test_spans_count_real_tokens(stack, receiver, model):
    frontend = start(stack, model, receiver)
    prompts = {"short": "héllo 😀", "long": "many words and ünïcode " * 2_000}  # the long one goes through the pool
    for name, prompt in prompts.items():
        assert frontend.post(CHAT, chat(prompt), {"x-request-id": name})[0] == 200
    assert frontend.post("/v1/completions", {"model": MODEL, "prompt": list(range(100))}, {"x-request-id": "ids"})[0] == 200
    for name, prompt in prompts.items():
        trace = receiver.trace(name, "kv_router.select_worker")
        preprocess = trace.one("preprocess")
        assert preprocess.attributes["prompt.source"] == "tokens"
        assert preprocess.attributes["isl_tokens"] == rendered(prompt)
        assert preprocess.attributes["num_blocks"] == rendered(prompt) // 16
        assert trace.one("kv_router.select_worker").attributes["isl_tokens"] == rendered(prompt)
        steps = [trace.one("preprocess.template"), trace.one("preprocess.tokenize")]
        assert all(step.parent == preprocess.span_id for step in steps)
        assert preprocess.start <= steps[0].start <= steps[0].end == steps[1].start <= steps[1].end <= preprocess.end
    ids = receiver.trace("ids", "kv_router.select_worker")
    assert ids.one("preprocess").attributes["isl_tokens"] == 100
    assert not ids.named("preprocess.template")


def test_equal_tokens_share_blocks_whatever_the_json_looks_like(stack, receiver, model):
    frontend = start(stack, model, receiver)
    text = "the same prompt, " * 40
    parts = [{"type": "text", "text": text}]
    for name, content in (("text", text), ("parts", parts)):
        body = {"model": MODEL, "messages": [{"content": content, "role": "user"}]}
        raw = json.dumps(body, indent=1 if name == "parts" else None)
        assert frontend.post(CHAT, json.loads(raw), {"x-request-id": name})[0] == 200
    decision = receiver.trace("parts", "kv_router.select_worker").one("kv_router.select_worker").attributes
    assert decision["overlap_blocks"] == decision["num_blocks"] > 40


def test_what_the_template_refuses_is_the_engines_business(stack, receiver, model):
    config = json.loads((model / "tokenizer_config.json").read_text())
    config["chat_template"] = "{{ raise_exception('never') }}"
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    frontend = start(stack, model, receiver)
    assert frontend.post(CHAT, chat("some text " * 20), {"x-request-id": "refused"})[0] == 200
    span = receiver.trace("refused", "preprocess").one("preprocess")
    assert span.attributes["prompt.source"] == "bytes" and span.attributes["num_blocks"] > 0
    assert frontend.metrics().sum("dynamo_frontend_untokenized_prompts_total", reason="raised") == 1


def test_tokenize_and_detokenize(stack, model):
    frontend = start(stack, model)
    status, _, answer = frontend.post("/tokenize", {"model": MODEL, "prompt": "héllo<|im_end|>"})
    assert status == 200
    assert json.loads(answer) == {
        "count": 7, "max_model_len": 8192, "tokens": [*"héllo".encode(), 258], "token_strs": None,
    }
    status, _, answer = frontend.post("/tokenize", {"messages": [{"role": "user", "content": "hi"}]})
    assert status == 200 and json.loads(answer)["count"] == rendered("hi")
    status, _, answer = frontend.post("/detokenize", {"tokens": json.loads(answer)["tokens"]})
    assert json.loads(answer)["prompt"] == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


def test_a_model_that_is_not_supported_is_routed_by_bytes(stack, receiver, model):
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["model"]["type"] = "Unigram"
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    frontend = start(stack, model, receiver)
    assert frontend.post(CHAT, chat(), {"x-request-id": "bytes"})[0] == 200
    assert receiver.trace("bytes", "preprocess").one("preprocess").attributes["prompt.source"] == "bytes"
    assert "tokenizer refused" in frontend.text() and "Unigram" in frontend.text()
    assert frontend.post("/tokenize", {"prompt": "a"})[0] == 404
    run = subprocess.run(
        [BIN / "dynamo-frontend", "doctor", "--model-path", model], capture_output=True, text=True, timeout=30
    )
    assert "PROBLEM" in run.stdout and "Unigram" in run.stdout


def test_a_missing_folder_is_an_error_at_start(tmp_path):
    run = subprocess.run(
        [BIN / "dynamo-frontend", "--http-port=0", "--model-path", tmp_path / "nothing"],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert run.returncode == 1 and "there is no folder" in run.stderr


def test_doctor_tells_of_the_tokenizer(model):
    run = subprocess.run(
        [BIN / "dynamo-frontend", "doctor", "--model-path", model], capture_output=True, text=True, timeout=30
    )
    assert "259 ids, a chat template" in run.stdout
