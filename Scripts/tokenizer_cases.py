"""Writes Tests/TokenizerTests/ReferenceCases.swift: small models, texts, and what Hugging Face's `tokenizers` makes of them.

Run it with a Python that has the package:

    .tools/tokenizers/bin/python Scripts/tokenizer_cases.py
"""

import json
import subprocess
import sys
from pathlib import Path

from tokenizers import Regex, Tokenizer, __version__, models, normalizers, pre_tokenizers, trainers

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "Tests/Integration/support"))
import real_tokenizers as real  # noqa: E402

TARGET = ROOT / "Tests/TokenizerTests/ReferenceCases.swift"
TEXTS = [
    "Hello, world! It's the end.", "  two  spaces \t tab\n\n\nlines \r\n x", "trailing   ", "\n", " ", "   \n   \n   x",
    "don't DON'T we'll I'VE 'ſ 's'S x'", "HTTPServer camelCaseWord snake_case ABC", "1 12 123 1234 12345 3.14 ٣४ ½²",
    "naïve cafe\u0301 e\u0323\u0301 \u1112\u1161\u11ab \u212b", "你好，世界。カタカナー・ひら゙がな 123你", "ー・ー ゠\u3097a",
    "Привет МИР שלום مَرْحَبًا हिन्दी ไทย", "🙂👨‍👩‍👧 👍🏽 ❤️", "a\u00a0b\u2003c\u3000d\u0085e\u2028f", "x\x00\x01y \x7f\x1b[0m",
    "((foo)) !bar --baz //qux /* */\n\n#if", "path/to/file.txt//\n/", "▁a▁▁ b ▁", "<|end|>", "a <|end|> b", "<|end|><|end|>",
    "<mask>", "x <mask> y", "x<mask>y", "don <word> t", "don<word>t", "<norm>é", "\u0301\u0301a", "a" * 200, "ab" * 90 + " " * 40,
]  # fmt: skip


def trained(byte_level: bool) -> dict:
    """A model of a few hundred tokens, trained on this repository's own documents."""
    # Without the added tokens, which would become tokens of the model.
    corpus = [path.read_text() for path in sorted((ROOT / "docs").glob("a*.md"))]
    corpus += [text for text in TEXTS if "<" not in text] * 3
    tokenizer = Tokenizer(models.BPE(byte_fallback=not byte_level, unk_token=None if byte_level else "<unk>"))
    if byte_level:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=420, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    else:
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
        names = ["<unk>"] + [f"<0x{byte:02X}>" for byte in range(256)]
        trainer = trainers.BpeTrainer(
            vocab_size=520, show_progress=False, special_tokens=names, limit_alphabet=60)
    tokenizer.train_from_iterator(corpus, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return {key: model[key] for key in ("vocab", "merges")}


def added(first: int) -> list[dict]:
    rows = [("<|end|>", {"special": True}), ("<mask>", {"lstrip": True, "special": True}), ("<word>", {"single_word": True}),
            ("<norm>", {"normalized": True}), ("<right>", {"rstrip": True})]  # fmt: skip
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    return [{"id": first + index, "content": name, **flags, **own} for index, (name, own) in enumerate(rows)]


def pipelines() -> dict[str, tuple[str, dict]]:
    """Name: which model, and the parts around it."""
    level = real.byte_level(False)

    def by(*patterns: str, **extra) -> dict:
        stages = [real.split(pattern) for pattern in patterns]
        return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [*stages, level]}, **extra}

    deepseek = [
        r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
        "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
    ]  # fmt: skip
    bar = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    prepend = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, bar]}
    space = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}

    def metaspace(scheme: str, split: bool) -> dict:
        return {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}}

    digits = {"type": "Digits", "individual_digits": True}
    runs = {"type": "Digits", "individual_digits": False}
    return {
        "gpt2": ("level", {"pre_tokenizer": real.byte_level(True)}),
        "gpt2Prefixed": ("level", {"pre_tokenizer": {**real.byte_level(True), "add_prefix_space": True}}),
        "gpt2Digits": ("level", {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, real.byte_level(True)]}}),
        "digitRuns": ("level", {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [runs, real.byte_level(True)]}}),
        "qwen2": ("level", by(real.QWEN2, normalizer={"type": "NFC"})),
        "qwen35": ("level", by(real.QWEN35)),
        "llama3": ("level", by(real.LLAMA3)),
        "o200k": ("level", by(real.O200K)),
        "tekken": ("level", by(real.TEKKEN)),
        "deepSeek": ("level", by(*deepseek)),
        "unsplit": ("level", {"pre_tokenizer": level}),
        "compiled": ("level", by(r"[A-Z]\w*|\d+|\s+")),
        "gemma": ("pieces", {"normalizer": bar, "pre_tokenizer": space}),
        "llama2": ("pieces", {"normalizer": prepend}),
        "metaspaceAlways": ("pieces", metaspace("always", True)),
        "metaspaceFirst": ("pieces", metaspace("first", False)),
        "metaspaceNever": ("pieces", metaspace("never", True)),
    }  # fmt: skip


def whole(model: dict, kind: str, parts: dict) -> dict:
    pieces = kind == "pieces"
    file = {"version": "1.0", "added_tokens": added(len(model["vocab"])), "normalizer": None, "pre_tokenizer": None,
            "post_processor": None, "decoder": None, **parts}  # fmt: skip
    if pieces:
        file["decoder"] = {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]}
    else:
        file["decoder"] = real.byte_level(True)
    file["model"] = {"type": "BPE", "unk_token": "<unk>" if pieces else None, "fuse_unk": True, "byte_fallback": pieces,
                     **model}  # fmt: skip
    return file


def swift(text: str) -> str:
    """A Swift string literal."""
    escapes = {'"': '\\"', "\\": "\\\\"}
    return '"' + "".join(
        escapes.get(c, c if " " <= c <= "~" else f"\\u{{{ord(c):x}}}") for c in text) + '"'  # fmt: skip


def lines(text: str, width: int = 100) -> str:
    """A raw multi-line literal of ASCII text."""
    parts = [text[start : start + width] for start in range(0, len(text), width)]
    return '#"""\n' + "\n".join(f"    {part}\\#" for part in parts).removesuffix("\\#") + '\n    """#'


def main() -> None:
    trained_models = {"level": trained(True), "pieces": trained(False)}
    out = [f"// Written by Scripts/tokenizer_cases.py with `tokenizers` {__version__}. Do not edit.\n",
           "/// Small models, texts, and the ids that the reference implementation gives them.",
           "enum ReferenceCases {"]  # fmt: skip
    for name, model in trained_models.items():
        # Spelled without characters beyond ASCII, so escapes in keys are read as well.
        out.append(f"  /// Vocabulary and merges of the model `{name}`.")
        out.append(f"  static let {name}Model = {lines(json.dumps(model, separators=(',', ':'))[1:-1])}\n")
        out.append(f"  static let {name}Size = {len(model['vocab'])}\n")
    out.append("  static let texts = [")
    out += [f"    {swift(text)}," for text in TEXTS]
    out.append("  ]\n")
    out.append("  /// Name, model, the parts of the file around it, and the ids of each text.")
    out.append("  static let pipelines: [(name: String, model: String, parts: String, ids: [[UInt32]])] = [")
    for name, (kind, parts) in pipelines().items():
        file = whole(trained_models[kind], kind, parts)
        tokenizer = Tokenizer.from_str(json.dumps(file))
        del file["model"]["vocab"], file["model"]["merges"]
        text = json.dumps(file, separators=(",", ":"))
        out.append(f'    (\n      "{name}", "{kind}",\n      {lines(text, 90)},\n      [')
        out += [f"        {tokenizer.encode(text).ids}," for text in TEXTS]
        out.append("      ]\n    ),")
    out.append("  ]\n}")
    TARGET.write_text("// swift-format-ignore-file\n" + "\n".join(out) + "\n")


if __name__ == "__main__":
    main()
