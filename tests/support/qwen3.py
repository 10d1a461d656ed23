"""Qwen3's tokenizer, built from installed packages: no network, and no weights."""

import ast
import base64
import importlib.util
import json
from itertools import pairwise
from pathlib import Path

# Qwen2's own pre-tokenizer, which Qwen3 kept.
_PRETOKENIZE_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# In the order of their ids, from 151643 on.
_SPECIAL_TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
_PLAIN_ADDED_TOKENS = (
    *("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"),
    *("<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>"),
)


def build_tokenizer_folder(folder: Path) -> Path:
    """Write Qwen3's tokenizer.json and tokenizer_config.json into a folder and return it."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
    from tokenizers.models import BPE

    folder.mkdir(parents=True, exist_ok=True)
    vocab, merges = _read_vocab_and_merges()
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PRETOKENIZE_REGEX), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in _SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in _PLAIN_ADDED_TOKENS])
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = _describe_tokenizer(first_id=len(vocab))
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    return folder


def read_chat_template() -> str:
    """Return Qwen3's chat template, read from unsloth's source: importing unsloth needs a GPU."""
    source = _find_package("unsloth") / "chat_templates.py"
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "qwen3_template":
            return str(ast.literal_eval(node.value))
    raise LookupError(f"no qwen3_template in {source}")


def _describe_tokenizer(first_id: int) -> dict[str, object]:
    added = [(token, True) for token in _SPECIAL_TOKENS] + [(token, False) for token in _PLAIN_ADDED_TOKENS]
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(first_id + place): {"content": token, **flags, "special": special}
            for place, (token, special) in enumerate(added)
        },
        "additional_special_tokens": list(_SPECIAL_TOKENS[1:]),
        "bos_token": None,
        "chat_template": read_chat_template(),
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }


def _read_vocab_and_merges() -> tuple[dict[str, int], list[tuple[str, str]]]:
    lines = (_find_package("dashscope") / "resources" / "qwen.tiktoken").read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}
    spell = _spell_bytes()
    spelled = {token: token.decode("latin-1").translate(spell) for token in ranks}
    merges = []
    for token, rank in ranks.items():
        if len(token) > 1:
            left, right = _split_token(token, rank, ranks)
            merges.append((spelled[left], spelled[right]))
    return {spelled[token]: rank for token, rank in ranks.items()}, merges


def _split_token(token: bytes, rank: int, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """Return the two tokens that byte pair encoding joins last to make `token`."""
    cuts = [
        cut for cut in range(1, len(token)) if ranks.get(token[:cut], rank) < rank > ranks.get(token[cut:], rank)
    ]
    if len(cuts) == 1:
        return token[: cuts[0]], token[cuts[0] :]
    parts = [token[place : place + 1] for place in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(left + right, rank) for left, right in pairwise(parts)]
        best = pairs.index(min(pairs))
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts[0], parts[1]


def _spell_bytes() -> dict[int, str]:
    """Map each byte to the printable character that byte-level vocabularies write for it."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(others)}


def _find_package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise LookupError(f"{name} is not installed; the tests need it")
    return Path(spec.origin).parent
