"""One proof as a user asks for it: which model, which keys, which rows."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.configs.config import read_config
from launch.configs.models import find_model_template
from launch.configs.proofs import KeptProof, keep_proof, read_options
from launch.configs.rules import split_names
from launch.machine.network import find_cached_model
from launch.prove.cases import Case, make_cases, make_image_cases, read_cases
from launch.prove.chat_template import read_chat_template
from launch.prove.proof import Encode, Proof, prove
from launch.prove.served import Served, list_served
from prep.errors import InputError, UserError
from prep.frames import make_frame
from prep.llamafactory import find_version_facts, list_shipped
from prep.registry.dataset import find_dataset
from prep.storage.os_errors import is_folder
from prep.tokens.turns import TemplateOptions
from prep.wording import in_shell

if TYPE_CHECKING:
    import pandas as pd

_PLAIN = "question and answer"
_SHOWN_NAME = 200


@dataclass(frozen=True)
class Asked:
    """What `lfc launch prove` was asked; `config`'s keys and datasets come first."""

    model: str
    template: str | None = None
    config: Path | None = None
    datasets: tuple[str, ...] = ()
    dataset_dir: Path = Path("data")
    most_rows: int = 200


@dataclass(frozen=True)
class Answer:
    """A proof and the prompts that will be served; `by_tokens` is False where there was no tokenizer.json."""

    folder: Path
    proof: Proof
    served: list[Served]
    by_tokens: bool
    notes: list[str] = field(default_factory=list)

    @property
    def refused(self) -> bool:
        """Whether what is trained differs from what is served."""
        if self.proof.rows:
            return bool(self.proof.differing_rows)
        return any(verdict.difference for verdict in self.proof.cases if verdict.case.name == _PLAIN)

    def to_pandas(self) -> "pd.DataFrame":
        """Return a row a case: whether it is equal, what differs, and the keys that undo that."""
        return make_frame(
            {
                "case": verdict.case.name,
                "is_equal": verdict.difference is None,
                "difference": verdict.difference.describe() if verdict.difference else "",
                "settings": dict(verdict.settings or {}),
            }
            for verdict in (*self.proof.cases, *self.proof.rows)
        )


def answer(asked: Asked) -> Answer:
    """Prove a model's template as asked.

    Raises: InputError when the model's folder, its chat template or a dataset is missing; UserError when the
    template is not known.
    """
    folder = find_folder(asked.model)
    values = read_config(asked.config) if asked.config else {}
    options = choose_options(asked, values, folder)
    chat = read_chat_template(folder)
    notes: list[str] = []
    rows = _read_rows(asked, values, options, notes)
    encode = _load_encode(folder, notes)
    cases = [*make_cases(options.rules), *make_image_cases(options.rules)]
    facts = find_version_facts()
    if facts.folder is not None:
        notes.append(
            f"LLaMA-Factory {facts.version} told its templates itself; how it fills them is held equal for "
            f"{', '.join(list_shipped())} alone"
        )
    proof = prove(chat, options, cases, rows, encode)
    try:
        keep_proof(folder, options, _summarise(proof))
    except (UserError, OSError) as error:
        notes.append(f"it is not kept for the report page: {error}")
    return Answer(folder, proof, list_served(chat, options), encode is not None, notes)


def _summarise(proof: Proof) -> KeptProof:
    equal = sum(verdict.difference is None for verdict in proof.cases)
    rows = len(proof.rows)
    return KeptProof(proof.template, proof.version, len(proof.cases), equal, rows, rows - len(proof.differing_rows))


def find_folder(model: str) -> Path:
    """Return a model's folder: the path itself, or where the hubs' caches hold it.

    Raises: InputError when it is at neither.
    """
    folder = Path(os.path.expanduser(model))  # noqa: PTH111
    if is_folder(folder):
        return folder
    cached = find_cached_model(model, os.environ)
    if cached is None:
        raise InputError(
            f"{model[:_SHOWN_NAME]} is no folder, and no cache on this machine holds a model of that name",
            hint=f"lfc prep download --model {in_shell(model)}, then name its folder",
        )
    return cached


def choose_options(asked: Asked, values: Mapping[str, Any], folder: Path) -> TemplateOptions:
    """Return the keys that decide how rows are written: the options given, the config's, the model's."""
    template = asked.template or values.get("template")
    if not template:
        found = find_model_template(asked.model)
        candidates = found.candidates
        if found.template is None:
            found = find_model_template(str(folder))
        template = found.template
        if template is None:
            known = (
                f"; it may be {' or '.join(candidates or found.candidates)}"
                if candidates or found.candidates
                else ""
            )
            raise UserError(f"which template {asked.model} needs is not known{known}", hint="--template NAME")
    return read_options({**values, "template": template})


def _read_rows(asked: Asked, values: Mapping[str, Any], options: TemplateOptions, notes: list[str]) -> list[Case]:
    dataset_dir = Path(str(values.get("dataset_dir") or asked.dataset_dir))
    names = [*split_names(values.get("dataset")), *asked.datasets]
    cases: list[Case] = []
    for name in dict.fromkeys(names):
        dataset = find_dataset(name, dataset_dir)
        found = list(read_cases(dataset, options.rules, asked.most_rows))
        if not found:
            notes.append(f"dataset '{name}' has no row that can be compared: lfc prep lint {in_shell(name)}")
        cases += found
    return cases


def _load_encode(folder: Path, notes: list[str]) -> Encode | None:
    from prep.tokens.tokenizer import load_tokenizer

    if not (folder / "tokenizer.json").is_file():
        notes.append(f"{folder} has no tokenizer.json: texts are compared, not their tokens")
        return None
    tokenizer = load_tokenizer(folder)

    def encode(text: str) -> Sequence[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    return encode
