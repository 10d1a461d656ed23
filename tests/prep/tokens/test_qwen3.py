"""The tokenizer that the tests build is Qwen3's."""

from pathlib import Path

import pytest

from tests.support.qwen3 import read_chat_template


def test_the_built_tokenizer_has_qwen3s_ids(qwen3_folder: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(qwen3_folder / "tokenizer.json"))
    known = {
        "<|endoftext|>": 151643,
        "<|im_start|>": 151644,
        "<|im_end|>": 151645,
        "<tool_call>": 151657,
        "<think>": 151667,
        "</think>": 151668,
    }
    assert {token: tokenizer.token_to_id(token) for token in known} == known
    assert tokenizer.encode("Hello world 你好").ids == [9707, 1879, 220, 108386]
    assert tokenizer.get_vocab_size() == 151669


@pytest.mark.stack
def test_transformers_loads_the_built_tokenizer_without_a_network(qwen3_folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(qwen3_folder), local_files_only=True)
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token) == ("<|im_end|>", "<|endoftext|>", None)
    assert tokenizer.chat_template == read_chat_template()
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
