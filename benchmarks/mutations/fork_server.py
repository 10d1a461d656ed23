"""Really start a config: one process imports LLaMA-Factory, and each start is a fork of it with its own limits."""

import contextlib
import gc
import importlib
import json
import logging
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

How = Literal["train", "parse", "infer"]
CPU_LIMIT_S = 60
_WALL_LIMIT_S = 600
_MEMORY_LIMIT_BYTES = 16 << 30
_SHOWN = 200
# What a training imports in the middle of itself.
_LATE_IMPORTS = (
    *("bitsandbytes", "peft.tuners.lora.bnb", "torch._inductor.compile_fx", "matplotlib.pyplot", "tensorboard"),
    *("transformers.models.qwen3.modeling_qwen3", "torch.utils.tensorboard", "jieba", "nltk", "rouge_chinese"),
    *("datasets.packaged_modules.json.json", "accelerate.utils.memory", "trl", "trl.trainer.kto_trainer"),
)


@dataclass(frozen=True)
class Ending:
    """How a start ended.

    Shape: `stage` is where: "parser", "run", "endless" at the limits, "" when all went well; `place` is the
    innermost line of LLaMA-Factory that the error went through.
    """

    stage: str = ""
    error: str = ""
    place: str = ""


def load_llamafactory() -> None:
    """Import what a start imports, so that each fork has it; no thread may be running yet."""
    os.environ.update(
        OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", WANDB_MODE="disabled"
    )
    import llamafactory.train.tuner  # noqa: F401
    import torch
    import tqdm
    from transformers import AutoModelForImageTextToText, AutoModelForSeq2SeqLM, AutoModelForTextToWaveform

    tqdm.tqdm.monitor_interval = 0
    torch.set_num_threads(1)
    for name in _LATE_IMPORTS:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for kind in (AutoModelForImageTextToText, AutoModelForSeq2SeqLM, AutoModelForTextToWaveform):
        list(kind._model_mapping.keys())
    # A collection in a child would write to, and so copy, all pages of the parent.
    gc.collect()
    gc.freeze()


def start(values: dict[str, Any], folder: Path, how: How = "train") -> Ending:
    """Parse and, to `train`, train a config in a child that works in `folder`; `infer` parses as chat does."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _run_child(values, folder, writing, how)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        told = stream.read()
    _, status = os.waitpid(child, 0)
    if how == "train":
        shutil.rmtree(folder / "out", ignore_errors=True)
    if told:
        return Ending(**json.loads(told))
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGALRM, signal.SIGKILL):
        return Ending("endless", f"it was still running after {CPU_LIMIT_S} s of CPU")
    return Ending("run", f"the process ended with status {status}")


def _run_child(values: dict[str, Any], folder: Path, writing: int, how: How) -> None:
    """Never returns: writes its ending into the pipe and leaves without any teardown."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S + 5))
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_LIMIT_BYTES, _MEMORY_LIMIT_BYTES))
    signal.alarm(_WALL_LIMIT_S)
    os.setpgid(0, 0)
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    os.chdir(folder)
    logging.disable(logging.CRITICAL)
    ending = _judge(values, how)
    told = json.dumps(ending.__dict__).encode()
    with contextlib.suppress(OSError):
        os.write(writing, told[:60_000])
    os.close(writing)
    # A worker that a failed run left behind holds the pipe's end open.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    os._exit(0)


def _judge(values: dict[str, Any], how: How) -> Ending:
    from llamafactory.hparams import get_infer_args, get_train_args
    from llamafactory.train.tuner import run_exp

    stage = "parser"
    try:
        (get_infer_args if how == "infer" else get_train_args)(dict(values))
        if how != "train":
            return Ending()
        _forget_parsing()
        stage = "run"
        run_exp(dict(values))
    except BaseException as error:  # noqa: BLE001 - whatever it raises is its verdict
        text = (str(error).splitlines() or [""])[0][:_SHOWN]
        return Ending(stage, f"{type(error).__name__}: {text}", _find_place(error))
    return Ending()


def _forget_parsing() -> None:
    """Undo what the first parsing left behind, as if the run were a process of its own."""
    from accelerate.state import AcceleratorState, PartialState
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()
    AcceleratorState._reset_state()
    PartialState._reset_state()


def _find_place(error: BaseException) -> str:
    """Return the innermost line of LLaMA-Factory that the error went through: `data/loader.py:_load:82`."""
    frames = [
        f"{frame.filename.partition('/llamafactory/')[2]}:{frame.name}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if "/site-packages/llamafactory/" in frame.filename
    ]
    return frames[-1] if frames else ""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what the packages print."""
    logging.disable(logging.CRITICAL)
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield
    logging.disable(logging.NOTSET)


if sys.platform == "win32":
    raise SystemExit("a fork server needs fork: run it on Linux or macOS")
