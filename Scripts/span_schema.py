#!/usr/bin/env python3
"""Writes the tables of docs/tracing.md from Sources/Telemetry/SpanSchema.json, which says what spans may carry.

`--check` changes nothing. It fails when the page is not current, and when the schema and the names in AttributeNames.swift
are not the same. That spans are as the schema says is what tests check: Tests/TestSupport/SpanSchema.swift, and every
span that a receiver gets in Tests/Integration (support/schema.py).
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/tracing.md"
SCHEMA = ROOT / "Sources/Telemetry/SpanSchema.json"
NAMES = ROOT / "Sources/Telemetry/AttributeNames.swift"
TYPES = {"string", "int", "double", "bool", "string[]", "int[]", "double[]", "id"}
KINDS = {"INTERNAL", "SERVER", "CLIENT"}


def faults_of(schema: dict) -> list[str]:
    """What is wrong with the schema itself, or between it and the names that sources use."""
    faults = []
    attributes: set[str] = set()
    events: set[str] = set()
    for span in schema["spans"]:
        keys = [item["key"] for item in span["attributes"]]
        for key in {key for key in keys if keys.count(key) > 1}:
            faults.append(f"{span['name']}: {key} is listed twice")
        for item in span["attributes"]:
            if item["type"] not in TYPES:
                faults.append(f"{span['name']}: {item['key']} has no known type: {item['type']}")
            if item["from"] not in schema["conventions"]:
                faults.append(f"{span['name']}: {item['key']} is from no known convention: {item['from']}")
        if not set(span["kinds"]) <= KINDS:
            faults.append(f"{span['name']}: no known kind: {span['kinds']}")
        attributes |= set(keys)
        events |= set(span["events"])
    text = NAMES.read_text()
    for enum, listed in (("AttributeName", attributes), ("SpanEventName", events)):
        body = re.search(rf"package enum {enum} \{{\n(.*?)\n\}}", text, re.DOTALL)
        declared = set(re.findall(r'StaticString \{\s*"([^"]+)"\s*\}', body.group(1) if body else ""))
        for name in sorted(listed - declared):
            faults.append(f"{name} is in the schema and not in {enum}")
        for name in sorted(declared - listed):
            faults.append(f"{name} is in {enum} and not in the schema")
    body = re.search(r"package enum SpanName \{\n(.*?)\n\}", text, re.DOTALL)
    declared = set(re.findall(r'StaticString \{\s*"([^"]+)"\s*\}', body.group(1) if body else ""))
    for name in sorted(declared):
        if not any(re.fullmatch(span.get("match", re.escape(span["name"])), name) for span in schema["spans"]):
            faults.append(f"{name} is in SpanName and not in the schema")
    return faults


def span_table(schema: dict) -> str:
    lines = ["| span | process | kind | parent | from → to |", "|---|---|---|---|---|"]
    for span in schema["spans"]:
        also = f" ({span['also']})" if "also" in span else ""
        kinds = " or ".join(span["kinds"])
        lines.append(f"| `{span['name']}`{also} | {span['process']} | {kinds} | {span['parent']} | {span['extent']} |")
    return "\n".join(lines)


def attribute_tables(schema: dict) -> str:
    parts = []
    types = {"id": "int; string above 2^53"}
    for span in schema["spans"]:
        if not span["attributes"]:
            continue
        lines = [f"### `{span['name']}`\n"]
        if "merged" in span:
            lines.append(span["merged"] + "\n")
        lines += ["| attribute | type | set when | from |", "|---|---|---|---|"]
        for item in span["attributes"]:
            note = f" ({item['note']})" if "note" in item else ""
            kind = types.get(item["type"], item["type"])
            lines.append(f"| `{item['key']}` | {kind} | {item['when']}{note} | {item['from']} |")
        if span["events"]:
            told = "; ".join(f"`{name}`: {what}" for name, what in span["events"].items())
            lines.append(f"\nEvents: {told}.")
        if "links" in span:
            lines.append(f"\nLinks: {span['links']}.")
        parts.append("\n".join(lines))
    bare = ", ".join(f"`{span['name']}`" for span in schema["spans"] if not span["attributes"])
    sources = "; ".join(f"`{name}`: {what}" for name, what in schema["conventions"].items())
    return f"The last column says whose name it is: {sources}. No attributes: {bare}.\n\n" + "\n\n".join(parts)


def page_of(schema: dict) -> str:
    text = PAGE.read_text()
    for name, content in (("spans", span_table(schema)), ("attributes", attribute_tables(schema))):
        begin, end = f"<!-- {name}: begin (Scripts/span_schema.py) -->\n", f"<!-- {name}: end -->"
        before, rest = text.split(begin)
        text = before + begin + "\n" + content + "\n\n" + end + rest.split(end, 1)[1]
    return text


def main() -> int:
    schema = json.loads(SCHEMA.read_text())
    faults = faults_of(schema)
    text = page_of(schema)
    if sys.argv[1:] != ["--check"]:
        PAGE.write_text(text)
    elif PAGE.read_text() != text:
        faults.append("docs/tracing.md is not current: run Scripts/span_schema.py")
    for fault in faults:
        print(f"span schema: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
