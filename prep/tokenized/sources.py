"""The rows of a config's datasets: whose they are, where each lies, and what vouches for them."""

from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prep.errors import InputError
from prep.registry.dataset import Dataset, find_own_index, read_entry
from prep.registry.dataset_info import FILE_NAME, read_registry, unknown_name
from prep.rows.json_rows import check_json_suffix, describe_bad_row, holds_lines_as_json, iter_json_rows
from prep.rows.kinds import MEDIA, Kind
from prep.rows.line_blocks import BOM, read_blocks
from prep.storage.fingerprints import hash_unchanged_file
from prep.storage.manifests import read_manifest
from prep.tokenized.settings import TokenSettings, UnsupportedError
from prep.wording import in_shell

if TYPE_CHECKING:
    import numpy as np

_KINDS = {"sft": Kind.SFT, "pt": Kind.TEXT}


@dataclass(frozen=True)
class TokenSource:
    """One registered dataset, and the sha256 of its files' bytes."""

    name: str
    dataset: Dataset
    sha256: tuple[str, ...]

    def describe(self) -> dict[str, Any]:
        """Return what of it decides the tokens; its name and the place of its files do not."""
        return {
            "sha256": list(self.sha256),
            "formatting": self.dataset.formatting,
            "columns": self.dataset.columns,
            "tags": self.dataset.tags if self.dataset.formatting != "alpaca" else {},
        }


@dataclass(frozen=True)
class RowPlaces:
    """Where rows lie in one file: `starts` in bytes, int64, and `sizes` without the line end, int64.

    `is_judged` when the file's own index told so: no key stands twice in a row, and each is whole.
    """

    path: Path
    starts: "np.ndarray[Any, np.dtype[np.int64]]"
    sizes: "np.ndarray[Any, np.dtype[np.int64]]"
    is_judged: bool

    def __len__(self) -> int:
        return len(self.starts)


def find_sources(settings: TokenSettings, names: tuple[str, ...]) -> list[TokenSource]:
    """Return the registered datasets of these names.

    Raises: RegistryError when one is unknown or its file is missing; UnsupportedError when its rows are of a kind
    whose tokens are not made here.
    """
    entries = read_registry(settings.dataset_dir)
    return [_find_source(settings, name, entries) for name in names]


def _find_source(settings: TokenSettings, name: str, entries: dict[str, Any]) -> TokenSource:
    if name not in entries:
        raise unknown_name(name, entries, settings.dataset_dir / FILE_NAME)
    entry = entries[name]
    odd = [key for key in ("num_samples", "subset", "folder") if isinstance(entry, dict) and entry.get(key)]
    odd += [key for key in ("split",) if isinstance(entry, dict) and entry.get(key) not in (None, "train")]
    if not isinstance(entry, dict) or "file_name" not in entry or odd:
        what = f"`{odd[0]}`" if odd else "no file"
        raise UnsupportedError(f"dataset '{name}' has {what} in dataset_info.json: LLaMA-Factory reads it itself")
    dataset = read_entry(name, entry, settings.dataset_dir)
    if dataset.kind is not _KINDS[settings.stage]:
        raise UnsupportedError(
            f"dataset '{name}' holds {dataset.kind} rows, and stage {settings.stage} takes others"
        )
    media = [column for column in MEDIA if column in dataset.columns]
    if media:
        raise UnsupportedError(f"dataset '{name}' has {media[0]}, whose tokens a processor makes")
    if dataset.formatting == "openai":
        raise UnsupportedError(f"dataset '{name}' is of formatting openai, to which LLaMA-Factory adds words")
    return TokenSource(name, dataset, tuple(map(hash_rows, dataset.paths)))


def hash_rows(path: Path) -> str:
    """Return a data file's sha256: what its manifest says, if that is of this very file."""
    manifest = read_manifest(path)
    recorded = manifest.output.get("sha256") if manifest else None
    return recorded if isinstance(recorded, str) else hash_unchanged_file(path)


def locate_rows(dataset: Dataset, spool: Path) -> list[RowPlaces]:
    """Return where the rows of a dataset lie, file by file.

    The elements of a JSON array are written to files in the folder `spool` first, one a line.
    Raises: InputError when a file cannot be read, or a JSON array holds something else than objects.
    """
    found = []
    for number, path in enumerate(dataset.paths):
        check_json_suffix(path)
        index = find_own_index(dataset, path)
        if index is not None:
            starts, sizes = (index.column(name).astype("int64") for name in ("start", "size"))
            found.append(RowPlaces(path, starts, sizes, is_judged=True))
        elif path.suffix.lower() == ".jsonl" or holds_lines_as_json(path):
            found.append(_scan_lines(path))
        else:
            found.append(_scan_lines(_spool_array(path, spool / f"{number}-{path.stem}.jsonl"), is_judged=True))
    return found


def _scan_lines(path: Path, *, is_judged: bool = False) -> RowPlaces:
    import numpy as np

    starts, sizes = array("q"), array("q")
    for block in read_blocks(path):
        data, start = block.data, block.start
        skipped = len(BOM) if start == 0 and data.startswith(BOM) else 0
        for line in data[skipped:].split(b"\n"):
            if line and not line.isspace():
                starts.append(start + skipped)
                sizes.append(len(line))
            start += len(line) + 1
    return RowPlaces(path, np.frombuffer(starts, np.int64), np.frombuffer(sizes, np.int64), is_judged)


def _spool_array(path: Path, spooled: Path) -> Path:
    import orjson

    spooled.parent.mkdir(parents=True, exist_ok=True)
    with spooled.open("wb") as stream:
        for number, row in iter_json_rows(path):
            if not isinstance(row, dict):
                raise InputError(
                    f"{path} element {number}: {describe_bad_row(row)}",
                    hint=f"lfc prep lint {in_shell(path)} tells all",
                )
            stream.write(orjson.dumps(row) + b"\n")
    return spooled
