"""Tenants from outside: the official client, curl, the file of keys and its reload; and overload."""

import hashlib
import signal
import subprocess
import threading

import openai
import pytest
from support.processes import BIN, MODEL, Metrics, chat, eventually, free_port, request
from support.upstream import normal

PATH = "/v1/chat/completions"
ALICE, BOB = "sk-alice-0123456789abcdef01", "sk-bob-0123456789abcdef0123"


def line(name: str, key: str, more: str = "") -> str:
    return f"{name} sha256:{hashlib.sha256(key.encode()).hexdigest()} {more}\n"


def client(frontend, key: str, retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{frontend.url}/v1", api_key=key, max_retries=retries, timeout=30)


def ask(frontend, key: str, **more):
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    return client(frontend, key).chat.completions.create(model=MODEL, messages=messages, max_completion_tokens=5, **more)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


class Keyed:
    def __init__(self, stack, text: str, *flags: str):
        self.file = stack.folder / "keys"
        self.file.write_text(text)
        self.frontend = stack.frontend(
            "--api-key-file", str(self.file), *(flags or ("--simulate", "1", "--model-name", MODEL))
        )


def test_the_official_client_meets_errors_and_limits_as_it_knows_them(stack):
    watch = free_port()
    keys = line("alice", ALICE, "tenant=acme requests-per-minute=3") + line("bob", BOB)
    flags = ("--simulate", "1", "--model-name", MODEL, "--metrics-listen", f"127.0.0.1:{watch}")
    frontend = Keyed(stack, keys, *flags).frontend
    with pytest.raises(openai.AuthenticationError) as wrong:
        ask(frontend, "sk-wrong")
    assert wrong.value.code == "invalid_api_key" and wrong.value.response.headers["www-authenticate"] == "Bearer"
    answer = ask(frontend, ALICE)
    assert answer.choices[0].message.content
    raw = client(frontend, ALICE).chat.completions.with_raw_response.create(
        model=MODEL, messages=[{"role": "user", "content": "hi"}], max_completion_tokens=2
    )
    assert raw.headers["x-ratelimit-limit-requests"] == "3" and raw.headers["x-ratelimit-remaining-requests"] == "1"
    chunks = list(ask(frontend, ALICE, stream=True))
    assert any(chunk.choices and chunk.choices[0].delta.content for chunk in chunks)
    with pytest.raises(openai.RateLimitError) as limited:
        ask(frontend, ALICE)
    assert limited.value.code == "rate_limited" and 1 <= int(limited.value.response.headers["retry-after"]) <= 20
    assert [model.id for model in client(frontend, BOB).models.list()] == [MODEL]
    ask(frontend, BOB)
    metrics = Metrics(request(watch, "GET", "/metrics")[2].decode())
    assert metrics.sum("dynamo_frontend_tenant_requests_total", tenant="acme") == 4
    assert metrics.sum("dynamo_frontend_tenant_limited_total", tenant="acme", limit="requests") == 1
    assert metrics.sum("dynamo_frontend_tenant_output_tokens_total", tenant="bob") > 0

    def tenants() -> set:
        return {r.get("tenant") for r in frontend.records() if r["message"] == "request completed"}

    eventually("the lines name the tenants", lambda: tenants() == {"acme", "bob", None})
    assert ALICE not in frontend.text()


def test_curl(stack):
    frontend = Keyed(stack, line("alice", ALICE)).frontend

    def curl(*flags: str) -> str:
        return subprocess.run(
            ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *flags, f"{frontend.url}/v1/models"],
            capture_output=True, text=True, check=True,
        ).stdout

    assert curl() == "401" and curl("-H", f"Authorization: Bearer {ALICE}") == "200"
    assert curl("-H", f"x-api-key: {ALICE}") == "200" and curl("-u", f"alice:{ALICE}") == "401"
    assert frontend.status("/health") == 200
    assert "tenant=" not in frontend.get("/metrics")[2].decode(), "callers do not see who else has a key"


def test_keys_are_read_again_whole_or_not_at_all(stack):
    keyed = Keyed(stack, line("alice", ALICE))
    frontend = keyed.frontend
    ask(frontend, ALICE)

    def hang_up(text: str, said: str) -> list[dict]:
        seen = len(frontend.records())
        keyed.file.write_text(text)
        frontend.signal(signal.SIGHUP)
        return eventually(said, lambda: [r for r in frontend.records()[seen:] if said in str(r)])

    [fault] = hang_up(line("bob", BOB) + f"carol {ALICE}\n", "line 2")[:1]
    assert fault["level"] == "ERROR" and ALICE not in frontend.text()
    ask(frontend, ALICE)
    hang_up(line("bob", BOB), "API keys")
    with pytest.raises(openai.AuthenticationError):
        ask(frontend, ALICE)
    ask(frontend, BOB)


def test_the_engine_gets_the_tenants_salt_and_not_its_key(stack):
    upstream = stack.upstream()
    keyed = Keyed(stack, line("alice", ALICE, "tenant=acme") + line("bob", BOB), "--worker", upstream.url)
    assert keyed.frontend.post(PATH, chat(cache_salt="mine"), bearer(ALICE))[0] == 200
    assert keyed.frontend.post(PATH, chat(), {"x-api-key": BOB, "x-tenant-id": "acme"})[0] == 200
    first, second = upstream.wait_requests(2)
    assert first.json()["cache_salt"] == "acme:mine" and second.json()["cache_salt"] == "bob:"
    for seen in (first, second):
        assert not any(seen.header(name) for name in ("authorization", "x-api-key", "x-tenant-id"))


def test_tenants_do_not_share_what_the_engine_caches(stack):
    """Two tenants, one prompt: neither the engine nor the router takes it for known, and each finds its own again."""
    keyed = Keyed(stack, line("alice", ALICE) + line("bob", BOB))
    prompt = "a prompt of some length, " * 40

    def cached(key: str) -> int:
        answer = client(keyed.frontend, key).chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": prompt}], max_completion_tokens=2
        )
        return answer.usage.prompt_tokens_details.cached_tokens if answer.usage.prompt_tokens_details else 0

    assert cached(ALICE) == 0 and cached(ALICE) > 0
    assert cached(BOB) == 0 and cached(BOB) > 0


def test_a_key_is_hashed_by_the_program(stack):
    def run(text: str) -> subprocess.CompletedProcess:
        return subprocess.run([str(BIN / "dynamo-frontend"), "hash-key"], input=text, capture_output=True, text=True)

    made = run(ALICE + "\n")
    assert made.returncode == 0 and made.stdout == f"sha256:{hashlib.sha256(ALICE.encode()).hexdigest()}\n"
    assert made.stderr == "" and "guessed" in run("short").stderr
    assert run("").returncode == 2 and run("two words\n").returncode == 2


def test_a_bad_file_of_keys_ends_the_start(stack):
    file = stack.folder / "keys"
    file.write_text(f"alice {ALICE}\n")
    made = subprocess.run(
        [str(BIN / "dynamo-frontend"), "--http-port=0", "--api-key-file", str(file)],
        env=stack.env(), capture_output=True, text=True, timeout=20,
    )
    assert made.returncode == 1 and "line 1" in made.stderr and ALICE not in made.stderr


def test_past_the_bound_of_requests_new_ones_are_refused(stack):
    """Those that run go on; the answer says when to come again; one line tells of many."""
    upstream = stack.upstream()
    release = threading.Event()

    def hold(peer, seen):
        release.wait(20)
        normal(peer, seen)

    upstream.behaviour = hold
    frontend = stack.frontend("--worker", upstream.url, "--threads", "1", env={"DYN_HTTP_REQUEST_LIMIT": "1"})
    answers = []
    thread = threading.Thread(target=lambda: answers.append(frontend.post(PATH, chat())))
    thread.start()
    upstream.wait_requests(1)
    for _ in range(20):
        status, headers, _ = frontend.post(PATH, chat())
        assert status == 529 and headers["retry-after"] == "1" and headers["connection"] == "close"
    release.set()
    thread.join(20)
    assert answers[0][0] == 200
    assert frontend.metrics().sum("dynamo_frontend_shed_requests_total", reason="requests") == 20

    def told() -> int:
        return sum(int(r["requests_over_limit"]) for r in frontend.records() if "some were refused" in r["message"])

    eventually("all of it is said", lambda: told() == 20)
    assert sum("some were refused" in r["message"] for r in frontend.records()) <= 2


def test_once_the_oldest_has_waited_too_long_the_newest_goes_first(stack):
    upstream = stack.upstream()
    release = threading.Event()

    def hold(peer, seen):
        release.wait(20)
        normal(peer, seen)

    upstream.behaviour = hold
    frontend = stack.frontend(
        "--worker", upstream.url, "--router-queue-threshold", "0.01", env={"DYN_ROUTER_QUEUE_NEWEST_FIRST_SECS": "1ms"}
    )
    statuses: list[int] = []
    threads = []
    for number in range(4):
        prompt = f"{number} has a prompt of its own, " * 40
        thread = threading.Thread(target=lambda prompt=prompt: statuses.append(frontend.post(PATH, chat(prompt))[0]))
        thread.start()
        threads.append(thread)
        if number == 0:
            upstream.wait_requests(1)
        else:
            waiting = "dynamo_frontend_router_queue_pending_requests"
            eventually("it waits", lambda number=number: frontend.metrics().sum(waiting) == number)
    release.set()
    for thread in threads:
        thread.join(20)
    order = [seen.json()["messages"][0]["content"][0] for seen in upstream.requests]
    assert statuses == [200] * 4 and order == ["0", "3", "2", "1"]
    assert frontend.metrics().sum("dynamo_frontend_router_queue_newest_first_total") >= 2


def test_a_refused_reload_forgives_nothing(stack):
    keys, config = stack.folder / "keys", stack.folder / "frontend.conf"
    alice = line("alice", ALICE, "requests-per-minute=1")
    keys.write_text(alice + line("bob", BOB))
    config.write_text("")
    frontend = stack.frontend(
        "--config", str(config), "--api-key-file", str(keys), "--simulate", "1", "--model-name", MODEL
    )
    ask(frontend, ALICE)

    def hang_up(settings: str, said: str) -> None:
        seen = len(frontend.records())
        config.write_text(settings)
        frontend.signal(signal.SIGHUP)
        eventually(said, lambda: [r for r in frontend.records()[seen:] if said in r["message"]])

    # Another part refuses what the file of keys would allow.
    keys.write_text(line("bob", BOB))
    hang_up("DYN_WORKERS=ftp://nowhere\n", "not taken over")
    keys.write_text(alice + line("bob", BOB))
    hang_up("", "is read again")
    with pytest.raises(openai.RateLimitError):
        ask(frontend, ALICE)
