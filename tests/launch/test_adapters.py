"""Whether an adapter is of the model that it is put on, by the headers of both their weight files."""

import json
from pathlib import Path
from typing import Any

import pytest

from launch.configs.config import check_values
from launch.configs.rules import Machine
from launch.configs.weights import find_misfit, read_model_shapes, read_shapes
from prep.errors import InputError

Shape = tuple[int, ...]
BASE: dict[str, Shape] = {
    "model.embed_tokens.weight": (1000, 16),
    "model.layers.0.self_attn.q_proj.weight": (32, 16),
    "model.layers.1.self_attn.q_proj.weight": (32, 16),
}
Q = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"
LORA: dict[str, Shape] = {Q.format(1, "A"): (4, 16), Q.format(1, "B"): (32, 4)}
EMBEDDING = "base_model.model.model.embed_tokens.weight"


def write_safetensors(path: Path, shapes: dict[str, Shape]) -> None:
    entries = {
        name: {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 0]} for name, shape in shapes.items()
    }
    header = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    write_safetensors(folder / "model.safetensors", BASE)
    return folder


def make_adapter(folder: Path, shapes: dict[str, Shape]) -> Path:
    path = folder / "adapter"
    path.mkdir()
    (path / "adapter_config.json").write_text("{}", encoding="utf-8")
    write_safetensors(path / "adapter_model.safetensors", shapes)
    return path


@pytest.mark.parametrize(
    ("shapes", "adds_tokens", "misfit"),
    [
        (LORA, False, ""),
        ({**LORA, Q.format(1, "A"): (4, 24)}, False, "q_proj.lora_A.weight is [4, 24], for a weight of [32, 16]"),
        ({**LORA, Q.format(1, "B"): (64, 4)}, False, "q_proj.lora_B.weight is [64, 4], for a weight of [32, 16]"),
        ({Q.format(2, "A"): (4, 16)}, False, "it is of a model with more than 2 layers"),
        ({**LORA, EMBEDDING: (1000, 16)}, False, ""),
        ({**LORA, EMBEDDING: (1064, 16)}, False, "it has a vocabulary of 1,064, and the model one of 1,000"),
        ({**LORA, EMBEDDING: (1064, 16)}, True, ""),
        ({**LORA, EMBEDDING: (1064, 24)}, True, "embed_tokens.weight is [1064, 24], and the model's is [1000, 16]"),
        ({"base_model.model.something.new.lora_A.weight": (4, 9)}, False, ""),
    ],
)
def test_an_adapter_of_another_model_is_told_by_its_shapes(
    shapes: dict[str, Shape], adds_tokens: bool, misfit: str, model: Path
) -> None:
    found = find_misfit(make_adapter(model.parent, shapes), model, adds_tokens=adds_tokens)
    assert (misfit in found) if misfit else found == ""


def test_sharded_models_are_read_and_quantised_ones_do_not_tell(model: Path) -> None:
    (model / "model.safetensors").rename(model / "model-1.safetensors")
    index: dict[str, Any] = {"weight_map": {**dict.fromkeys(BASE, "model-1.safetensors"), "x": "../../secret"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert read_model_shapes(model) == BASE
    (model / "config.json").write_text('{"quantization_config": {"bits": 4}}', encoding="utf-8")
    assert find_misfit(make_adapter(model.parent, {**LORA, Q.format(1, "A"): (4, 24)}), model) == ""


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"abc",
        (1 << 60).to_bytes(8, "little") + b"{}",
        b"\x02\0\0\0\0\0\0\0[]",
        b"\x09\0\0\0\0\0\0\0" + b'{"a": 1}x',
    ],
)
def test_a_broken_weight_file_is_one_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="is not a whole safetensors file"):
        read_shapes(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ("saves/nope/lora", "saves/nope/lora does not exist"),
        ("./nope", "./nope does not exist"),
        ("model", "model holds no adapter_config.json: it is a whole model"),
        ("empty", "empty holds no adapter_config.json"),
        ("bare", "bare holds no weights"),
        ("adapter", "adapter is not an adapter of model: it is of a model with more than 2 layers"),
        ("someone/adapter", ""),
    ],
)
def test_every_config_with_an_adapter_is_checked_before_it_starts(
    adapter: str, message: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    make_adapter(model.parent, {Q.format(2, "A"): (4, 16)})
    Path("empty").mkdir()
    Path("bare").mkdir()
    Path("bare/adapter_config.json").write_text("{}", encoding="utf-8")
    values = {"model_name_or_path": "model", "template": "qwen3", "adapter_name_or_path": adapter}
    faults = [fault for fault in check_values(values, "infer", Machine()) if fault.key == "adapter_name_or_path"]
    assert [fault.message.startswith(message) for fault in faults] == ([True] if message else [])
