"""Where a row of a made file came from, and what was done to it on the way."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prep.errors import InputError
from prep.inputs.formats import read_rows
from prep.inputs.reader import ReadOptions, SourceRow, describe_place
from prep.rows.origins import Origin, explain_broken_way
from prep.rows.records import has_thought
from prep.rows.row_file import RowFile
from prep.rows.thinking import EMPTY_THOUGHT, OPEN_TAG
from prep.storage.manifests import LineageStep, Manifest, read_manifest
from prep.storage.os_errors import describe_os_error
from prep.wording import count_of


@dataclass(frozen=True)
class Explanation:
    """A row's way: `steps` from its source file to it; `source_row` None when that cannot be read any more.

    `source_path` is as the conversion was given it, "" when no manifest says it; `state` says whether the
    source file is there, and of the size it had.
    """

    record: dict[str, Any]
    origin: Origin | None
    steps: list[str]
    source_path: str = ""
    state: str = ""
    source_row: dict[str, Any] | None = None


def explain_row(path: Path, row: int) -> Explanation:
    """Tell where a row (counted from 1) of a converted, mixed or split file came from.

    Raises: InputError when there is no such row.
    """
    with RowFile(path) as file:
        if not 1 <= row <= len(file):
            raise InputError(f"{path} has {count_of(len(file), 'row')}; there is no row {row}")
        found = file.read_row(row - 1)
    origin = Origin.parse(found.origin)
    manifest = read_manifest(path)
    with explain_broken_way(path):
        way = _find_way(manifest, origin) if manifest and origin else ()
        steps = [*map(_describe_step, way), _describe_output(found.answer)]
        if origin is None or not way:
            return Explanation(found.values, origin, steps, state="no manifest tells its way")
        entry = next(entry for entry in way[0].manifest.read_inputs() if entry.label == origin.file)
    options = ReadOptions.of(way[0].manifest.options)
    state, source_row = _look_at_source(Path(entry.path), entry.bytes, origin.row, options)
    return Explanation(found.values, origin, steps, entry.path, state, source_row)


def _find_way(manifest: Manifest, origin: Origin) -> tuple[LineageStep, ...]:
    """Return the steps from the conversion that gave a row its origin to this file, none if it is not there."""
    for way in manifest.lineage():
        name = origin.source
        for step in reversed(way[1:]):
            renamed = step.manifest.options.get("renamed_sources", {}).get(step.part, {})
            name = next((old for old, new in renamed.items() if new == name), name)
        if _made_origin(way[0].manifest, origin._replace(source=name)):
            return way
    return ()


def _made_origin(conversion: Manifest, origin: Origin) -> bool:
    stem = Path(conversion.output["path"]).stem
    labels = [entry.label for entry in conversion.read_inputs()]
    return stem in (origin.source, f"{origin.source}_tools") and origin.file in labels


def _look_at_source(path: Path, size: int, row: int, options: ReadOptions) -> tuple[str, dict[str, Any] | None]:
    try:
        if not path.is_file():
            return "the file is not there any more", None
        if path.stat().st_size != size:
            return "the file was changed since", None
        rows = (candidate for candidate in read_rows(path, options) if candidate.number == row)
        found = next(rows, None)
        if found is None:
            return "as it was", None
        values = _as_json(found.values) if isinstance(found, SourceRow) else None
        return f"as it was{describe_place(found.place)}", values
    except InputError as error:
        return str(error), None
    except OSError as error:
        return f"the file cannot be looked at: {describe_os_error(error)}", None


def _as_json(row: dict[str, Any]) -> dict[str, Any]:
    """Return a source row as JSON can hold it: parquet has dates and bytes too."""
    import orjson

    return dict(orjson.loads(orjson.dumps(row, default=str, option=orjson.OPT_NON_STR_KEYS)))


def _describe_step(step: LineageStep) -> str:
    manifest = step.manifest
    options = {
        name: value
        for name, value in manifest.options.items()
        if value not in (None, {}, [], "", False) and name != "renamed_sources"
    }
    if step.part:
        options = {"part": step.part, **options}
    if manifest.step == "convert":
        options["think_policy"] = manifest.think_policy
    listed = ", ".join(f"{name.replace('_', ' ')} {_write_value(value)}" for name, value in options.items())
    return f"{manifest.step} → {manifest.output['path']}" + (f": {listed}" if listed else "")


def _write_value(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={part}" for name, part in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _describe_output(output: str) -> str:
    if has_thought(output):
        thought = output.removeprefix(OPEN_TAG).partition("</think>")[0].strip()
        return f"output: a thought of {len(thought):,} characters, then the answer"
    return "output: an empty thought, then the answer" if output.startswith(EMPTY_THOUGHT) else "output: the answer"
