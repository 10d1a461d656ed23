"""What LLaMA-Factory's loader keeps is what stands in the file; what it drops or stops at, lint finds.

Random rows of every kind, ten to a file: sound files, on which lint must be silent, and files with one row changed.
"""

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from prep.errors import InputError
from prep.quality.findings import Finding
from prep.quality.lint import lint_dataset
from prep.registry.dataset import align_row, find_dataset
from prep.rows.kinds import Kind
from tests.support.qwen2_vl import write_picture
from tests.support.random_rows import KINDS, Row, RowMaker, break_row
from tests.support.warm_stack import stack_python

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("warm_cli")]

ROWS_A_FILE = 10
# LLaMA-Factory's own loader, converter and the processor of each stage; a file at which it stops is an error.
LOAD = r"""
import json, logging, sys
from types import SimpleNamespace
from datasets import disable_progress_bars
from transformers import AutoTokenizer
from llamafactory.data import processor as processors
from llamafactory.data.loader import _load_single_dataset
from llamafactory.data.mm_plugin import get_mm_plugin
from llamafactory.data.parser import get_dataset_list
from llamafactory.data.template import get_template_and_fix_tokenizer
from llamafactory.hparams import DataArguments

logging.disable(logging.CRITICAL)
disable_progress_bars()
folder, model, out, names = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
tokenizer = AutoTokenizer.from_pretrained(model)
data_args = DataArguments(template="qwen3", dataset_dir=folder, cutoff_len=4096)
data_args.media_dir = folder
template = get_template_and_fix_tokenizer(tokenizer, data_args)
counts_files = get_mm_plugin("qwen2_vl", image_token="<|image_pad|>", video_token="<|video_pad|>")
model_args = SimpleNamespace(cache_dir=out + ".cache", hf_hub_token=None)
training_args = SimpleNamespace(local_process_index=0)
CLASSES = {"sft": "Supervised", "preference": "Pairwise", "kto": "Feedback", "text": "Pretrain"}

def load(name, kind):
    attributes, = get_dataset_list([name], folder)
    rows = _load_single_dataset(attributes, model_args, data_args, training_args)
    maker = getattr(processors, CLASSES[kind] + "DatasetProcessor")(template, tokenizer, None, data_args)
    kept = []
    for row in rows:
        files = [row[media] or [] for media in ("_images", "_videos", "_audios")]
        said = row["_prompt"] + row["_response"]
        if attributes.images:
            counts_files._validate_messages(row["_prompt"] + row["_response"][:1], *files)
        without = {**row, "_images": None, "_videos": None, "_audios": None}
        made = maker.preprocess_dataset({key: [value] for key, value in without.items()})
        is_kept = any(len(value) for value in made.values())
        kept.append({key: row[key] for key in ("_prompt", "_response", "_system", "_tools")} if is_kept else None)
    return kept

with open(out, "a") as stream:
    for name, kind in names.items():
        try:
            made = load(name, kind)
        except Exception as error:
            made = f"{type(error).__name__}: {error}"[:500]
        print(json.dumps([name, made]), file=stream, flush=True)
"""


class File(NamedTuple):
    """One file: its rows, which of them was changed (None for none), and what LLaMA-Factory made of them."""

    name: str
    kind: str
    rows: list[Row]
    broken: int | None


def make_files(kind: str, rows: int) -> Iterator[File]:
    """Yield files of one kind, of each two the second with one row changed."""
    rng = random.Random(f"{kind} rows")
    maker = RowMaker(kind, rng)
    for number in range(rows // ROWS_A_FILE):
        thinks = rng.random() < 0.5
        made = [maker.make(thinks=thinks) for _ in range(ROWS_A_FILE)]
        broken = rng.randrange(ROWS_A_FILE) if number % 2 else None
        if broken is not None:
            made[broken] = break_row(made[broken], rng)
        yield File(f"{kind}-{number}", kind, made, broken)


class Loaded:
    """The files, and what LLaMA-Factory made of each: its aligned rows, None for one that it drops, or an error."""

    def __init__(self, folder: Path, model: Path, rows: int) -> None:
        self.folder = folder
        self.files = [file for kind in KINDS for file in make_files(kind, rows)]
        write_picture(folder / "a.png")
        entries = {}
        for file in self.files:
            form, has_media = KINDS[file.kind]
            present = {*form.columns.values(), *(["images"] if has_media else [])}
            entries[file.name] = {"file_name": f"{file.name}.jsonl", **form.describe_entry(present)}
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in file.rows)
            (folder / f"{file.name}.jsonl").write_text(lines, encoding="utf-8")
        (folder / "dataset_info.json").write_text(json.dumps(entries), encoding="utf-8")
        names = {file.name: str(KINDS[file.kind][0].kind) for file in self.files}
        self.kept: dict[str, Any] = {}
        while left := {name: kind for name, kind in names.items() if name not in self.kept}:
            self._load(model, left)

    def _load(self, model: Path, names: dict[str, str]) -> None:
        """Let LLaMA-Factory load files until one kills its process, as pyarrow does at `[[null, "y"]]` in a history."""
        out = self.folder / f"{next(iter(names))}.out"
        command = [stack_python(), "-c", LOAD, str(self.folder), str(model), str(out), json.dumps(names)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        done = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
        assert result.returncode == 0 or (result.returncode < 0 and done), result.stderr[-3000:]
        self.kept |= dict(map(json.loads, done))
        if result.returncode < 0:
            killed = next(name for name in names if name not in self.kept)
            self.kept[killed] = f"signal {-result.returncode}"

    def lint(self, file: File) -> list[Finding]:
        findings: list[Finding] = []
        lint_dataset(find_dataset(file.name, self.folder), findings.append)
        return findings


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory, qwen3_folder: Path, request: pytest.FixtureRequest) -> Loaded:
    rows = 1000 if request.config.getoption("--full") else 150
    return Loaded(tmp_path_factory.mktemp("differential"), qwen3_folder, rows)


def write_aligned(row: Row, name: str, loaded: Loaded) -> dict[str, Any]:
    """Return what LLaMA-Factory should make of a row, by our own reader of rows."""
    dataset = find_dataset(name, loaded.folder)
    conversation = align_row(row, dataset)
    messages = [{"role": str(role), "content": text} for role, text in conversation.messages]
    prompt, response = (messages, []) if dataset.kind is Kind.TEXT else (messages[:-1], messages[-1:])
    if conversation.rejected is not None:
        response.append({"role": str(conversation.rejected_role), "content": conversation.rejected})
    if dataset.kind is Kind.KTO:
        empty = {"role": "assistant", "content": ""}
        response = [*response, empty] if row[dataset.columns["kto_tag"]] else [empty, *response]
    return {
        "_prompt": prompt,
        "_response": response,
        "_system": conversation.system,
        "_tools": conversation.tools,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_sound_rows_are_kept_as_they_stand_and_lint_is_silent(kind: str, loaded: Loaded) -> None:
    for file in loaded.files:
        if file.kind == kind and file.broken is None:
            assert loaded.kept[file.name] == [write_aligned(row, file.name, loaded) for row in file.rows]
            assert loaded.lint(file) == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_llamafactory_drops_or_stops_at_is_found_by_lint(kind: str, loaded: Loaded) -> None:
    missed = []
    for file in loaded.files:
        if file.kind != kind or file.broken is None:
            continue
        kept = loaded.kept[file.name]
        findings = loaded.lint(file)
        if isinstance(kept, str):
            if not findings:
                missed.append((str(file.rows[file.broken]), kept))
            continue
        lines = {finding.where.line for finding in findings if finding.where}
        for number, (row, one) in enumerate(zip(file.rows, kept, strict=True), 1):
            if one is None:
                if not lines & {0, number}:
                    missed.append((str(row), "dropped"))
            elif not lines:
                # What passes in silence is trained just as it stands.
                assert one == write_aligned(row, file.name, loaded)
    assert missed == []


def test_there_is_something_to_find_in_every_kind(loaded: Loaded) -> None:
    for kind in KINDS:
        kept = [loaded.kept[file.name] for file in loaded.files if file.kind == kind and file.broken is not None]
        assert any(isinstance(one, str) or None in one for one in kept), kind


def test_a_row_that_cannot_be_aligned_is_never_one_that_llamafactory_keeps(loaded: Loaded) -> None:
    for file in loaded.files:
        kept = loaded.kept[file.name]
        if isinstance(kept, str):
            continue
        for row, one in zip(file.rows, kept, strict=True):
            try:
                write_aligned(row, file.name, loaded)
            except InputError:
                assert one is None or loaded.lint(file), row
