#!/usr/bin/env python3
"""Measures how well the router uses the workers' caches, and draws docs/images/routing-quality.svg.

Four simulated workers hold together 40 % of 64 groups of prompts that share a prefix. Groups are drawn by Zipf's law with
exponent 1; a prompt is its group's prefix of 4,096 tokens and 256 of its own, the answer has 64. Requests come at
random times at half of what the workers can take. The same requests run in each routing mode, and through one LRU cache as
large as the four together, which no routing can beat. Then one group alone shows how a hot prefix is spread.

    Scripts/routing_quality.py [--bin FOLDER] [--requests N] [--svg FILE]

Tokens are words of four bytes of the prompt, as the frontend and the simulated engine count them without a tokenizer.
"""

import argparse
import asyncio
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import OrderedDict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = 16
PREFIX, OWN, OUT = 4096, 256, 64
GROUPS, WORKERS, SHARE = 64, 4, 0.40
MODEL = "quality/model"
SPEEDUP = 10  # of the simulated engines' time; what is measured here does not depend on it


def words(source: random.Random, tokens: int) -> str:
    """Text of so many tokens: letters, so that its JSON is as long as itself."""
    return "".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=4 * tokens))


class Prompts:
    """The requests of one run, the same for each mode: groups by Zipf, own parts by the seed."""

    def __init__(self, count: int, seed: int, groups: int = GROUPS):
        source = random.Random(seed)
        weights = [1 / (rank + 1) for rank in range(groups)]
        self.groups = source.choices(range(groups), weights, k=count)
        self.prefixes = [words(source, PREFIX) for _ in range(groups)]
        self.own = [words(source, OWN) for _ in range(count)]

    def body(self, index: int) -> bytes:
        content = self.prefixes[self.groups[index]] + self.own[index]
        message = {"role": "user", "content": content}
        return json.dumps(
            {"model": MODEL, "messages": [message], "max_tokens": OUT, "ignore_eos": True}, separators=(",", ":")
        ).encode()


def ideal_hit_rate(prompts: Prompts, blocks: int, skip: int) -> float:
    """The share of prompt tokens that one engine's cache of so many blocks would have: least recently used first, and of
    one request the last block first, as vLLM frees them."""
    cache: OrderedDict[tuple, None] = OrderedDict()
    hit = total = 0
    for index, group in enumerate(prompts.groups):
        found = 0
        while found < PREFIX // BLOCK and ("prefix", group, found) in cache:
            found += 1
        if index >= skip:
            total += (PREFIX + OWN) // BLOCK
            hit += found
        keys = [("prefix", group, block) for block in range(PREFIX // BLOCK)]
        keys += [("own", index, block) for block in range((OWN + OUT) // BLOCK)]
        for key in reversed(keys):
            cache[key] = None
            cache.move_to_end(key)
        while len(cache) > blocks:
            cache.popitem(last=False)
    return hit / total


class Fleet:
    """A frontend in one mode over four workers of its own."""

    def __init__(self, folder: Path, binaries: Path, mode: str, blocks: int, *more: str):
        self.children: list[subprocess.Popen] = []
        kv = folder / mode.replace(" ", "-")
        kv.mkdir()
        env = {"PATH": "/usr/bin:/bin", "DYN_FILE_KV": str(kv)}
        for number in range(WORKERS):
            argv = [binaries / "dynamo-worker", "--model", MODEL, "--port", "0", "--block-size", str(BLOCK)]
            argv += ["--num-gpu-blocks-override", str(blocks), "--max-num-batched-tokens", "8192", "--speedup-ratio", str(SPEEDUP)]
            self.start(argv, env, kv / f"worker-{number}.log")
        log = kv / "frontend.log"
        argv = [binaries / "dynamo-frontend", "--http-host", "127.0.0.1", "--http-port", "0", "--router-mode", mode.split()[0]]
        self.start([*argv, *more], env, log)
        deadline = time.monotonic() + 30
        while not (found := re.search(r"listening.*?127\.0\.0\.1:(\d+)", log.read_text() if log.exists() else "")):
            if time.monotonic() > deadline:
                raise SystemExit(f"the frontend did not start:\n{log.read_text()}")
            time.sleep(0.05)
        self.port = int(found[1])
        while self.metric("dynamo_frontend_model_workers") < WORKERS:
            if time.monotonic() > deadline:
                raise SystemExit("the workers did not come up")
            time.sleep(0.1)

    def start(self, argv: list, env: dict, log: Path) -> None:
        with log.open("wb") as out:
            self.children.append(subprocess.Popen([str(part) for part in argv], env=env, stdout=out, stderr=out))

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"{name}(\{{| )", line))

    def stop(self) -> None:
        for child in self.children:
            child.terminate()
        for child in self.children:
            child.wait()


async def post(port: int, body: bytes) -> tuple[int, dict, str]:
    """Cached tokens, usage and worker of one answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    answer = await reader.read()
    writer.close()
    fields, _, content = answer.partition(b"\r\n\r\n")
    if not fields.startswith(b"HTTP/1.1 200"):
        raise SystemExit(answer.decode()[:500])
    usage = json.loads(content)["usage"]
    worker = re.search(rb"x-dynamo-worker-id: (\d+)", fields)[1].decode()
    return (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0, usage, worker


async def run(port: int, prompts: Prompts, rate: float, skip: int) -> dict:
    """Sends the prompts at random times; what came of those after the first `skip`."""
    source = random.Random(5)
    tasks = []
    began = time.monotonic()
    due = began
    for index in range(len(prompts.groups)):
        due += source.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        tasks.append(asyncio.create_task(post(port, prompts.body(index))))
    results = (await asyncio.gather(*tasks))[skip:]
    prefill: dict[str, int] = {}
    requests: dict[str, int] = {}
    for cached, usage, worker in results:
        prefill[worker] = prefill.get(worker, 0) + usage["prompt_tokens"] - cached
        requests[worker] = requests.get(worker, 0) + 1
    total = sum(usage["prompt_tokens"] for _, usage, _ in results)
    return {
        "hit": sum(cached for cached, _, _ in results) / total,
        "prefill": sorted(prefill.values()) + [0] * (WORKERS - len(prefill)),
        "requests": sorted(requests.values()) + [0] * (WORKERS - len(requests)),
        "seconds": time.monotonic() - began,
    }


async def capacity(port: int, prompts: Prompts) -> float:
    """Requests a second with many callers that wait for their answers."""
    order = iter(range(len(prompts.groups)))

    async def caller() -> None:
        for index in order:
            await post(port, prompts.body(index))

    began = time.monotonic()
    await asyncio.gather(*(caller() for _ in range(64)))
    return len(prompts.groups) / (time.monotonic() - began)


def svg(bars: list[tuple[str, float]], ideal: float, title: str) -> str:
    """Bars with their values, and a line at the ideal."""
    width, height, left, top, step = 560, 60 + 44 * len(bars), 210, 44, 44
    scale = (width - left - 70) / 1.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + 20}" font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height + 20}" fill="#fff"/>',
        f'<text x="16" y="24" font-size="15" font-weight="bold">{title}</text>',
    ]
    for index, (name, value) in enumerate(bars):
        y = top + step * index
        colour = "#2a78d6" if name.startswith("kv") else "#9aa5b1"
        parts.append(f'<text x="{left - 10}" y="{y + 19}" text-anchor="end">{name}</text>')
        parts.append(f'<rect x="{left}" y="{y}" width="{value * scale:.1f}" height="28" rx="3" fill="{colour}"/>')
        end = left + value * scale - 8
        parts.append(f'<text x="{end:.1f}" y="{y + 19}" text-anchor="end" fill="#fff">{value * 100:.1f} %</text>')
    x = left + ideal * scale
    bottom = top + step * len(bars) - 10
    parts.append(f'<line x1="{x:.1f}" y1="{top - 6}" x2="{x:.1f}" y2="{bottom}" stroke="#c0392b" stroke-dasharray="5 4"/>')
    parts.append(
        f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle" fill="#c0392b">one LRU cache: {ideal * 100:.1f} %</text>'
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def spread(values: list[int]) -> str:
    mean = statistics.mean(values)
    return f"{min(values) / mean:.2f} to {max(values) / mean:.2f} of the mean"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, default=ROOT / ".build/release", help="folder of the built programs")
    parser.add_argument("--requests", type=int, default=1500, help="requests of each run")
    parser.add_argument("--svg", type=Path, help="where to draw the plot")
    options = parser.parse_args()
    blocks = int(GROUPS * (PREFIX // BLOCK) * SHARE / WORKERS)
    skip = options.requests // 3
    prompts = Prompts(options.requests, seed=1)
    ideal = ideal_hit_rate(prompts, blocks * WORKERS, skip)
    tuned = ["--router-eviction-weight", "8", "--router-prefill-load-scale", "4"]
    modes = [("kv", "kv, events", []), ("kv tuned", "kv, events, tuned", tuned)]
    modes += [("kv dynamo", "kv, events, Dynamo's cost", ["--router-eviction-weight", "0"])]
    modes += [("kv predicted", "kv, predicted", ["--no-router-kv-events"]), ("round-robin", "round-robin", [])]
    rate = 0.0
    bars = []
    with tempfile.TemporaryDirectory() as folder:
        for mode, name, more in modes:
            fleet = Fleet(Path(folder), options.bin, mode, blocks, *more)
            try:
                if not rate:
                    probe = Fleet(Path(folder), options.bin, "random", blocks)
                    rate = asyncio.run(capacity(probe.port, Prompts(400, seed=2))) / 2
                    probe.stop()
                    print(f"{WORKERS} workers of {blocks} blocks; {rate:.1f} requests/s are half of their capacity")
                    print(f"one LRU cache of {blocks * WORKERS} blocks: hit rate {ideal * 100:.1f} %")
                result = asyncio.run(run(fleet.port, prompts, rate, skip))
                followed = fleet.metric("dynamo_frontend_kv_event_source")
            finally:
                fleet.stop()
            bars.append((name, result["hit"]))
            print(f"{name}: hit rate {result['hit'] * 100:.1f} %, prefill work {spread(result['prefill'])}", end="")
            print(f" ({followed:.0f} workers known by events)" if mode.startswith("kv") else "")
        fleet = Fleet(Path(folder), options.bin, "kv hot", blocks)
        try:
            hot = asyncio.run(run(fleet.port, Prompts(options.requests // 3, seed=3, groups=1), rate, 0))
        finally:
            fleet.stop()
        print(f"one hot prefix: requests {spread(hot['requests'])}")
    if options.svg:
        options.svg.parent.mkdir(parents=True, exist_ok=True)
        options.svg.write_text(svg(bars, ideal, "Prompt tokens found in a worker's cache"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
