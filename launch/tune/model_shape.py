"""How large a model's parts are: by its folder's config.json, else by its well-known name."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.configs.weights import read_json_file


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a decoder with gated MLPs, of which every family that LLaMA-Factory trains is one."""

    hidden: int
    inner: int
    layers: int
    heads: int
    key_heads: int
    width: int
    vocabulary: int
    is_tied: bool = False

    @property
    def attention_width(self) -> int:
        """How wide all heads are together."""
        return self.heads * self.width

    @property
    def key_width(self) -> int:
        """How wide all key heads are together."""
        return self.key_heads * self.width

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """(in, out) of a layer's weights, by the names that `lora_target` gives them."""
        return {
            "q_proj": (self.hidden, self.attention_width),
            "k_proj": (self.hidden, self.key_width),
            "v_proj": (self.hidden, self.key_width),
            "o_proj": (self.attention_width, self.hidden),
            "gate_proj": (self.hidden, self.inner),
            "up_proj": (self.hidden, self.inner),
            "down_proj": (self.inner, self.hidden),
        }

    @property
    def layer_weights(self) -> int:
        """How many weights all layers have."""
        return self.layers * sum(wide * high for wide, high in self.linears.values())

    @property
    def embedding_weights(self) -> int:
        """How many weights stand outside of the layers: the embeddings, and the head where it is one of its own."""
        return self.vocabulary * self.hidden * (1 if self.is_tied else 2)

    @property
    def weights(self) -> int:
        """How many weights the model has."""
        return self.layer_weights + self.embedding_weights

    def count_lora(self, rank: int, target: object) -> int:
        """Return how many weights LoRA trains; `target` is lora_target, `all` or names with commas."""
        names = [name.strip() for name in str(target or "all").split(",")]
        chosen = (
            self.linears if "all" in names else {name: self.linears[name] for name in names if name in self.linears}
        )
        return self.layers * sum(rank * (wide + high) for wide, high in chosen.values())


# By the end of a hub's name, in lower case.
_KNOWN = {
    "qwen3-0.6b": ModelShape(1024, 3072, 28, 16, 8, 128, 151_936, is_tied=True),
    "qwen3-1.7b": ModelShape(2048, 6144, 28, 16, 8, 128, 151_936, is_tied=True),
    "qwen3-4b": ModelShape(2560, 9728, 36, 32, 8, 128, 151_936, is_tied=True),
    "qwen3-8b": ModelShape(4096, 12_288, 36, 32, 8, 128, 151_936),
    "qwen3-14b": ModelShape(5120, 17_408, 40, 40, 8, 128, 151_936),
    "qwen3-32b": ModelShape(5120, 25_600, 64, 64, 8, 128, 151_936),
    "qwen2.5-0.5b": ModelShape(896, 4864, 24, 14, 2, 64, 151_936, is_tied=True),
    "qwen2.5-1.5b": ModelShape(1536, 8960, 28, 12, 2, 128, 151_936, is_tied=True),
    "qwen2.5-3b": ModelShape(2048, 11_008, 36, 16, 2, 128, 151_936, is_tied=True),
    "qwen2.5-7b": ModelShape(3584, 18_944, 28, 28, 4, 128, 152_064),
    "qwen2.5-14b": ModelShape(5120, 13_824, 48, 40, 8, 128, 152_064),
    "qwen2.5-32b": ModelShape(5120, 27_648, 64, 40, 8, 128, 152_064),
    "llama-3.2-1b": ModelShape(2048, 8192, 16, 32, 8, 64, 128_256, is_tied=True),
    "llama-3.2-3b": ModelShape(3072, 8192, 28, 24, 8, 128, 128_256, is_tied=True),
    "llama-3.1-8b": ModelShape(4096, 14_336, 32, 32, 8, 128, 128_256),
    "meta-llama-3-8b": ModelShape(4096, 14_336, 32, 32, 8, 128, 128_256),
}
_MOST = 1 << 24
# What follows a size in a name and changes nothing of the shape.
_SUFFIX = re.compile(r"-(?:base|instruct|chat|thinking|2507|unsloth|bnb|4bit|awq|gptq|int[48]|fp8|it|hf)\b.*$")


def read_model_shape(model_name_or_path: object) -> ModelShape | None:
    """Return a model's shape; None of one that is neither here nor well known, or of another build."""
    name = str(model_name_or_path or "")
    folder = Path(os.path.expanduser(name))  # noqa: PTH111 - pathlib raises for an unknown user
    config = read_json_file(folder / "config.json") if name else None
    if isinstance(config, dict):
        inner = config.get("text_config")
        return _read_config(inner if isinstance(inner, dict) else config)
    return _KNOWN.get(_SUFFIX.sub("", name.rpartition("/")[2].lower()))


def _read_config(config: Mapping[str, Any]) -> ModelShape | None:
    # Experts and sliding windows take memory otherwise.
    if any(config.get(key) for key in ("num_experts", "num_local_experts", "n_routed_experts")):
        return None
    try:
        heads = _read_size(config["num_attention_heads"])
        hidden = _read_size(config["hidden_size"])
        return ModelShape(
            hidden,
            _read_size(config["intermediate_size"]),
            _read_size(config["num_hidden_layers"]),
            heads,
            _read_size(config.get("num_key_value_heads") or heads),
            _read_size(config.get("head_dim") or hidden // heads),
            _read_size(config["vocab_size"]),
            bool(config.get("tie_word_embeddings")),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def _read_size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MOST:
        raise ValueError(f"{value} is no size")
    return value
