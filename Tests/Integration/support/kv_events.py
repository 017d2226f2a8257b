"""Subscribes to cache events as vLLM's own example does, and publishes them as a scripted engine."""

from __future__ import annotations

import struct
import time

import msgpack
import zmq

END = struct.pack(">q", -1)


class Subscriber:
    """Hears one publisher; `endpoint` is an entry of /kv_event_sources."""

    def __init__(self, source: dict, host: str = "127.0.0.1"):
        self.context = zmq.Context()
        # A context that is thrown away must not wait for what nobody takes.
        self.context.linger = 0
        self.live = self.context.socket(zmq.SUB)
        self.live.setsockopt_string(zmq.SUBSCRIBE, source["topic"])
        self.live.connect(source["endpoint"].replace("*", host))
        self.replay_address = source["replay_endpoint"] and source["replay_endpoint"].replace("*", host)
        self.heard: list[tuple[int, list]] = []

    def take(self, timeout: float = 0.05) -> None:
        """Takes what comes within the time."""
        end = time.monotonic() + timeout
        while self.live.poll(max(0, int((end - time.monotonic()) * 1000))):
            topic, sequence, payload = self.live.recv_multipart()
            assert topic == b"" and len(sequence) == 8
            self.heard.append((int.from_bytes(sequence, "big"), msgpack.unpackb(payload)))

    def replay(self, first: int) -> list[tuple[int, list]]:
        """Asks for everything from `first` on, over a DEALER as the reference subscriber does."""
        with self.context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            socket.connect(self.replay_address)
            socket.send_multipart([b"", struct.pack(">Q", first)])
            found = []
            while socket.poll(10_000):
                empty, topic, sequence, payload = socket.recv_multipart()
                assert empty == b""
                if sequence == END:
                    assert topic == b"" and payload == b""
                    return found
                found.append((int.from_bytes(sequence, "big"), msgpack.unpackb(payload)))
            raise AssertionError("the replay has no end")

    def close(self) -> None:
        self.context.destroy(linger=0)


class Publisher:
    """An engine's publisher that counts from 0 when it starts; without replay."""

    def __init__(self, port: int):
        self.context = zmq.Context()
        # A context that is thrown away must not wait for what nobody takes.
        self.context.linger = 0
        self.socket = self.context.socket(zmq.PUB)
        self.socket.bind(f"tcp://127.0.0.1:{port}")
        self.sequence = 0

    def publish(self, *events: dict) -> None:
        payload = msgpack.packb([time.time(), list(events), 0])
        self.socket.send_multipart([b"", struct.pack(">Q", self.sequence), payload])
        self.sequence += 1

    def close(self) -> None:
        self.context.destroy(linger=0)


def stored(block: int, parent: int | None = None) -> dict:
    """One block, as vLLM 0.32 tells it."""
    return {
        "type": "BlockStored",
        "block_hashes": [block],
        "parent_block_hash": parent,
        "token_ids": [block, 2, 3, 4],
        "block_size": 4,
        "lora_id": None,
        "medium": "GPU",
        "lora_name": None,
        "extra_keys": [None],
        "group_idx": 0,
        "kv_cache_spec_kind": "full_attention",
        "a_field_of_tomorrow": {"kept": True},
    }
