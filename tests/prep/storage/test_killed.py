"""Killed before any change of the disk, each command leaves what stood there or what it makes, and goes on when called again."""

import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from prep.storage.fingerprints import hash_file
from prep.storage.manifests import read_manifest
from prep.storage.row_index import read_index
from tests.support.forked_lfc import KILLED, NEVER, Call, Ended, fork_lfc
from tests.support.modelscope_server import Hub
from tests.support.shapes import medical_rows, tool_rows, write_jsonl

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and fork")


# More than any of these commands makes.
EVERY = 1_000


class Step(NamedTuple):
    """One command as it was called before, and as it is called now; `{}` is the folder that it works in.

    `ends` are the exit codes of a call after the one that was killed.
    """

    before: str
    after: str
    ends: tuple[int, ...] = (0,)


STEPS = {
    "convert": Step("convert {}/raw.jsonl -o {}/out.jsonl --max-rejects 1", "convert {}/raw.jsonl -o {}/out.jsonl --force --max-rejects 1 --think-policy strip"),
    "convert, and a tools file goes": Step("convert {}/tools.jsonl -o {}/out.jsonl", "convert {}/raw.jsonl -o {}/out.jsonl --force --max-rejects 1"),
    "convert, and a tools file comes": Step("convert {}/raw.jsonl -o {}/out.jsonl --max-rejects 1", "convert {}/tools.jsonl -o {}/out.jsonl --force"),
    "mix": Step("mix a={}/a.jsonl b={}/b.jsonl -o {}/out.jsonl", "mix a={}/a.jsonl b={}/b.jsonl -o {}/out.jsonl --force --seed 7"),
    "mix, and duplicates go": Step("mix a={}/a.jsonl b={}/b.jsonl --dedup exact -o {}/out.jsonl", "mix a={}/a.jsonl -o {}/out.jsonl --force"),
    "split": Step("split {}/a.jsonl --test 5 --val 5 -o {}/out", "split {}/a.jsonl --test 9 --val 5 -o {}/out --force --seed 7"),
    "split, and validation goes": Step("split {}/a.jsonl --test 5 --val 5 -o {}/out", "split {}/a.jsonl --test 9 -o {}/out --force"),
    "repair": Step("repair {}/a.jsonl -o {}/out.jsonl", "repair {}/b.jsonl -o {}/out.jsonl --force"),
    "register": Step("register {}/a.jsonl --name out --dataset-dir {}/data", "register {}/b.jsonl --name out --dataset-dir {}/data --replace"),
    "register one more": Step("register {}/a.jsonl --name out --dataset-dir {}/data", "register {}/b.jsonl --name more --dataset-dir {}/data"),
    "register the first": Step("ls --dataset-dir {}/data", "register {}/a.jsonl --name a --dataset-dir {}/out"),
    # Taken out already, it is not there to be taken out again.
    "unregister": Step("register {}/a.jsonl --name out --dataset-dir {}/data", "unregister out --dataset-dir {}/data", (0, 1)),
    "stats, and a page": Step("stats {}/a.jsonl --html {}/out.html", "stats {}/b.jsonl --html {}/out.html --force"),
    "sample": Step("ls --dataset-dir {}/data", "sample --to {}/out --force"),
}  # fmt: skip


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    with fork_lfc(tmp_path_factory.mktemp("killer")) as killer:
        yield killer


@pytest.fixture(scope="module")
def prepared(call: Call, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the steps read: rows with rejects, rows that call tools, two converted parts, a registry."""
    folder = tmp_path_factory.mktemp("prepared") / "start"
    folder.mkdir()
    rows = [{**row, "question": f"{row['question']} {number}"} for number in range(20) for row in medical_rows()]
    write_jsonl(folder / "raw.jsonl", [*rows, {"question": ""}])
    write_jsonl(folder / "tools.jsonl", tool_rows())
    (folder / "data").mkdir()
    for words in (
        "convert {}/raw.jsonl -o {}/a.jsonl --max-rejects 1",
        "convert {}/raw.jsonl -o {}/b.jsonl --max-rejects 1 --limit 30",
        "register {}/a.jsonl --name a --dataset-dir {}/data",
    ):
        run(call, words, folder)
    return folder


def run(call: Call, words: str, folder: Path, moment: int = NEVER, ends: tuple[int, ...] = (0,)) -> Ended:
    """Run one command in a folder to its end, with one of some exit codes, or until it is killed at a moment."""
    ended = call(["prep", *(word.format(folder) for word in words.split())], moment)
    assert ended.code in (*ends, *([] if moment == NEVER else [KILLED])), ended.said
    return ended


def read_outputs(folder: Path) -> dict[str, bytes]:
    """Return all that a step may have made; hidden folders are its own, and what the folder is called is left out."""
    places = [*folder.glob("out*"), *folder.glob("out/*"), *(folder / "data").glob("dataset_info.json*")]
    return {
        path.relative_to(folder).as_posix(): re.sub(rb"/(start|whole|killed)/", b"/HERE/", path.read_bytes())
        for path in places
        if path.is_file()
    }


def kill_at(
    most: int, step: Step, call: Call, start: Path, check: Callable[[Path, dict[str, bytes], bool], None]
) -> int:
    """Call a step again and again, each time killed at another change, as many as `most`; returns how many it makes.

    Shape: `check` takes the folder, all that is new, and whether that must be there by now; it is called for the
    folder that the kill left, and for what the next call makes of it.
    """
    whole, killed = start.with_name("whole"), start.with_name("killed")
    shutil.copytree(start, whole)
    changes = run(call, step.after, whole).changes
    new = read_outputs(whole)
    for moment in {round(part * (changes - 1) / (most - 1)) for part in range(most)}:
        shutil.copytree(start, killed)
        ended = run(call, step.after, killed, moment)
        check(killed, new, ended.code == 0)
        run(call, step.after, killed, ends=step.ends)
        check(killed, new, True)
        shutil.rmtree(killed)
    return changes


@pytest.mark.parametrize("name", STEPS)
def test_killed_before_any_change_each_output_is_the_old_or_the_new_one(
    name: str, call: Call, prepared: Path, tmp_path: Path, full: bool
) -> None:
    step, start = STEPS[name], tmp_path / "start"
    shutil.copytree(prepared, start)
    run(call, step.before, start)
    old = read_outputs(start)

    def check(folder: Path, new: dict[str, bytes], done: bool) -> None:
        assert_old_or_new(folder, old, new, done=done)

    assert kill_at(EVERY if full else 8, step, call, start, check) > 2


def assert_old_or_new(folder: Path, old: dict[str, bytes], new: dict[str, bytes], *, done: bool) -> None:
    seen = read_outputs(folder)
    for name in old.keys() | new.keys():
        # Paths of inputs stand in manifests: they are compared by what they say of their outputs.
        allowed = [state.get(name) for state in ([new] if done else [old, new])]
        if name.endswith(".bak"):
            # What was replaced before: of a call that was killed it may be the new registry already.
            allowed = [state.get(other) for state in (old, new) for other in (name, name.removesuffix(".bak"))]
        if name.endswith(".manifest.json"):
            assert owned(seen.get(name)) in [owned(content) for content in allowed], name
        else:
            assert seen.get(name) in allowed, name
    assert seen.keys() <= old.keys() | new.keys() | {"data/dataset_info.json.bak"}
    for path in folder.glob("out*.jsonl"):
        manifest = read_manifest(path)
        assert manifest is None or manifest.output["sha256"] == hash_file(path)
        index = read_index(path, manifest)
        if index is not None:
            starts = [0, *itertools.accumulate(size + 1 for size in index.column("size").tolist())]
            assert [*index.column("start").tolist(), path.stat().st_size] == starts


def owned(content: bytes | None) -> object:
    return None if content is None else json.loads(content)["output"]


def test_killed_before_any_change_a_downloaded_folder_is_the_old_or_the_new_one_with_the_users_files(
    hub: Hub, tmp_path: Path, full: bool
) -> None:
    old, new = {"a": b"old", "same": b"s", "sub/gone": b"g"}, {"a": b"new", "same": b"s", "b": b"b"}
    mine = {"sub/mine": b"mine"}
    step = Step("download o/set --to {}/out", "download o/set --to {}/out --force --jobs 1")
    start = tmp_path / "start"
    hub.add("o/set", old)
    with fork_lfc(tmp_path) as call:
        run(call, step.before, start)
        (start / "out/set/sub/mine").write_bytes(mine["sub/mine"])
        (start / "out/set/b").write_bytes(b"in the way")
        hub.add("o/set", new)

        def check(folder: Path, _: dict[str, bytes], done: bool) -> None:
            target = folder / "out/set"
            found = {
                path.relative_to(target).as_posix(): path.read_bytes()
                for path in target.rglob("*")
                if path.is_file() and not path.name.startswith(".lfc")
            }
            after = {**new, **mine, "b.set-aside": b"in the way"}
            assert found in ([after] if done else [{**old, **mine, "b": b"in the way"}, after])

        assert kill_at(EVERY if full else 8, step, call, start, check) > 20
