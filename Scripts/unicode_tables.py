"""Writes Sources/Tokenizer/UnicodeData.swift: which characters are what, in the eyes of Hugging Face's `tokenizers`.

Its regular expressions, its digit splitter, its added-token matcher and its NFC each bring a Unicode version of their
own (NFC's is years behind the classes'). Token ids must be equal, so the package itself is asked about each character.
Run it with a Python that has the package:

    .tools/tokenizers/bin/python Scripts/unicode_tables.py
"""

import re
import subprocess
import sys
import unicodedata
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, __version__, models, normalizers, pre_tokenizers

TARGET = Path(__file__).resolve().parent.parent / "Sources/Tokenizer/UnicodeData.swift"
ALL = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
FLAGS = ["letter", "mark", "number", "symbol", "space", "upper", "lower", "word", "digit", "unstable"]
WIDTH = 100


def members(regex: str) -> set[int]:
    """The characters that `regex` matches on their own."""
    splitter = pre_tokenizers.Split(Regex(regex), "removed")
    found = set(ALL)
    for start in range(0, len(ALL), 4096):
        for rest, _ in splitter.pre_tokenize_str("".join(map(chr, ALL[start : start + 4096]))):
            found.difference_update(map(ord, rest))
    return found


def word_characters() -> set[int]:
    """What counts as part of a word beside an added token with `single_word`."""
    tokenizer = Tokenizer(models.BPE(vocab={}, merges=[]))
    tokenizer.add_tokens([AddedToken("X", single_word=True)])
    return {code for code in ALL if not tokenizer.encode(chr(code) + "X").ids}


def digits() -> set[int]:
    splitter = pre_tokenizers.Digits(individual_digits=True)
    return {code for code in ALL if len(splitter.pre_tokenize_str(f"a{chr(code)}a")) == 3}


def normalization():
    """Canonical decompositions (one step), combining classes and compositions, as the package knows them."""
    nfc, nfd = normalizers.NFC(), normalizers.NFD()
    decomposed = {code: text for code in ALL if (text := nfd.normalize_str(chr(code))) != chr(code)}
    hangul = range(0xAC00, 0xD7A4)
    steps, compositions = {}, {}
    for code in decomposed:
        if code in hangul:
            continue
        step = tuple(int(part, 16) for part in unicodedata.decomposition(chr(code)).split())
        steps[code] = step
        if len(step) == 2 and nfc.normalize_str(chr(code)) == chr(code):
            compositions[step] = code
    classes = {}
    for code in ALL:
        if code in decomposed or not unicodedata.combining(chr(code)):
            continue
        # It moves behind a mark of a lower class, or another of a higher class moves behind it, if it is known at all.
        if any(nfd.normalize_str(text) != text for text in (f"a\u0315{chr(code)}", f"a{chr(code)}\u0334")):
            classes[code] = unicodedata.combining(chr(code))
    return steps, compositions, classes


def unstable(steps, compositions, classes) -> set[int]:
    """Characters that may change under NFC, by themselves or because of what stands before them."""
    excluded = {code for code, step in steps.items() if len(step) == 1 or compositions.get(step) != code}
    seconds = {second for _, second in compositions}
    hangul = {*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)}
    return excluded | seconds | hangul | set(classes)


def base36(number: int) -> str:
    text = ""
    while number or not text:
        number, digit = divmod(number, 36)
        text = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + text
    return text


def class_runs(flags: dict[str, set[int]]) -> tuple[list[int], str]:
    values = [0] * 0x110000
    for bit, name in enumerate(FLAGS):
        for code in flags[name]:
            values[code] |= 1 << bit
    combinations: list[int] = []
    text, start = [], 0
    while start < len(values):
        end = start
        while end < len(values) and values[end] == values[start]:
            end += 1
        if values[start] not in combinations:
            combinations.append(values[start])
        letter = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[combinations.index(values[start])]
        text.append(letter + (str(end - start) if end - start > 1 else ""))
        start = end
    return combinations, "".join(text)


def literal(name: str, comment: str, text: str) -> str:
    lines = [text[start : start + WIDTH] for start in range(0, len(text), WIDTH)]
    # A line that ends in a space would lose it to an editor.
    body = " \\\n".join(f"    {line}" for line in lines).replace(" \\\n", "\\\n")
    return f'  /// {comment}\n  static let {name}: StaticString = """\n{body}\n    """\n'


def main() -> None:
    steps, compositions, classes = normalization()
    flags = {
        "letter": members(r"\p{L}"), "mark": members(r"\p{M}"), "number": members(r"\p{N}"),
        "symbol": members(r"[\p{P}\p{S}]"), "space": members(r"\s"), "upper": members(r"[\p{Lu}\p{Lt}]"),
        "lower": members(r"\p{Ll}"), "word": word_characters(), "digit": digits(),
        "unstable": unstable(steps, compositions, classes),
    }  # fmt: skip
    combinations, runs = class_runs(flags)
    previous, decompositions = 0, []
    for code, step in sorted(steps.items()):
        shown = ":" if step in compositions and compositions[step] == code else "."
        decompositions.append(base36(code - previous) + shown + ",".join(map(base36, step)))
        previous = code
    previous, combining = 0, []
    for code, value in sorted(classes.items()):
        combining.append(f"{base36(code - previous)}.{base36(value)}")
        previous = code
    parts = [
        literal("runs", "Runs of characters from U+0000 on: a letter for the flags, then the length if it is not 1.", runs),
        literal(
            "decompositions",
            "Canonical decompositions in base 36: distance from the one before, a colon if it composes again\n"
            "  /// (else a point), one or two characters.",
            ";".join(decompositions) + ";"),
        literal(
            "combiningClasses", "Combining classes other than 0, in base 36: distance, point, class.",
            ";".join(combining) + ";"),
    ]
    numbers = ", ".join(map(str, combinations))
    text = f"""// Written by Scripts/unicode_tables.py, by asking `tokenizers` {__version__} about each character. Do not edit.

/// Unicode properties as the reference implementation sees them, packed as text; ``UnicodeTable`` unpacks them.
enum UnicodeData {{
  /// The combinations of flags (bits of ``CharacterFlags``) that the letters of ``runs`` stand for, A first.
  static let combinations: [UInt16] = [
    {numbers}
  ]

{chr(10).join(parts)}}}
"""
    TARGET.write_text(text)
    subprocess.run(["swift", "format", "-i", str(TARGET)], check=True)
    print(len(combinations), "combinations,", len(runs), "bytes of runs,", len(steps), "decompositions")


if __name__ == "__main__":
    main()
