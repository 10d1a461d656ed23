"""Random recipes, sweeps, names and manifests really run, with a recorder for LLaMA-Factory.

They never write, delete or run anything outside their folder, never end in a traceback, and never end with exit code
0 when a step failed. A case is told by its number: `--full` runs 10,000, the usual suite as many as a minute allows.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from launch.cli import lfc
from prep.names import find_name_fault
from tests.support.recipe_generator import HOSTILE_NAMES, Generator
from tests.support.recorder import Recorder

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the recorder is a POSIX script")
ROOT = Path(__file__).parents[3]
PARTS = 10
# Of each part: with --full, and else, as far as the seconds reach.
RECIPES, SWEEPS, NAMES, MANIFESTS = (700, 20), (100, 2), (100, 10), (100, 10)
BUDGET_S = 1.5
SLOW_EVERY = 12


class Scratch:
    """A tree with canaries in and around the work folder; `own` are the folders in which a case may write."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / "work"
        self.recorder = Recorder(root / "bin")

    def build(self) -> None:
        """Make the tree anew."""
        for path in self.root.iterdir():
            if path.name != "bin":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name in ("victim/keep.txt", "home/.cache/keep", "work/precious/adapter.bin", "work/thesis.txt"):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(f"canary {name}", encoding="utf-8")
        evil = self.root / "evil.sh"
        evil.write_text(f"#!/bin/sh\ntouch '{self.root}/EVIL'\n", encoding="utf-8")
        evil.chmod(0o755)

    def snapshot(self, own: Path) -> dict[str, str]:
        """Return what stands everywhere but in `own` and with the recorder."""
        seen = {}
        for parent, folders, names in os.walk(self.root):
            folders[:] = [name for name in folders if Path(parent, name) not in (own, self.recorder.folder)]
            for name in [*names, *folders]:
                path = Path(parent, name)
                seen[path.relative_to(self.root).as_posix()] = describe(path)
        return seen


def describe(path: Path) -> str:
    if path.is_symlink():
        return f"-> {path.readlink()}"
    return "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scratch]:
    scratch = Scratch(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "bin"))
    monkeypatch.setenv("LFC_LLAMAFACTORY_CLI", str(scratch.recorder.program))
    monkeypatch.setenv("LFC_PLAIN_EVAL", "1")
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("launch.runs.run.POLL_S", 0.02)
    folder = Path.cwd()
    yield scratch
    os.chdir(folder)


def call(*argv: str) -> tuple[int, str]:
    """Run lfc in this process as its own main would, and return exit code and output."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            lfc.main(list(argv), prog_name="lfc")
        except SystemExit as end:
            return (end.code if isinstance(end.code, int) else 0 if end.code is None else 1), out.getvalue()
    raise AssertionError("lfc returned")


def write_yaml(path: Path, content: Any) -> None:
    try:
        text = yaml.safe_dump(content, allow_unicode=True)
        text.encode()
    except (yaml.YAMLError, UnicodeEncodeError):
        text = json.dumps(content)
    path.write_text(text, encoding="utf-8")


def plant(generator: Generator, own: Path) -> set[str]:
    """Put files of a user, and of somebody who means harm, into a recipe's folder; return the hashes that must stay."""
    planted = set()
    for name in (
        "note.md",
        "saves/keep/note.md",
        "saves/tiny-qwen3/lora/mine/note.md",
        "data/mine.jsonl",
        "configs/mine.yaml",
    ):
        if generator.chance(0.3):
            path = own / name
            with contextlib.suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"mine {generator.random.random()}", encoding="utf-8")
                planted.add(describe(path))
    if generator.chance(0.1):
        for name in ("data/a.manifest.json", "data/dataset_info.json", "steps.json"):
            if generator.chance(0.4):
                (own / name).parent.mkdir(parents=True, exist_ok=True)
                (own / name).write_text(generator.manifest(), encoding="utf-8")
    if generator.chance(0.05) and not (own / "link").is_symlink():
        (own / "link").symlink_to(own.parent.parent / "victim")
    return planted


def list_notes(own: Path) -> dict[str, str]:
    """Return what stands where `plant` puts what a command would believe."""
    names = ("data/a.manifest.json", "data/dataset_info.json", "steps.json", "link")
    return {name: describe(own / name) for name in names if os.path.lexists(own / name)}


def list_hashes(folder: Path) -> set[str]:
    return {describe(path) for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}


def run_case(seed: int, scratch: Scratch) -> None:
    """Run one random recipe, maybe twice, and hold it to what must always be so."""
    scratch.build()
    generator = Generator(seed, scratch.root)
    os.chdir(scratch.work)
    recipe, good = generator.valid()
    slow = seed % SLOW_EVERY == 0
    told = {generator.pick(["train", "predict", "python"]): generator.pick([0, 1, 3, 137])} if slow else {}
    scratch.recorder.tell(told)
    spoiled: Any = recipe
    argv = ["run", "recipe.yaml"]
    if not slow:
        if generator.chance(0.5):
            generator.mutate(recipe)
        elif generator.chance(0.3):
            spoiled = generator.junk()
        if generator.chance(0.2):
            argv += generator.overrides()
    own = scratch.work / "out"
    if isinstance(recipe.get("name"), str) and not find_name_fault(recipe["name"]) and generator.chance(0.3):
        own = scratch.work / str(recipe["name"])
    else:
        argv += ["--to", "out"]
    if own.name in ("precious", "recipe.yaml", "thesis.txt", "rows0.jsonl", "rows1.jsonl"):
        return
    write_yaml(scratch.work / "recipe.yaml", spoiled)
    # Then a good recipe may be refused: what somebody else wrote is not believed.
    disturbed = generator.chance(0.1)
    if disturbed:
        (scratch.work / "rows0.manifest.json").write_text(generator.manifest(), encoding="utf-8")
    planted: set[str] = set()
    for turn in range(2):
        before, calls = scratch.snapshot(own), len(scratch.recorder.calls())
        options = generator.options() if turn or not slow else []
        if not slow and "--only" not in options and "--from" not in options:
            # Without what takes a second each: training and evaluation.
            options += [word for step in list_quick_steps(spoiled) for word in ("--only", step)]
        code, said = call(*argv, *options)
        assert scratch.snapshot(own) == before, said
        assert planted <= list_hashes(own) or not planted, said
        assert (code == 0) == ("\nDone" in said), said
        if slow:
            judge_slow(code, said, told, good, scratch.recorder.calls()[calls:], options, disturbed=disturbed)
        if not good and code == 0 and turn == 0 and spoiled is recipe and "--only" not in options:
            raise AssertionError(said)
        if own.is_dir() and not own.is_symlink():
            before_planting = list_notes(own)
            planted = plant(generator, own)
            disturbed = disturbed or list_notes(own) != before_planting


def list_quick_steps(recipe: Any) -> list[str]:
    sources = recipe.get("sources") if isinstance(recipe, dict) else None
    labels = [label for label in sources if isinstance(label, str)] if isinstance(sources, dict) else []
    steps = [*(f"convert-{label}" for label in labels), "split", "register-train", "register-test", "config"]
    return [*steps, *(["mix"] if len(labels) > 1 else [])]


def judge_slow(
    code: int,
    said: str,
    told: dict[str, int],
    good: bool,
    calls: list[dict[str, Any]],
    options: list[str],
    *,
    disturbed: bool,
) -> None:
    """Check the code of a whole run against what the recorder was told to do, and did."""
    kinds = [call["kind"] for call in calls]
    failing = next((kind for kind in kinds if told.get(kind)), None)
    if failing:
        assert code == told[failing], said
        assert kinds[-1] == failing, said
    if good and not disturbed and not any(told.values()) and not options:
        # Nothing failed that was told to, so that all of it must have been done.
        assert code == 0, said
    if told.get("python") and code == 0:
        assert "--only" in options or "--from" in options, said
    if code == 0 and "--only" not in options and "--from" not in options:
        assert good or "is current" in said, said


def run_part(part: int, counts: tuple[int, int], run: Callable[[int], None], *, full: bool) -> None:
    """Run one part of the cases: all, or the first ones for as long as the budget lasts, at least one."""
    many, few = counts
    deadline = time.monotonic() + BUDGET_S
    before = list_checkout()
    for seed in range(part * many, part * many + (many if full else few)):
        try:
            run(seed)
        except BaseException as error:
            error.add_note(f"case {seed}")
            raise
        if not full and time.monotonic() > deadline:
            break
    assert list_checkout() == before


def list_checkout() -> set[str]:
    """Return what stands in the checkout itself, and in its folders but hidden and installed ones."""
    return {
        path.relative_to(ROOT).as_posix()
        for top in ROOT.iterdir()
        if not top.name.startswith(".")
        for path in [top, *(top.rglob("*") if top.is_dir() else ())]
        if "__pycache__" not in path.parts
    }


parts = pytest.mark.parametrize("part", range(PARTS), ids=lambda part: f"part{part}")


@parts
def test_no_recipe_reaches_out_of_its_folder_or_hides_a_failure(part: int, scratch: Scratch, full: bool) -> None:
    run_part(part, RECIPES, lambda seed: run_case(seed, scratch), full=full)


def run_sweep_case(seed: int, scratch: Scratch) -> None:
    """Run one random sweep in a project folder whose data and configs must stay as they are."""
    generator = Generator(seed, scratch.root)
    project = scratch.work / "project"
    os.chdir(project)
    write_yaml(project / "sweep.yaml", generator.sweep())
    codes = {"train": generator.pick([0, 0, 0, 3])}
    scratch.recorder.tell(codes)
    for name in ("runs", "saves"):
        shutil.rmtree(project / name, ignore_errors=True)
    before = snapshot_project(scratch, project)
    calls = len(scratch.recorder.calls())
    named = [] if generator.chance(0.6) else ["--name", generator.name()]
    code, said = call("launch", "batch", "sweep.yaml", *named, "--slots", "2", "--max-attempts", "1", "--no-check")
    assert snapshot_project(scratch, project) == before, said
    made = scratch.recorder.calls()[calls:]
    assert code or (made and not codes["train"]), said
    folders = [call["config"]["output_dir"] for call in made]
    assert len(set(folders)) == len(folders), said


def snapshot_project(scratch: Scratch, project: Path) -> dict[str, str]:
    seen = scratch.snapshot(project)
    for name in ("data", "configs"):
        seen |= {
            path.as_posix(): describe(path) for path in (project / name).rglob("*") if ".lfc" not in path.parts
        }
    seen |= {path.as_posix(): "" for path in project.iterdir() if path.name not in ("runs", "saves")}
    return seen


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder, as `lfc run` makes one, without training and evaluation."""
    root = tmp_path_factory.mktemp("project")
    rows = "".join(f'{{"question": "q{number}", "answer": "a{number}"}}\n' for number in range(20))
    (root / "rows.jsonl").write_text(rows, encoding="utf-8")
    recipe = {
        "name": "mine", "sources": {"a": {"path": "rows.jsonl"}}, "split": {"test": 2}, "model": "tiny",
        "config": {"preset": "cpu-smoke", "set": {"max_steps": 2}},
    }  # fmt: skip
    write_yaml(root / "recipe.yaml", recipe)
    steps = ["convert-a", "split", "register-train", "register-test", "model", "config"]
    with contextlib.chdir(root), pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(root / "bin")
        recorder.tell({})
        patch.setenv("LFC_LLAMAFACTORY_CLI", str(recorder.program))
        code, said = call(
            "run", "recipe.yaml", "--to", "made", *[word for step in steps for word in ("--only", step)]
        )
    assert code == 0, said
    return root / "made"


@pytest.fixture
def worksite(scratch: Scratch, project: Path) -> Scratch:
    """The scratch tree with the project in it."""
    scratch.build()
    shutil.copytree(project, scratch.work / "project")
    scratch.recorder.tell({})
    return scratch


@parts
def test_no_sweep_reaches_out_of_its_project_or_hides_a_failure(part: int, worksite: Scratch, full: bool) -> None:
    run_part(part, SWEEPS, lambda seed: run_sweep_case(seed, worksite), full=full)


def run_name_case(seed: int, scratch: Scratch) -> None:
    """Give one random name to a command that makes something of that name, in a project that must stay as it is."""
    generator = Generator(seed, scratch.root)
    project = scratch.work / "project"
    os.chdir(project)
    shutil.rmtree(project / "runs", ignore_errors=True)
    (project / "sweep.yaml").write_text("config: configs/mine.yaml\ngrid: {seed: [1, 2]}\n", encoding="utf-8")
    name = generator.pick([generator.name(), generator.pick(HOSTILE_NAMES), generator.path()])
    given = generator.pick([[f"--name={name}"], ["--name", name]])
    argv = generator.pick([
        ["launch", "train", "configs/mine.yaml", "--dry-run", "--no-check", *given],
        ["launch", "batch", "sweep.yaml", "--dry-run", "--no-check", *given],
        ["launch", "eval", "configs/mine.yaml", "--eval-dataset", "mine_test", "--dry-run", "--no-check", *given],
        ["launch", "export", "configs/mine.yaml", "--dry-run", "--no-check", *given],
        ["launch", "stop", "--", name], ["launch", "logs", "--", name], ["launch", "attach", "--", name],
        ["launch", "compare", "--", name, name], ["launch", "report", "--", name],
        ["launch", "batch", "--continue", name],
        ["prep", "register", "data/mine.jsonl", *given, "--dataset-dir", "data"],
        ["prep", "unregister", "--dataset-dir", "data", "--", name],
        ["prep", "lint", "--dataset-dir", "data", "--", name], ["prep", "stats", "--dataset-dir", "data", "--", name],
    ])  # fmt: skip
    argv = [
        word.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") if "\ud800" not in word else "x"
        for word in argv
    ]
    registry = {path: path.read_bytes() for path in (project / "data").glob("dataset_info.json*")}
    before = snapshot_project(scratch, project)
    code, said = call(*argv)
    for path, content in registry.items():
        path.write_bytes(content)
    assert snapshot_project(scratch, project) == before, said
    assert "Traceback" not in said
    assert "\x1b" not in said
    assert code in (0, 1, 2), said


@parts
def test_no_name_leads_anywhere_else(part: int, worksite: Scratch, full: bool) -> None:
    run_part(part, NAMES, lambda seed: run_name_case(seed, worksite), full=full)


def run_manifest_case(seed: int, scratch: Scratch) -> None:
    """Let commands read data beside which somebody put anything at all; neither the data nor the rest changes."""
    generator = Generator(seed, scratch.root)
    folder = scratch.work / "case"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.chdir(folder)
    generator.rows(folder / "rows.jsonl")
    call("prep", "convert", "rows.jsonl", "-o", "a.jsonl", "--max-rejects", "1")
    shutil.copy(folder / "a.jsonl", folder / "b.jsonl")
    spoiled = ["a.manifest.json", "b.manifest.json", "dataset_info.json", "a.index", ".lfc/a.jsonl.made.json"]
    for name in generator.random.sample(spoiled, 2):
        (folder / name).write_text(generator.manifest(), encoding="utf-8")
    data = {path.name: path.read_bytes() for path in folder.glob("*.jsonl")}
    before = scratch.snapshot(folder)
    for argv in generator.random.sample(
        [
            ["mix", "a=a.jsonl", "b=b.jsonl", "-o", "new.jsonl"], ["split", "a.jsonl", "--test", "2", "-o", "new"],
            ["lint", "a.jsonl"], ["stats", "a.jsonl"], ["explain", "a.jsonl:1"], ["ls", "--dataset-dir", "."],
            ["register", "a.jsonl", "--name", "x", "--dataset-dir", "."], ["repair", "a.jsonl", "-o", "new.jsonl"],
            ["lint", "mine_train", "--dataset-dir", "."], ["unregister", "mine_train", "--dataset-dir", "."],
        ],
        3,
    ):  # fmt: skip
        code, said = call("prep", *argv)
        assert scratch.snapshot(folder) == before, (argv, said)
        assert {name: (folder / name).read_bytes() for name in data} == data, (argv, said)
        assert "Traceback" not in said
        assert code in (0, 1), (argv, said)


@parts
def test_no_manifest_is_believed_against_the_data(part: int, scratch: Scratch, full: bool) -> None:
    scratch.build()
    run_part(part, MANIFESTS, lambda seed: run_manifest_case(seed, scratch), full=full)
