"""The official Python client: what it asks, and how it names our errors."""

import openai
import pytest
from support.processes import MODEL


@pytest.fixture(scope="module")
def frontend(shared_stack):
    return shared_stack.frontend("--simulate", "2", "--model-name", MODEL)


@pytest.fixture(scope="module")
def client(frontend):
    return openai.OpenAI(base_url=f"{frontend.url}/v1", api_key="none", max_retries=0, timeout=30)


MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]


def test_chat_completion(client):
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_completion_tokens=12)
    assert answer.object == "chat.completion" and answer.model == MODEL
    assert answer.choices[0].message.role == "assistant" and answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert 1 <= answer.usage.completion_tokens <= 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_stream_with_usage_ends_in_a_usage_chunk(client):
    stream = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_completion_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert chunks[-1].choices == [] and 1 <= chunks[-1].usage.completion_tokens <= 12
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] in ("stop", "length")


def test_stream_without_usage_shows_none(client):
    stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_completion_tokens=6, stream=True)
    chunks = list(stream)
    assert chunks and all(chunk.choices for chunk in chunks)
    assert all(getattr(chunk, "usage", None) is None for chunk in chunks)


def test_streamed_and_unary_text_agree(client):
    ask = dict(model=MODEL, messages=MESSAGES, max_completion_tokens=10, temperature=0, seed=7)
    unary = client.chat.completions.create(**ask).choices[0].message.content
    streamed = "".join(c.choices[0].delta.content or "" for c in client.chat.completions.create(**ask, stream=True) if c.choices)
    assert unary == streamed


def test_completions_unary_and_streamed(client):
    answer = client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=8)
    assert answer.object == "text_completion" and answer.choices[0].text
    stream = client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=8, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices)


def test_models_list_and_retrieve(client):
    assert [model.id for model in client.models.list()] == [MODEL]
    model = client.models.retrieve(MODEL)
    assert model.id == MODEL and model.object == "model" and type(model.created) is int


def test_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="no-such-model", messages=MESSAGES)
    assert caught.value.code == "model_not_found"
    assert caught.value.type == "invalid_request_error"
    assert "no-such-model" in caught.value.message
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("no-such-model")
    assert caught.value.code == "model_not_found"


def test_wrong_messages_are_a_bad_request(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages="hello")  # type: ignore[arg-type]
    assert caught.value.code == "invalid_type" and caught.value.param == "messages"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=MESSAGES, max_completion_tokens=0)
    assert caught.value.code == "invalid_value" and caught.value.param == "max_completion_tokens"


def test_unknown_route_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.moderations.create(model=MODEL, input="x")
    assert caught.value.code == "not_found"


def test_no_worker_is_a_server_error_with_a_message(shared_stack):
    store = shared_stack.folder / "empty"
    store.mkdir(mode=0o700)
    lonely = shared_stack.frontend(ready=False, env={"DYN_FILE_KV": store})
    client = openai.OpenAI(base_url=f"{lonely.url}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert caught.value.status_code == 503 and caught.value.code == "no_workers"
    assert int(caught.value.response.headers["retry-after"]) >= 1


def test_error_inside_a_stream_is_raised(shared_stack):
    from support.upstream import STREAM_HEAD, token

    def dies(peer, seen):
        peer.send(STREAM_HEAD)
        peer.event(token(0))
        peer.reset()

    upstream = shared_stack.upstream()
    upstream.behaviour = dies
    frontend = shared_stack.frontend("--worker", upstream.url, env={"DYN_FILE_KV": shared_stack.folder / "none"})
    client = openai.OpenAI(base_url=f"{frontend.url}/v1", api_key="none", max_retries=0)
    stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert caught.value.message
