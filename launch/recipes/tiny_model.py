"""Write a tiny Qwen3 with random weights and a tokenizer trained on a data file: it trains on a CPU in seconds.

This file is also a program, `tiny_model.py DATA.jsonl FOLDER`, that the Python with the training stack runs: so
`lfc` itself never loads torch. That Python may not have `lfc`, hence only the standard library at the top.
"""

import sys

if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
    # Before Python 3.11 a script's folder is looked through first: our modules would hide others' names.
    del sys.path[0]

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

VOCABULARY_SIZE = 4_000
# Qwen3's order; from <tool_call> on they are added tokens that decoding keeps.
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VISIBLE_TOKENS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
_SEED = 42


def make_tiny_model(cli: Path, data: Path, folder: Path, on_poll: Callable[[], None] = lambda: None) -> None:
    """Make the model with the Python that `cli`, a llamafactory-cli, belongs to; it appears whole or not at all.

    Raises: InputError when the data is missing, OutputError when the folder exists, ChildFailedError.
    """
    from launch.machine.command import build_python_command, find_stack_python
    from launch.runs.process import describe_failure, run_child
    from prep.errors import ChildFailedError, InputError, OutputError
    from prep.storage.os_errors import explain_os_error

    if not data.is_file():
        raise InputError(f"{data} does not exist or is not a file", hint="lfc prep convert … -o FILE makes one")
    if os.path.lexists(folder):
        raise OutputError(f"{folder} exists already", hint="--to ANOTHER_FOLDER")
    with explain_os_error(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        # A name that nobody has: what another process makes, or a user keeps, is not ours to clear.
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name[:40]}.", suffix=".partial", dir=folder.parent))
    log = partial / "log.txt"
    command = build_python_command(
        find_stack_python(cli), Path(__file__), (str(data), str(partial / "model")), os.environ
    )
    try:
        exit_code = run_child(command, log, on_poll)
    except BaseException:
        shutil.rmtree(partial)
        raise
    if exit_code:
        # The log stays, for who reads the message.
        shutil.rmtree(partial / "model", ignore_errors=True)
        raise ChildFailedError(describe_failure(command.argv[0], exit_code, log), exit_code=exit_code)
    with explain_os_error(folder):
        (partial / "model").replace(folder)
        shutil.rmtree(partial)


def write_tiny_model(data: Path, folder: Path) -> None:
    """Write config, weights and tokenizer into `folder`; the same data gives the same bytes.

    Shape: 2 layers, hidden size 128, 4 attention heads over 2 key-value heads: about 1.5 million parameters.
    """
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = _train_tokenizer(data)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(_SEED)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=4_096,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)


def _train_tokenizer(data: Path):  # type: ignore[no-untyped-def]  # transformers' class, known only there
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(_read_texts(data), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in VISIBLE_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=CONTROL_TOKENS[2], pad_token=CONTROL_TOKENS[0], model_max_length=4_096
    )


def _read_texts(data: Path) -> Iterator[str]:
    with data.open(encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            row.pop("origin", None)
            yield from _list_texts(row)


def _list_texts(value: object) -> Iterator[str]:
    """Yield every text of a row of any kind: pairs have no output, conversations have turns."""
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _list_texts(inner)


if __name__ == "__main__":
    write_tiny_model(Path(sys.argv[1]), Path(sys.argv[2]))
