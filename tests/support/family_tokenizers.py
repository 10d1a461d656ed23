"""Small tokenizers with the special tokens of a family of models: byte-level, so that they encode every text."""

import json
from pathlib import Path

from prep.tokens.templates import Special, Template, Token

# The beginning and the end of a text, where a family has its own.
ENDS = {
    "llama3": ("<|begin_of_text|>", "<|eot_id|>"),
    "deepseek3": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    "deepseekr1": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    "gemma": ("<bos>", "<eos>"),
    "gemma3": ("<bos>", "<eos>"),
    "mistral": ("<s>", "</s>"),
    "glm4": ("", "<|endoftext|>"),
    "gpt_oss": ("<|startoftext|>", "<|return|>"),
}
# What stands in slots as plain text and is one token of its family.
PLAIN = ("[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[gMASK]", "<sop>", "<think>", "</think>")
TEXTS = (
    "Add them. The answer is four. 复查 甲胎蛋白 AFP",
    "  spaces\n\nline\n- a\n",
    '{"name": "add", "arguments": {"a": 1}}',
)


def build_family_tokenizer(folder: Path, template: Template) -> Path:
    """Write a tokenizer of a template's family into a folder, as a model has it, and return the folder."""
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers.models import BPE

    bos, eos = ENDS.get(template.name, ("", "<|im_end|>"))
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 5, trainer)
    slots = (*template.prefix, *template.system, *template.user, *template.observation, *template.assistant)
    named = [part.text for part in slots if isinstance(part, Token)]
    special = [token for token in dict.fromkeys((bos, eos, "<pad>", *template.marks, *named)) if token]
    written = "".join(part for part in slots if not isinstance(part, Special | Token))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    tokenizer.add_tokens(
        [AddedToken(token, normalized=False) for token in PLAIN if token in written or "think" in token]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": eos, "pad_token": "<pad>"}
    if bos:
        config["bos_token"] = bos
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
