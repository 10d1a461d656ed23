"""A Qwen2-VL of a few thousand weights, with its processor, built from installed packages: no network."""

import json
from pathlib import Path

from tests.support.qwen3 import build_tokenizer_folder

_IMAGE, _VIDEO, _START, _END = "<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"


def build_vision_folder(folder: Path, *, weights: bool = False) -> Path:
    """Write a tokenizer, a processor and a config of Qwen2-VL, with random weights if asked; returns the folder."""
    from transformers import AutoTokenizer, Qwen2VLConfig, Qwen2VLImageProcessor

    build_tokenizer_folder(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in (_IMAGE, _VIDEO, _START, _END)}
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": 151_936,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 4096,
            "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
        },
        vision_config={"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "mlp_ratio": 2},
        image_token_id=ids[_IMAGE],
        video_token_id=ids[_VIDEO],
        vision_start_token_id=ids[_START],
        vision_end_token_id=ids[_END],
    )
    config.architectures = ["Qwen2VLForConditionalGeneration"]
    Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=112 * 112).save_pretrained(folder)
    processor = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    processor["processor_class"] = "Qwen2VLProcessor"
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    if weights:
        import torch
        from transformers import Qwen2VLForConditionalGeneration

        torch.manual_seed(0)
        Qwen2VLForConditionalGeneration(config).save_pretrained(folder)
    else:
        config.save_pretrained(folder)
    return folder


def write_picture(path: Path, colour: tuple[int, int, int] = (200, 30, 30)) -> Path:
    """Write a small picture of one colour."""
    from PIL import Image

    Image.new("RGB", (56, 56), colour).save(path)
    return path
