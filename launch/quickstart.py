"""The whole way on the bundled sample, as the very commands that a user types: which ones, and which are done."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prep.errors import OutputError, UserError
from prep.files import hash_file, write_json, write_text
from prep.sample import SAMPLE_FILES

STATE_FILE = "steps.json"
SCRIPT_FILE = "commands.sh"
MODEL = "models/tiny-qwen3"
ADAPTER = "saves/tiny-qwen3/lora/hybrid"
COMPARISON = "runs/hybrid-eval"
_TEST_ROWS = 24


@dataclass(frozen=True)
class Step:
    """One `lfc` command and the files or folders it reads and makes, relative to the quickstart folder."""

    title: str
    argv: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def format(self) -> str:
        """Return the line that a user types."""
        import shlex

        return shlex.join(("lfc", *self.argv))


def plan_steps() -> list[Step]:
    """Return the steps from the sample files to the comparison of base and adapter."""
    medical, chat = (f"raw/{name}" for name in SAMPLE_FILES)
    train, test = "data/hybrid_train.jsonl", "data/hybrid_test.jsonl"
    manifests = ("data/hybrid_train.manifest.json", "data/hybrid_test.manifest.json")
    plan = [
        ("Take the sample", "prep sample --to raw", (), (medical, chat)),
        (
            "Convert the reasoning rows",
            f"prep convert {medical} -o data/medical.jsonl",
            (medical,),
            _data("medical"),
        ),
        ("Convert the chat rows", f"prep convert {chat} -o data/chat.jsonl", (chat,), _data("chat")),
        (
            "Mix them half and half",
            "prep mix reasoning=data/medical.jsonl chat=data/chat.jsonl --ratio reasoning=0.5,chat=0.5 "
            "-o data/hybrid.jsonl",
            (*_data("medical"), *_data("chat")),
            _data("hybrid"),
        ),
        (
            "Hold out a test set",
            f"prep split data/hybrid.jsonl --test {_TEST_ROWS} -o data/hybrid",
            _data("hybrid"),
            (train, test, *manifests),
        ),
        (
            "Register the training rows",
            f"prep register {train} --name hybrid_train --dataset-dir data",
            (train,),
            ("data/dataset_info.json#hybrid_train",),
        ),
        (
            "Register the test rows",
            f"prep register {test} --name hybrid_test --dataset-dir data",
            (test,),
            ("data/dataset_info.json#hybrid_test",),
        ),
        ("Make a tiny Qwen3", f"launch tiny-model {train} --to {MODEL}", (train,), (MODEL,)),
        (
            "Write the config",
            f"launch config new cpu-smoke model_name_or_path={MODEL} dataset=hybrid_train output_dir={ADAPTER} "
            "per_device_train_batch_size=8 learning_rate=5.0e-3 max_steps=180 lora_rank=16 "
            "additional_target=embed_tokens,lm_head -o configs/hybrid.yaml",
            ("data/dataset_info.json#hybrid_train", *manifests),
            ("configs/hybrid.yaml",),
        ),
        (
            "Train",
            "launch train configs/hybrid.yaml",
            ("configs/hybrid.yaml", train, MODEL),
            (ADAPTER, "runs/hybrid"),
        ),
        (
            "Compare base and adapter",
            "launch eval configs/hybrid.yaml --eval-dataset hybrid_test do_sample=false max_new_tokens=160 "
            "per_device_eval_batch_size=24",
            ("configs/hybrid.yaml", test, MODEL, ADAPTER),
            (COMPARISON,),
        ),
    ]
    return [Step(title, tuple(line.split()), inputs, outputs) for title, line, inputs, outputs in plan]


def prepare_folder(folder: Path, *, fresh: bool) -> None:
    """Make the quickstart folder, or empty it when it is one and `fresh` is asked for.

    Raises: OutputError when the folder holds something that no quickstart made.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / STATE_FILE).is_file():
        raise OutputError(f"{folder} holds other files", hint="--to ANOTHER_FOLDER")
    if fresh and folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / STATE_FILE).exists():
        write_json(folder / STATE_FILE, {})
    lines = [f"# {step.title}\n{step.format()}" for step in plan_steps()]
    opening = '#!/bin/sh\n# What `lfc quickstart` ran, in order, in this folder.\nset -e\ncd "$(dirname "$0")"\n'
    write_text(folder / SCRIPT_FILE, opening + "\n" + "\n".join(lines) + "\n")


def is_current(step: Step, folder: Path) -> bool:
    """Tell whether a step was done with the same command and inputs, and its outputs are as it left them."""
    done = _read_state(folder).get("/".join(step.outputs))
    return done is not None and done == _fingerprint(step, folder)


def clear_outputs(step: Step, folder: Path) -> None:
    """Remove what an earlier run of a step made, so that the command finds its place free."""
    for output in step.outputs:
        path = folder / output
        if "#" in output:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def mark_done(step: Step, folder: Path) -> None:
    """Remember a step's command, inputs and outputs as they are now."""
    state = _read_state(folder)
    state["/".join(step.outputs)] = _fingerprint(step, folder)
    write_json(folder / STATE_FILE, state)


def check_learning(folder: Path) -> str:
    """Return what the trainer's own log says of the loss; raises UserError when it did not fall clearly."""
    from launch.progress import read_trainer_log

    log = folder / ADAPTER / "trainer_log.jsonl"
    losses = [entry["loss"] for entry in read_trainer_log(log) if entry.get("loss") is not None]
    if len(losses) < 2 or losses[-1] > losses[0] / 2:
        raise UserError(f"{log}: the loss did not fall to half of its first value", hint="lfc quickstart --fresh")
    return f"the loss fell from {losses[0]:.2f} to {losses[-1]:.2f} in {len(losses)} steps ({log.as_posix()})"


def _data(name: str) -> tuple[str, str]:
    return f"data/{name}.jsonl", f"data/{name}.manifest.json"


def _read_state(folder: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return state


def _fingerprint(step: Step, folder: Path) -> Mapping[str, Any]:
    hashes = {name: _hash_place(folder, name) for name in (*step.inputs, *step.outputs)}
    return {"command": step.format(), "files": hashes}


def _hash_place(folder: Path, name: str) -> Any:
    """Return what tells a file, a folder's files, or one entry of a JSON document from another version."""
    file_name, _, entry = name.partition("#")
    path = folder / file_name
    if not path.exists():
        return None
    if entry:
        return json.loads(path.read_text(encoding="utf-8")).get(entry)
    if path.is_dir():
        return {found.relative_to(path).as_posix(): hash_file(found) for found in _walk_files(path)}
    return hash_file(path)


def _walk_files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(parent) / name for name in sorted(names))
