"""The schema of spans, by which every receiver of these tests judges what it gets, finds what is not as it says."""

import pytest
from support import schema

GOOD = {"num_blocks": 3, "prompt.source": "bytes"}


def faults(name="preprocess", kind="INTERNAL", attributes=GOOD, events=()):
    return schema.faults(name, kind, attributes, list(events))


def test_what_is_as_it_says_has_no_faults():
    assert faults() == []
    assert faults("router.route_request", "INTERNAL") != [] and schema.entries("router.route_request", "CLIENT")


@pytest.mark.parametrize(
    "change",
    [
        {"name": "preprocess.magic"},
        {"kind": "SERVER"},
        {"attributes": {}},
        {"attributes": GOOD | {"made_up": 1}},
        {"attributes": GOOD | {"isl_tokens": "7"}},
        {"attributes": GOOD | {"isl_tokens": 7.0}},
        {"attributes": GOOD | {"num_blocks": True}},
        {"events": ["surprise"]},
    ],
)
def test_what_is_not_is_found(change):
    assert len(faults(**change)) == 1


def test_types_are_told_apart():
    assert schema.fits([1, 2], "int[]") and schema.fits([], "double[]") and not schema.fits([1], "double[]")
    assert schema.fits(2**53, "id") and schema.fits(str(2**53 + 1), "id") and not schema.fits("7", "id")
    assert not schema.fits(1, "double") and not schema.fits("x", "string[]")


def test_a_merged_root_takes_the_attributes_of_both():
    names = {item["key"] for span in schema.entries("http-request", "SERVER") for item in span["attributes"]}
    assert {"http.route", "uri"} <= names
    assert "http.route" not in {item["key"] for item in schema.entries("http-request", "INTERNAL")[0]["attributes"]}


def test_methods_name_root_spans_and_paths_do_not_alone():
    assert schema.entries("POST /v1/chat/completions", "SERVER") and schema.entries("GET", "SERVER")
    assert not schema.entries("/v1/chat/completions", "SERVER") and not schema.entries("BREW /pot", "SERVER")
