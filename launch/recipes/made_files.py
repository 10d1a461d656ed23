"""Which files a training leaves: anything else in its folders is somebody else's, and no recipe deletes it.

Source: LLaMA-Factory 0.9.5 (train/*/workflow.py, extras/constants.py), transformers 5 (trainer.py) and peft 0.18
(utils/constants.py), which write these names.
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from launch.runs.folder import RunFolder

WEIGHTS = ("adapter_model*.safetensors", "adapter_model*.bin", "model*.safetensors", "pytorch_model*.bin")
_TRAINING = (
    *WEIGHTS, "adapter_config.json", "model*.index.json", "pytorch_model*.index.json", "config.json",
    "generation_config.json", "README.md", "chat_template.jinja", "tokenizer*", "vocab.*", "merges.txt",
    "special_tokens_map.json", "added_tokens.json", "*processor_config.json", "training_args.*",
    "llamaboard_config.yaml", "trainer_state.json", "trainer_log.jsonl", "running_log.txt", "*_results.json",
    "training_*.png", "optimizer.*", "scheduler.pt", "scaler.pt", "rng_state*.pth", "value_head.*",
    "events.out.tfevents.*", "*_optim_states.pt", "*_model_states.pt", "zero_to_fp32.py", "latest", "*.distcp",
    ".metadata", "boost.json",
)  # fmt: skip
_RUN = tuple(
    getattr(RunFolder(Path()), name).name for name, part in vars(RunFolder).items() if isinstance(part, property)
)
# What a supervisor says before it has begun.
TRAINED_FILES = (*_TRAINING, *_RUN, "supervisor.txt")


def is_named_so(place: str, patterns: Iterable[str]) -> bool:
    """Whether the last part of a place is one of the names; `*` in a name stands for anything."""
    name = PurePosixPath(place).name
    return any(fnmatchcase(name, pattern) for pattern in patterns)
