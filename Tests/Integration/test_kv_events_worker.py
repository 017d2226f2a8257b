"""The cache events of dynamo-worker, heard by pyzmq and msgpack: the simulated engine's own, and a relayed engine's."""

import ctypes
import json
import struct

import pytest

pytest.importorskip("zmq", reason="pyzmq is not installed: Scripts/bootstrap.sh test does it")
pytest.importorskip("msgpack", reason="msgpack is not installed: Scripts/bootstrap.sh test does it")

from support.kv_events import Publisher, Subscriber, stored  # noqa: E402
from support.processes import chat, eventually, free_port  # noqa: E402

PATH = "/v1/chat/completions"
BLOCK = 4


@pytest.fixture(autouse=True, scope="module")
def libzmq():
    """dynamo-worker loads the system's library; the one inside pyzmq's wheel is no use to it."""
    try:
        ctypes.CDLL("libzmq.so.5")
    except OSError:
        pytest.skip("libzmq.so.5 is not installed: Scripts/bootstrap.sh test does it")


@pytest.fixture
def subscribe():
    """Subscribers that are closed with the test."""
    opened = []

    def open_one(worker) -> Subscriber:
        opened.append(Subscriber(sources(worker)["0"]))
        return opened[-1]

    yield open_one
    for subscriber in opened:
        subscriber.close()


def sources(worker) -> dict:
    status, headers, body = worker.get("/kv_event_sources")
    assert status == 200 and headers["content-type"] == "application/json"
    return json.loads(body)


def simulated(stack, *args: str):
    return stack.worker("--speedup-ratio", "0", "--block-size", str(BLOCK), *args)


def ask(worker, prompt: str, tokens: int = 1, **more) -> dict:
    status, _, answer = worker.post(PATH, chat(prompt, max_completion_tokens=tokens, **more))
    assert status == 200, answer
    return json.loads(answer)


def cached(answer: dict) -> int:
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def words(prompt: str) -> list[int]:
    """The canonical bytes of a chat of one message, as little-endian words: the tokens where there is no tokenizer."""
    text = json.dumps(chat(prompt)["messages"][0], separators=(",", ":")).encode()
    return [struct.unpack_from("<I", text, offset)[0] for offset in range(0, len(text) - 3, 4)]


def events(batches: list) -> list[dict]:
    return [event for _, (_, batch, rank) in batches for event in batch if rank == 0]


class Mirror:
    """The cache as its events tell it."""

    def __init__(self):
        self.blocks: dict[int, tuple] = {}

    def apply(self, event: dict) -> None:
        if event["type"] == "BlockStored":
            tokens, size = event["token_ids"], event["block_size"]
            assert len(tokens) == size * len(event["block_hashes"])
            parent = event["parent_block_hash"]
            assert parent is None or parent in self.blocks, "the parent is there before its child"
            for index, block in enumerate(event["block_hashes"]):
                assert block not in self.blocks
                self.blocks[block] = (parent, tuple(tokens[index * size : (index + 1) * size]))
                parent = block
        elif event["type"] == "BlockRemoved":
            for block in event["block_hashes"]:
                del self.blocks[block]
        else:
            self.blocks.clear()

    def cached(self, tokens: list[int]) -> int:
        """The tokens of a prompt that the cache holds from its begin."""
        children = {key: block for block, key in self.blocks.items()}
        parent, count = None, 0
        while (parent := children.get((parent, tuple(tokens[count : count + BLOCK])))) is not None:
            count += BLOCK
        return count


def test_sources_have_vllms_form(stack):
    worker = simulated(stack)
    entry = sources(worker)["0"]
    assert entry["enable_kv_cache_events"] is True and entry["publisher"] == "zmq" and entry["topic"] == ""
    assert entry["endpoint"].startswith("tcp://*:") and entry["replay_endpoint"].startswith("tcp://*:")
    assert (entry["buffer_steps"], entry["hwm"], entry["max_queue_size"]) == (10000, 100000, 100000)
    # The line goes through the log's own thread.
    (line,) = eventually(
        "the log names the addresses",
        lambda: [record for record in worker.records() if record["message"] == "publishing cache events"],
    )
    assert line["endpoint"] == entry["endpoint"] and line["replay_endpoint"] == entry["replay_endpoint"]


def test_ports_can_be_chosen_and_all_be_switched_off(stack):
    port, replay = free_port(), free_port()
    fixed = simulated(
        stack, "--kv-events-endpoint", f"tcp://*:{port}", "--kv-events-replay-endpoint", f"tcp://*:{replay}"
    )
    entry = sources(fixed)["0"]
    assert entry["endpoint"] == f"tcp://*:{port}" and entry["replay_endpoint"] == f"tcp://*:{replay}"
    assert sources(simulated(stack, "--kv-events-replay-endpoint", "off"))["0"]["replay_endpoint"] is None
    assert sources(simulated(stack, "--kv-events-endpoint", "off")) == {}
    assert sources(stack.worker(env={"DYN_KV_EVENTS_ENDPOINT": "off"})) == {}


def test_events_tell_what_the_cache_holds(stack, subscribe):
    """Diverging prompts through a small cache: the mirror predicts every `cached_tokens` that is reported."""
    worker = simulated(stack, "--num-gpu-blocks-override", "64")
    subscriber, mirror, applied = subscribe(worker), Mirror(), 0
    ask(worker, "the very first")
    prompts = [f"{'shared ' * (index % 5)}prompt {index % 7} {'x' * (index % 11) * 8}" for index in range(60)]
    hits = 0
    for prompt in prompts:
        # Live messages may be late; the replay is the whole truth, in order.
        batches = subscriber.replay(0)
        assert [sequence for sequence, _ in batches] == list(range(len(batches)))
        told = events(batches)
        for event in told[applied:]:
            mirror.apply(event)
        applied = len(told)
        tokens = words(prompt)
        whole = (len(json.dumps(chat(prompt)["messages"][0], separators=(",", ":"))) + 3) // 4
        expected = min(mirror.cached(tokens), (whole - 1) // BLOCK * BLOCK)
        assert cached(ask(worker, prompt, tokens=3)) == expected, prompt
        hits += expected > 0
    assert hits > 20
    kinds = {event["type"] for event in told}
    assert kinds == {"BlockStored", "BlockRemoved"}
    metrics = worker.get("/metrics")[2].decode()
    assert "dynamo_component_kv_event_replays_total{" in metrics


def test_live_and_replayed_batches_are_the_same(stack, subscribe):
    worker = simulated(stack)
    subscriber = subscribe(worker)
    count = iter(range(1000))

    def heard() -> bool:
        ask(worker, f"prompt number {next(count)}", tokens=6)
        subscriber.take()
        return len(subscriber.heard) > 5

    eventually("batches come live", heard)
    subscriber.take(0.3)
    first = subscriber.heard[0][0]
    assert subscriber.replay(first)[: len(subscriber.heard)] == subscriber.heard
    assert subscriber.replay(1 << 40) == []


def test_a_cached_prompt_is_silent_and_output_comes_block_by_block(stack, subscribe):
    worker = simulated(stack)
    subscriber = subscribe(worker)
    prompt = "tell me of the harbor"
    ask(worker, prompt)
    before = events(subscriber.replay(0))
    assert [event["type"] for event in before] == ["BlockStored"]
    assert before[0]["token_ids"] == words(prompt)[: len(before[0]["token_ids"])]
    assert before[0]["parent_block_hash"] is None and before[0]["medium"] == "GPU"
    assert cached(ask(worker, prompt)) > 0
    assert events(subscriber.replay(0)) == before
    ask(worker, prompt, tokens=4 * BLOCK)
    after = events(subscriber.replay(0))[1:]
    assert len(after) >= 3 and all(len(event["block_hashes"]) == 1 for event in after)
    chain = [before[0]["block_hashes"][-1]] + [event["block_hashes"][0] for event in after]
    assert [event["parent_block_hash"] for event in after] == chain[:-1]


def test_a_salt_is_an_extra_key_of_the_first_block(stack, subscribe):
    worker = simulated(stack)
    subscriber = subscribe(worker)
    prompt = "one prompt of two tenants"
    ask(worker, prompt)
    assert cached(ask(worker, prompt, cache_salt="tenant-1")) == 0
    plain, salted = events(subscriber.replay(0))
    assert plain["token_ids"] == salted["token_ids"]
    assert not set(plain["block_hashes"]) & set(salted["block_hashes"])
    assert set(map(str, plain["extra_keys"])) == {"None"}
    assert salted["extra_keys"][0] == ["tenant-1"] and not any(salted["extra_keys"][1:])


def test_a_reset_comes_with_the_next_step(stack, subscribe):
    worker = simulated(stack, "--enable-cache-reset")
    subscriber = subscribe(worker)
    ask(worker, "remember this")
    assert worker.post("/reset_prefix_cache", "")[0] == 200
    assert len(subscriber.replay(0)) == 1
    assert cached(ask(worker, "remember this")) == 0
    batches = subscriber.replay(0)
    assert [event["type"] for event in batches[1][1][1]] == ["AllBlocksCleared", "BlockStored"]
    assert simulated(stack).post("/reset_prefix_cache", "")[0] == 404


def test_an_engine_is_relayed(stack, subscribe):
    engine = simulated(stack)
    relay = stack.worker("--engine-url", engine.url, "--kv-events-endpoint", "tcp://127.0.0.1:0")
    assert sources(relay)["0"]["endpoint"] != sources(engine)["0"]["endpoint"]
    ask(relay, "through the relay")
    ask(engine, "past the relay", tokens=9)
    own, other = subscribe(engine), subscribe(relay)
    told = events(own.replay(0))
    assert len(told) >= 3
    eventually("the relay has all of it", lambda: events(other.replay(0)) == told)


def test_a_relay_repairs_what_it_can_and_forgets_what_it_cannot(stack, upstream, subscribe):
    """An engine with replay, asked past the relay, killed and started anew at the same addresses."""
    port, replay = free_port(), free_port()
    places = "--kv-events-endpoint", f"tcp://*:{port}", "--kv-events-replay-endpoint", f"tcp://*:{replay}"
    engine = simulated(stack, *places)
    for index in range(20):
        ask(engine, f"before the relay {index}")
    relay = stack.worker(
        "--engine-url", f"http://127.0.0.1:{upstream.port}", "--kv-events-endpoint", "tcp://*:0",
        "--engine-kv-events-endpoint", f"tcp://*:{port}", "--engine-kv-events-replay-endpoint", f"tcp://*:{replay}",
    )  # fmt: skip
    subscriber = subscribe(relay)

    def mirror() -> set[int]:
        found = Mirror()
        for event in events(subscriber.replay(0)):
            found.apply(event)
        return set(found.blocks)

    def truth() -> set[int]:
        own = subscribe(engine)
        return {block for event in events(own.replay(0)) for block in event["block_hashes"]}

    before = truth()
    eventually("what was said before is had by replay", lambda: mirror() == before)
    upstream.stop()
    engine.kill()
    engine = simulated(stack, *places)
    # All that the new engine says, it says before anybody listens again.
    ask(engine, "after the restart", tokens=9)
    assert relay.post(PATH, chat())[0] >= 500
    relay.wait_for("/health", 503)
    upstream.start()
    eventually("the old cache is forgotten and the new one known", lambda: mirror() == truth())
    assert before - mirror()


def test_an_engine_on_this_machine_speaks_for_itself(stack):
    engine = simulated(stack)
    assert sources(stack.worker("--engine-url", engine.url)) == sources(engine)
    assert sources(stack.worker("--engine-url", engine.url, "--kv-events-endpoint", "off")) == {}


def test_a_relayed_engine_that_restarts_is_told_as_cleared(stack, upstream, subscribe):
    port = free_port()
    relay = stack.worker(
        "--engine-url", f"http://127.0.0.1:{upstream.port}", "--kv-events-endpoint", "tcp://*:0",
        "--engine-kv-events-endpoint", f"tcp://*:{port}",
    )  # fmt: skip
    subscriber = subscribe(relay)
    engine = Publisher(port)
    block = iter(range(1, 10_000))

    def told() -> list[dict]:
        return events(subscriber.replay(0))

    def arrives() -> bool:
        engine.publish(stored(next(block)))
        return len(told()) >= 3

    eventually("the relay hears the engine", arrives)
    subscriber_before = told()
    assert subscriber_before[0]["a_field_of_tomorrow"] == {"kept": True}, "batches go on as they are"
    engine.close()
    engine = Publisher(port)
    try:

        def restarted() -> bool:
            engine.publish(stored(next(block)))
            return any(event["type"] == "AllBlocksCleared" for event in told())

        eventually("the restart is told", restarted)
        after = told()
        cleared = next(index for index, event in enumerate(after) if event["type"] == "AllBlocksCleared")
        assert after[: len(subscriber_before)] == subscriber_before and cleared >= len(subscriber_before)
        eventually("what follows is told", lambda: restarted() and told()[cleared + 1 :])
        assert [sequence for sequence, _ in subscriber.replay(0)] == list(range(len(subscriber.replay(0))))
        assert relay.metrics().sum("dynamo_component_kv_event_relay_resets_total") >= 1
    finally:
        engine.close()


def test_what_cannot_be_ends_the_start(stack):
    import subprocess

    from support.processes import BIN

    taken = simulated(stack)
    endpoint = sources(taken)["0"]["endpoint"]
    for address, words_of_it in [(endpoint, "in use"), ("tcp:5557", "tcp://HOST:PORT")]:
        ended = subprocess.run(
            [str(BIN / "dynamo-worker"), "--port", "0", "--kv-events-endpoint", address],
            env=stack.env(), capture_output=True, timeout=30, text=True,
        )  # fmt: skip
        assert ended.returncode != 0 and words_of_it in ended.stderr, ended.stderr
