"""Holds spans against Sources/Telemetry/SpanSchema.json: name, kind, events, each attribute's key and type, and those that
are always there."""

from __future__ import annotations

import json
import re

from .processes import ROOT

SCHEMA = json.loads((ROOT / "Sources/Telemetry/SpanSchema.json").read_text())
BY_ID = {span["id"]: span for span in SCHEMA["spans"]}


def is_int(value) -> bool:
    return type(value) is int


TYPES = {
    "string": lambda value: type(value) is str,
    "int": is_int,
    "double": lambda value: type(value) is float,
    "bool": lambda value: type(value) is bool,
    # Ids of others may be too large for readers of JSON, and are text then.
    "id": lambda value: is_int(value) or type(value) is str and value.isdigit() and int(value) > 2**53,
}


def fits(value, kind: str) -> bool:
    if kind.endswith("[]"):
        return type(value) is list and all(TYPES[kind[:-2]](item) for item in value)
    return TYPES[kind](value)


def entries(name: str, kind: str) -> list[dict]:
    """What the schema has for such a span; two entries where DYN_TRACE_SHAPE=dynamo made two spans one."""
    if name == "http-request" and kind == "SERVER":
        return [BY_ID["server"], BY_ID["http-request"]]
    found = [span for span in SCHEMA["spans"] if re.fullmatch(span.get("match", re.escape(span["name"])), name)]
    return [span for span in found if kind in span["kinds"]]


def faults(name: str, kind: str, attributes: dict, events: list[str]) -> list[str]:
    """Sentences about what is not as the schema says."""
    known = entries(name, kind)
    if not known:
        return [f"{name} of kind {kind} is in no schema"]
    listed = {item["key"]: item for span in known for item in span["attributes"]}
    found = []
    for key, value in attributes.items():
        if key not in listed:
            found.append(f"{name}: attribute {key} is not listed")
        elif not fits(value, listed[key]["type"]):
            found.append(f"{name}: {key} is {value!r}, not {listed[key]['type']}")
    for key, item in listed.items():
        if item["when"] == "always" and key not in attributes:
            found.append(f"{name}: {key} is always there, and is missing")
    told = {event for span in known for event in span["events"]}
    found += [f"{name}: event {event} is not listed" for event in events if event not in told]
    return found
