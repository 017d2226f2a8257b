"""Token ids against Hugging Face's `tokenizers`, on real vocabularies of the Python index's packages."""

import json
import subprocess
from pathlib import Path

import pytest
from support import real_tokenizers, token_corpus
from support.processes import BIN, ROOT

tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed: Scripts/bootstrap.sh test does it")

# Recovering merges from rank files takes seconds, so what was laid out is kept.
FOLDER = ROOT / ".tools/tokenizers"
# Those that the project promises; the others share their code and get fewer strings.
PROMISED = {"qwen3", "deepseek", "smollm2", "mistral"}


@pytest.fixture(params=sorted(real_tokenizers.FAMILIES))
def family(request) -> tuple[str, Path]:
    found = real_tokenizers.lay_out(FOLDER, [request.param])
    if request.param not in found:
        pytest.skip("its package is not installed: Scripts/bootstrap.sh test does it")
    return request.param, found[request.param]


def answers(path: Path, requests: list, *flags: str) -> list:
    """What `dynamo-bench tokenize` says to each request."""
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    argv = [str(BIN / "dynamo-bench"), "tokenize", "--model", str(path.parent), *flags]
    run = subprocess.run(argv, input=lines.encode(), capture_output=True, check=True, timeout=240)
    return [json.loads(line) for line in run.stdout.decode().split("\n") if line]


def check(path: Path, texts: list[str], *flags: str) -> None:
    reference = tokenizers.Tokenizer.from_file(str(path))
    wrong = []
    for text, ids in zip(texts, answers(path, texts, *flags), strict=True):
        expected = reference.encode(text, add_special_tokens=False).ids
        if ids != expected:
            wrong.append((text, expected, ids))
    assert not wrong, f"{len(wrong)} of {len(texts)} texts differ, the shortest: {min(wrong, key=lambda row: len(row[0]))}"


@pytest.mark.timeout(300)
def test_ids_equal_the_reference(family):
    name, path = family
    count = 5_000 if name in PROMISED else 1_200
    texts = token_corpus.generated(count, seed=20_261_122) + token_corpus.real(ROOT, count // 10, seed=3)
    check(path, texts)


@pytest.mark.timeout(300)
def test_ids_are_the_same_out_of_the_prefix_cache(family):
    _, path = family
    texts = [text for text in token_corpus.real(ROOT, 150, seed=4) if len(text) > 900]
    # Again, and with other endings, so that chunks are found.
    check(path, texts + texts + [text[: len(text) * 2 // 3] + " – and on" for text in texts], "--cached")


@pytest.mark.timeout(300)
def test_special_tokens_and_decoding(family):
    _, path = family
    reference = tokenizers.Tokenizer.from_file(str(path))
    texts = token_corpus.generated(400, seed=5)
    found = answers(path, [{"text": text, "special": True} for text in texts])
    assert found == [reference.encode(text).ids for text in texts]
    for skip in (False, True):
        decoded = answers(path, [{"ids": ids, "skip_special": skip} for ids in found])
        assert decoded == [reference.decode(ids, skip_special_tokens=skip) for ids in found]


@pytest.mark.full
@pytest.mark.timeout(1_200)
def test_every_character(family):
    _, path = family
    check(path, token_corpus.every_character())
