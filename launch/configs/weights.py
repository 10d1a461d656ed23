"""What weight files hold, by the headers of their safetensors: names and shapes, no weights are read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from prep.errors import InputError

Shapes = dict[str, tuple[int, ...]]
# Of a model with a hundred thousand tensors.
_MAX_HEADER_BYTES = 32 << 20
_MAX_JSON_BYTES = 32 << 20
_INDEX = "model.safetensors.index.json"
# LLaMA-Factory 0.9.5, extras/constants.py, CHECKPOINT_NAMES.
WEIGHT_FILES = (
    *("adapter_model.bin", "adapter_model.safetensors", "pytorch_model.bin", "pytorch_model.bin.index.json"),
    *("model.safetensors", "model.safetensors.index.json"),
)
_ADAPTER_PREFIX = "base_model.model."


def holds_weights(folder: Path) -> bool:
    """Whether a training left its result in a folder."""
    return any((folder / name).is_file() for name in WEIGHT_FILES)


def read_shapes(path: Path) -> Shapes:
    """Return the shape of every tensor in a safetensors file; raises InputError when it is not a whole one."""
    try:
        with path.open("rb") as stream:
            header = _read_header(stream, path.stat().st_size)
        return {
            str(name): tuple(int(size) for size in entry["shape"])
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is not a whole safetensors file: {error}") from error


def is_cut(path: Path) -> bool:
    """Whether a safetensors file is shorter than its header says, or has no header that can be read."""
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            header = _read_header(stream, size)
            ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
            return stream.tell() + max(ends, default=0) > size
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        return True


def read_model_shapes(folder: Path) -> Shapes:
    """Return the shapes of a model folder's weights, {} when it has no safetensors; raises InputError."""
    whole = folder / "model.safetensors"
    if whole.is_file():
        return read_shapes(whole)
    index = read_json_file(folder / _INDEX)
    files = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(files, dict):
        return {}
    shapes: Shapes = {}
    for name in sorted({str(file) for file in files.values()}):
        if Path(name).name == name and (folder / name).is_file():
            shapes |= read_shapes(folder / name)
    return shapes


def read_json_file(path: Path) -> Any:
    """Return a JSON file's content, None when there is none, it is too large or it is not JSON."""
    try:
        if not path.is_file() or path.stat().st_size > _MAX_JSON_BYTES:
            return None
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def find_misfit(adapter: Path, model: Path, *, adds_tokens: bool = False) -> str:
    """Say why an adapter cannot be of a model, "" when it can, or when the files do not tell.

    Shape: LoRA's A is [rank, in] and B [out, rank] of a weight [out, in]; a whole layer beside it has the
    model's own shape, or more rows where tokens were added. Quantised weights are packed and do not tell.
    Raises: InputError when the adapter's file is broken.
    """
    config = read_json_file(model / "config.json")
    if not isinstance(config, dict) or config.get("quantization_config") or not _has_weights(adapter):
        return ""
    base = read_model_shapes(model)
    known = _count_layers(base)
    for name, shape in read_shapes(adapter / "adapter_model.safetensors").items():
        module = name.removeprefix(_ADAPTER_PREFIX)
        part = next((part for part in (".lora_A.", ".lora_B.") if part in module), "")
        weight = module.partition(part)[0] + ".weight" if part else module
        layer = _read_layer(weight)
        if known and layer is not None and layer >= known:
            return f"it is of a model with more than {known} layers: {name}"
        if found := _compare(name, shape, base.get(weight), part, adds_tokens=adds_tokens):
            return found
    return ""


def _compare(
    name: str, shape: tuple[int, ...], base: tuple[int, ...] | None, part: str, *, adds_tokens: bool
) -> str:
    if base is None or len(base) != 2 or len(shape) != 2:
        return ""
    if part:
        # Some models keep a weight the other way round.
        fits = shape[1 if part == ".lora_A." else 0] in base
        return "" if fits else f"{name} is {list(shape)}, for a weight of {list(base)}"
    if shape[1] != base[1]:
        return f"{name} is {list(shape)}, and the model's is {list(base)}"
    if shape[0] != base[0] and not adds_tokens:
        return (
            f"it has a vocabulary of {shape[0]:,}, and the model one of {base[0]:,}: "
            "tokens were added that the config does not name"
        )
    return ""


def _has_weights(adapter: Path) -> bool:
    return (adapter / "adapter_model.safetensors").is_file()


def _count_layers(shapes: Mapping[str, Any]) -> int:
    layers = [layer for name in shapes if (layer := _read_layer(name)) is not None]
    return max(layers) + 1 if layers else 0


def _read_layer(name: str) -> int | None:
    """Return the number of a text model's layer, None of anything else: vision towers count their own."""
    if "visual" in name or "vision" in name:
        return None
    number = name.partition("layers.")[2].partition(".")[0]
    return int(number) if number.isdecimal() and len(number) < 6 else None


def _read_header(stream: BinaryIO, size: int) -> dict[str, Any]:
    length = int.from_bytes(stream.read(8), "little")
    if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
        raise ValueError(f"its header would have {length} bytes")
    header: dict[str, Any] = json.loads(stream.read(length))
    return header
