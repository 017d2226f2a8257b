"""The other APIs of the family, asked by the official SDKs: embeddings, responses, rerank, and Anthropic's messages."""

import json
import math

import anthropic
import openai
import pytest
from support.processes import MODEL, events
from support.upstream import STREAM_HEAD, token


@pytest.fixture(scope="module")
def frontend(shared_stack):
    return shared_stack.frontend("--simulate", "2", "--model-name", MODEL, "--enable-anthropic-api")


@pytest.fixture(scope="module")
def client(frontend):
    return openai.OpenAI(base_url=f"{frontend.url}/v1", api_key="none", max_retries=0, timeout=30)


@pytest.fixture(scope="module")
def claude(frontend):
    return anthropic.Anthropic(base_url=frontend.url, api_key="none", max_retries=0, timeout=30)


MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]


# --- embeddings, rerank, score


def test_embeddings(client):
    texts = ["a quiet river", "a quiet river", "stone"]
    answer = client.embeddings.create(model=MODEL, input=texts, dimensions=32)
    vectors = [item.embedding for item in answer.data]
    assert [len(vector) for vector in vectors] == [32, 32, 32]
    assert all(abs(math.hypot(*vector) - 1) < 1e-5 for vector in vectors)
    assert vectors[0] == vectors[1] != vectors[2]
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0
    # The client asks for base 64 by itself; as numbers they are the same.
    plain = client.embeddings.create(model=MODEL, input=texts[0], dimensions=32, encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(vectors[0], abs=1e-6)
    assert len(client.embeddings.create(model=MODEL, input=[[1, 2], [3]]).data) == 2


def test_wrong_embeddings_are_named(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model=MODEL, input=[])
    assert caught.value.param == "input"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="no-such-model", input="x")


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v2/rerank"])
def test_rerank(frontend, path):
    documents = ["the clock tower", "a quiet river in the valley", "bread"]
    status, _, body = frontend.post(path, {"model": MODEL, "query": "a quiet river", "documents": documents, "top_n": 2})
    results = json.loads(body)["results"]
    assert status == 200 and len(results) == 2
    assert results[0]["index"] == 1 and results[0]["document"]["text"] == documents[1]
    assert 1 >= results[0]["relevance_score"] > results[1]["relevance_score"] >= 0


def test_score(frontend):
    status, _, body = frontend.post("/v1/score", {"model": MODEL, "text_1": "a river", "text_2": ["a river", "bread"]})
    scores = [item["score"] for item in json.loads(body)["data"]]
    assert status == 200 and scores[0] == pytest.approx(1) and scores[0] > scores[1]


# --- responses


def test_response(client):
    answer = client.responses.create(model=MODEL, input="Say something.", instructions="Be brief.", max_output_tokens=8)
    assert answer.object == "response" and answer.output_text
    assert answer.status == "incomplete" and answer.incomplete_details.reason == "max_output_tokens"
    assert answer.usage.output_tokens == 8 and answer.usage.input_tokens > 0


def test_response_stream(client):
    with client.responses.stream(model=MODEL, input=MESSAGES, max_output_tokens=6) as stream:
        seen = list(stream)
    types = [event.type for event in seen]
    assert types[0] == "response.created" and types[-1] == "response.incomplete"
    assert types.count("response.output_text.delta") == 6
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert seen[-1].response.output_text == client.responses.create(model=MODEL, input=MESSAGES, max_output_tokens=6).output_text


def test_responses_that_are_not_kept_are_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.create(model=MODEL, input="x", previous_response_id="resp_1")
    assert caught.value.code == "previous_response_not_found"


# --- Anthropic's messages


def test_message(claude, client):
    answer = claude.messages.create(model=MODEL, max_tokens=12, messages=MESSAGES)
    assert answer.role == "assistant" and answer.type == "message" and answer.content[0].text
    assert answer.stop_reason in ("end_turn", "max_tokens") and answer.usage.output_tokens <= 12
    assert answer._request_id
    # The same prompt as a chat: the same text, and it is cached by now.
    chat = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=12)
    assert chat.choices[0].message.content == answer.content[0].text
    assert chat.usage.prompt_tokens == answer.usage.input_tokens + answer.usage.cache_read_input_tokens


def test_message_stream(claude):
    with claude.messages.stream(model=MODEL, max_tokens=9, messages=MESSAGES, system="Be brief.") as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text != ""
    assert final.stop_reason == "max_tokens" and final.usage.output_tokens == 9 and final.usage.input_tokens > 0


def test_message_errors(claude):
    with pytest.raises(anthropic.NotFoundError) as caught:
        claude.messages.create(model="no-such-model", max_tokens=1, messages=MESSAGES)
    assert caught.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.BadRequestError) as caught:
        claude.messages.create(model=MODEL, max_tokens=0, messages=MESSAGES)
    assert "max_tokens" in caught.value.body["error"]["message"]
    # Without a tokenizer, and with no worker that counts, nothing is made up.
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.count_tokens(model=MODEL, messages=MESSAGES)


def test_messages_are_off_by_default(shared_stack):
    frontend = shared_stack.frontend("--simulate", "1", "--model-name", MODEL)
    assert frontend.post("/v1/messages", {"model": MODEL, "max_tokens": 1, "messages": MESSAGES})[0] == 404
    paths = json.loads(frontend.get("/openapi.json")[2])["paths"]
    assert "/v1/messages" not in paths and "/v1/embeddings" in paths


def scripted(shared_stack, behaviour):
    upstream = shared_stack.upstream()
    upstream.behaviour = behaviour
    frontend = shared_stack.frontend(
        "--worker", upstream.url, "--enable-anthropic-api", env={"DYN_FILE_KV": shared_stack.folder / "none"}
    )
    return upstream, anthropic.Anthropic(base_url=frontend.url, api_key="none", max_retries=0), frontend


TOOLS = [{"name": "weather", "description": "d", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}]


def test_tools_both_ways(shared_stack):
    def calls(peer, seen):
        function = {"name": "weather", "arguments": ""}
        peer.send(STREAM_HEAD)
        head = token(0)
        for delta in (
            {"role": "assistant", "content": "Let me see."},
            {"tool_calls": [{"index": 0, "id": "t1", "type": "function", "function": function}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": ' "Paris"}'}}]},
        ):
            peer.event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        peer.event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
        peer.event("[DONE]")
        peer.send(b"0\r\n\r\n")

    upstream, claude, _ = scripted(shared_stack, calls)
    history = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t0", "name": "weather", "input": {"city": "Rome"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t0", "content": "sun"}]},
    ]
    with claude.messages.stream(model=MODEL, max_tokens=9, messages=history, tools=TOOLS, tool_choice={"type": "any"}) as s:
        final = s.get_final_message()
    assert [block.type for block in final.content] == ["text", "tool_use"]
    assert final.content[1].input == {"city": "Paris"} and final.content[1].id == "t1" and final.stop_reason == "tool_use"
    asked = upstream.requests[0]
    assert asked.path == "/v1/chat/completions"
    body = asked.json()
    assert body["tool_choice"] == "required" and body["tools"][0]["function"]["parameters"]["type"] == "object"
    assert body["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"city":"Rome"}'
    assert body["messages"][2] == {"role": "tool", "tool_call_id": "t0", "content": "sun"}


def test_an_engine_that_speaks_messages_gets_them_as_they_came(shared_stack):
    """What vLLM does: its OpenAPI document lists its routes, of which the others are not asked."""
    message = {"id": "m", "type": "message", "role": "assistant", "model": MODEL, "stop_reason": "end_turn"}

    def answers(peer, seen):
        if seen.path.endswith("count_tokens"):
            peer.answer(200, {"input_tokens": 7})
        else:
            text = [{"type": "text", "text": "Paris"}]
            peer.answer(200, {**message, "content": text, "usage": {"input_tokens": 3, "output_tokens": 1}})

    upstream = shared_stack.upstream()
    upstream.behaviour = answers
    upstream.paths = ["/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens"]
    frontend = shared_stack.frontend(
        "--worker", upstream.url, "--enable-anthropic-api", env={"DYN_FILE_KV": shared_stack.folder / "none"}
    )
    claude = anthropic.Anthropic(base_url=frontend.url, api_key="none", max_retries=0)
    assert claude.messages.create(model=MODEL, max_tokens=5, messages=MESSAGES).content[0].text == "Paris"
    assert claude.messages.count_tokens(model=MODEL, messages=MESSAGES).input_tokens == 7
    assert [seen.path for seen in upstream.requests] == ["/v1/messages", "/v1/messages/count_tokens"]
    assert upstream.requests[0].header("anthropic-version")
    status, _, body = frontend.post("/v1/embeddings", {"model": MODEL, "input": "x"})
    assert status == 404 and json.loads(body)["error"]["code"] == "endpoint_not_served"


def test_a_registered_worker_tells_its_routes(shared_stack):
    store = {"DYN_FILE_KV": shared_stack.folder / "registered"}
    store["DYN_FILE_KV"].mkdir(mode=0o700)
    shared_stack.worker(env=store)
    frontend = shared_stack.frontend(env=store)
    (instance,) = json.loads(frontend.get("/health")[2])["instances"]
    assert {"chat_completions", "embeddings", "responses", "rerank"} <= set(instance["endpoints"])
    assert "anthropic_messages" not in instance["endpoints"]
    assert frontend.post("/v1/embeddings", {"model": MODEL, "input": "x"})[0] == 200


def test_a_worker_that_dies_in_a_message_is_told(shared_stack):
    def dies(peer, seen):
        peer.send(STREAM_HEAD)
        peer.event(token(0))
        peer.reset()

    _, claude, frontend = scripted(shared_stack, dies)
    with pytest.raises(anthropic.APIStatusError), claude.messages.stream(model=MODEL, max_tokens=9, messages=MESSAGES) as s:
        list(s)
    status, headers, body = frontend.post("/v1/responses", {"model": MODEL, "input": "x", "stream": True})
    last = json.loads(events(body)[-1])
    assert status == 200 and last["type"] == "error" and last["code"] == "bad_gateway"


def test_errors_of_a_worker_are_translated(shared_stack):
    def refuses(peer, seen):
        peer.answer(400, {"error": {"message": "too long", "type": "x", "param": None, "code": None}})

    _, claude, _ = scripted(shared_stack, refuses)
    with pytest.raises(anthropic.BadRequestError) as caught:
        claude.messages.create(model=MODEL, max_tokens=1, messages=MESSAGES)
    assert caught.value.body["error"] == {"type": "invalid_request_error", "message": "too long"}


# --- tracing, metrics, the description


def test_labels_and_spans(shared_stack):
    receiver = shared_stack.receiver()
    frontend = shared_stack.frontend("--simulate", "1", "--model-name", MODEL, "--enable-anthropic-api", receiver=receiver)
    asked = {
        "/v1/embeddings": ({"input": "x"}, "embeddings", "embeddings"),
        "/v1/responses": ({"input": "x", "max_output_tokens": 2}, "responses", "chat"),
        "/v1/messages": ({"max_tokens": 2, "messages": MESSAGES}, "anthropic_messages", "chat"),
        "/v1/rerank": ({"query": "x", "documents": ["y"]}, "rerank", "rerank"),
    }
    for path, (body, _, _) in asked.items():
        assert frontend.post(path, {"model": MODEL, **body})[0] == 200
    metrics = frontend.metrics()
    for label in (label for _, label, _ in asked.values()):
        assert metrics.sum("dynamo_frontend_requests_total", endpoint=label, status="success") == 1
    assert metrics.sum("dynamo_frontend_embedding_latency_seconds_count") == 1
    frontend.stop()
    requests = {span.attributes["uri"]: span for span in receiver.spans if span.name == "http-request"}
    for path, (_, _, operation) in asked.items():
        assert requests[path].attributes["gen_ai.operation.name"] == operation
        assert requests[path].attributes["input_tokens"] > 0
    assert "output_tokens" not in requests["/v1/embeddings"].attributes
    roots = {span.attributes.get("http.route") for span in receiver.spans}
    assert set(asked) <= roots


def test_the_description_is_valid_and_the_page_loads_nothing(frontend):
    from openapi_spec_validator import validate

    document = json.loads(frontend.get("/openapi.json")[2])
    validate(document)
    assert {"/v1/chat/completions", "/v1/messages", "/v1/embeddings", "/v1/rerank", "/metrics"} <= set(document["paths"])
    status, headers, page = frontend.get("/docs")
    assert status == 200 and headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert b"http://" not in page and b"https://" not in page and b"src=" not in page


@pytest.mark.full
@pytest.mark.timeout(600)
def test_nothing_that_the_description_allows_is_a_fault_of_ours(shared_stack):
    """schemathesis sends what the description says and what it forbids: whatever it is, no 500, and JSON where JSON is told."""
    import os
    import subprocess
    import sys

    store = {"DYN_FILE_KV": shared_stack.folder / "described"}
    store["DYN_FILE_KV"].mkdir(mode=0o700)
    shared_stack.worker("--speedup-ratio", "0", env=store)
    frontend = shared_stack.frontend("--enable-anthropic-api", env=store)
    document = json.loads(frontend.get("/openapi.json")[2])
    # Names that nobody serves are refused before anything else is looked at.
    for schema in document["components"]["schemas"].values():
        if "model" in schema.get("properties", {}):
            schema["properties"]["model"] = {"const": MODEL}
    (shared_stack.folder / "openapi.json").write_text(json.dumps(document))
    run = subprocess.run(
        [
            os.path.join(os.path.dirname(sys.executable), "schemathesis"), "run", "openapi.json", "--url", frontend.url,
            "--checks", "not_a_server_error,content_type_conformance", "--max-examples", "20", "--workers", "2",
            "--seed", "1", "--suppress-health-check", "all", "--request-timeout", "20", "--no-color",
        ],
        capture_output=True, text=True, timeout=500, cwd=shared_stack.folder,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
