"""Strings that tokenizers get wrong: made by a seeded generator, and cut out of real files of this repository."""

import random
import unicodedata
from pathlib import Path

SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", " \n", "\n ", "\t\t", "\u00a0", "\u2003", "\u3000",
          "\u2028", "\u0085", "\x0b", "\x0c", "\u200b", "\ufeff", " " * 17, "\n" * 9, "\r\n\r\n", " \t \n "]  # fmt: skip
WORDS = ["the", "The", "THE", "hello", "naïve", "Straße", "ſharp", "ﬁne", "don't", "DON'T", "it's", "we'll", "I'VE", "'re",
         "'ſ", "'S", "’s", "camelCase", "HTTPServer", "snake_case", "ΑΒΓδε", "Привет", "МИР", "שלום", "مرحبا", "हिन्दी",
         "ไทย", "한국어", "각", "日本語", "カタカナ", "ひらがな", "中文字符", "㐀", "ー・ー", "゠", "ǅungla", "ʰmod", "x²", "Ⅷ", "½",
         "٣", "१२३", "೧", "①②③", "𝟘𝟙", "𝒳𝓎", "𐐀𐐨", "a\u0301", "e\u0301\u0323", "A\u030a", "\u0301", "\u0327\u0301x",
         "\u1100\u1161\u11a8", "\uac00\u11a8", "\u0344", "\u2126", "\u212b", "\uf900", "\U0002f800", "\u0958",
         "q\u0307\u0323", "\u0f71\u0f72\u0f74", "\u09c7\u09be"]  # fmt: skip
SYMBOLS = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + ["...", "--", "->", "!=", "//", "/*", "*/", "<|", "|>", "</", "```",
           "「", "」", "。", "，", "、", "！", "・", "€", "£", "©", "™", "°", "№", "→", "═", "█", "▁", "▁▁", "\u2581a",
           "🙂", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "👍🏽", "❤️", "\ue000", "\U000e0041", "\x00", "\x01", "\x1b[0m", "\x7f", "\u0378",
           "\ufffd", "\ufffe", "\U0010ffff", "\u00ad", "\u200d", "\u202e"]  # fmt: skip
NUMBERS = ["0", "7", "42", "123", "1234", "12345", "1234567890", "3.14", "1,000,000", "0xFF", "1e-9", "2026-11-22", "00"]
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>", "<tool_call>", "<s>", "</s>", "<unk>",
           "<|begin_of_text|>", "<|eot_id|>", "<｜User｜>", "<｜Assistant｜>", "<｜begin▁of▁sentence｜>", "｜DSML｜", "[INST]",
           "[/INST]", "<|im_start", "im_end|>", "<0x0A>", "<|im_start|><|im_start|>", "<repo_name>"]  # fmt: skip


def generated(count: int, seed: int) -> list[str]:
    random_source = random.Random(seed)
    kinds = [SPACES, WORDS, SYMBOLS, NUMBERS, SPECIAL]
    weights = [5, 6, 4, 3, 1]
    texts = []
    while len(texts) < count:
        shape = random_source.random()
        if shape < 0.12:
            # Any characters at all.
            text = "".join(chr(any_character(random_source)) for _ in range(random_source.randrange(1, 30)))
        elif shape < 0.2:
            text = random_source.choice(random_source.choice(kinds)) * random_source.choice([1, 2, 3, 7, 40, 200])
        else:
            parts = random_source.choices(kinds, weights, k=random_source.randrange(1, 25))
            text = "".join(random_source.choice(part) for part in parts)
        if random_source.random() < 0.1:
            text = unicodedata.normalize(random_source.choice(["NFD", "NFC", "NFKD"]), text)
        texts.append(text)
    return texts


def any_character(random_source: random.Random) -> int:
    """A character, more often one of the low planes; never a surrogate."""
    limit = random_source.choice([0x80, 0x250, 0x600, 0x1100, 0x3100, 0xD800, 0x1F700, 0x110000])
    while True:
        code = random_source.randrange(limit)
        if not 0xD800 <= code < 0xE000:
            return code


def real(folder: Path, count: int, seed: int) -> list[str]:
    """Stretches of the text files under `folder`."""
    random_source = random.Random(seed)
    files = sorted(path for path in folder.rglob("*") if path.suffix in {".md", ".swift", ".py", ".h", ".sh", ".yaml"})
    texts = [path.read_text(errors="replace") for path in files if ".build" not in path.parts and ".venv" not in path.parts]
    result = []
    while len(result) < count:
        text = random_source.choice(texts)
        start = random_source.randrange(max(len(text), 1))
        result.append(text[start : start + random_source.choice([40, 200, 1000, 6000])])
    return [text for text in result if text]


def every_character() -> list[str]:
    """Each character between two letters, alone behind a space, and doubled before a digit."""
    codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    texts = []
    for start in range(0, len(codes), 256):
        block = [chr(code) for code in codes[start : start + 256]]
        texts.append("".join(f"a{c}b {c} {c}{c}1 " for c in block))
    return texts
