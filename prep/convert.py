"""The stream: readers → sources → records → one JSONL file, with counts and rejects."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prep.errors import InputError, RecordError, RejectsError
from prep.files import Manifest, describe_input, open_atomic, refuse_existing, write_manifest
from prep.readers import BadRow, SourceRow, read_rows
from prep.records import AlpacaRecord, write_record
from prep.sources import SOURCES, Source, recognise_source
from prep.thinking import EMPTY_THOUGHT, OPEN_TAG, ThinkPolicy

Progress = Callable[[int], None]


@dataclass(frozen=True)
class ConvertOptions:
    """How to convert; `format` None recognises the shape, `column_map` is {our name: the file's name}."""

    format: str | None = None
    policy: ThinkPolicy = ThinkPolicy.TAGGED
    column_map: dict[str, str] = field(default_factory=dict)
    max_rejects: int = 0
    force: bool = False


@dataclass(frozen=True)
class ConvertResult:
    """What a conversion did; `unused_columns` were in the input and are not in the output."""

    format: str
    counts: dict[str, int]
    unused_columns: list[str]
    output: Path
    rejects: Path | None


def convert_files(
    inputs: Sequence[Path], output: Path, options: ConvertOptions, on_rows: Progress = lambda _: None
) -> ConvertResult:
    """Convert source files of one shape into an Alpaca JSONL with its manifest.

    `on_rows` is called with the number of source rows read since its last call.
    Raises: InputError, OutputError, and RejectsError when more rows than `max_rejects` cannot be used.
    """
    import orjson

    refuse_existing(output, force=options.force)
    run = _Conversion(output.stem, options)
    rejects_path = output.with_name(f"{output.name}.rejects.jsonl")
    with open_atomic(rejects_path) as rejects, open_atomic(output) as out:
        for path in inputs:
            for number, result in run.convert_file(path, on_rows):
                if isinstance(result, AlpacaRecord):
                    out.write(orjson.dumps(result._asdict()) + b"\n")
                else:
                    entry = {"file": path.as_posix(), "row": number, "reason": result}
                    rejects.write(orjson.dumps(entry) + b"\n")
        if run.counts["rejects"] > options.max_rejects:
            rejects.publish()
            raise RejectsError(
                f"{run.counts['rejects']} of {run.counts['rows']} rows cannot be used; "
                f"the first: {run.first_reject}",
                hint=f"see {rejects_path}, or allow them with --max-rejects {run.counts['rejects']}",
            )
        if not run.counts["records"]:
            raise InputError(f"no rows in {', '.join(str(path) for path in inputs)}")
    if not run.counts["rejects"]:
        rejects_path.unlink()
    write_manifest(
        output,
        Manifest(
            step="convert",
            options={"format": run.source_name, "column_map": options.column_map},
            think_policy=options.policy.value,
            inputs=[describe_input(path) for path in inputs],
            counts=dict(run.counts),
            output={"path": output.name, "bytes": out.bytes_written, "sha256": out.sha256},
        ),
    )
    return ConvertResult(
        format=run.source_name,
        counts=dict(run.counts),
        unused_columns=sorted(run.unused_columns),
        output=output,
        rejects=rejects_path if run.counts["rejects"] else None,
    )


class _Conversion:
    def __init__(self, source_label: str, options: ConvertOptions) -> None:
        self.options = options
        self.counts: Counter[str] = Counter(
            dict.fromkeys(("rows", "records", "rejects", "reasoning", "chat", "with_system", "with_history"), 0)
        )
        self.first_reject = ""
        self.unused_columns: set[str] = set()
        self.source_name = options.format or ""
        self._label = source_label

    def convert_file(self, path: Path, on_rows: Progress) -> Iterator[tuple[int, AlpacaRecord | str]]:
        source: Source | None = SOURCES.get(self.source_name)
        for row in read_rows(path):
            self.counts["rows"] += 1
            on_rows(1)
            try:
                if isinstance(row, BadRow):
                    raise RecordError(row.reason)
                source = source or self._recognise(path, row)
                yield from ((row.number, record) for record in self._write_records(source, path, row))
            except RecordError as error:
                self.counts["rejects"] += 1
                self.first_reject = self.first_reject or f"{path} row {row.number}: {error}"
                yield row.number, str(error)

    def _recognise(self, path: Path, row: SourceRow) -> Source:
        mapped = set(row.values) | set(self.options.column_map)
        try:
            source = recognise_source(mapped)
        except InputError as error:
            raise InputError(f"{path} row {row.number}: {error}", hint=error.hint) from error
        self.source_name = source.name
        return source

    def _write_records(self, source: Source, path: Path, row: SourceRow) -> list[AlpacaRecord]:
        values = self._map_columns(source, path, row)
        exchanges = list(source.read_exchanges(values))
        origin = f"{self._label}/{path.name}:{row.number}"
        records = []
        for turn, exchange in enumerate(exchanges, 1):
            suffix = f"#{turn}" if len(exchanges) > 1 else ""
            records.append(write_record(exchange, self.options.policy, origin + suffix))
        for record in records:
            self._count(record)
        return records

    def _map_columns(self, source: Source, path: Path, row: SourceRow) -> dict[str, Any]:
        values = {}
        for name in source.columns:
            column = self.options.column_map.get(name, name)
            if column not in row.values:
                columns = ", ".join(f"'{known}'" for known in row.values)
                raise InputError(
                    f"{path} row {row.number}: column '{column}' not found; columns are {columns}",
                    hint=f"--map {name}=YOUR_COLUMN",
                )
            values[name] = row.values[column]
        used = {self.options.column_map.get(name, name) for name in source.columns}
        self.unused_columns |= set(row.values) - used
        return values

    def _count(self, record: AlpacaRecord) -> None:
        self.counts["records"] += 1
        self.counts["with_system"] += bool(record.system)
        self.counts["with_history"] += bool(record.history)
        thinks = record.output.startswith(OPEN_TAG) and not record.output.startswith(EMPTY_THOUGHT)
        self.counts["reasoning" if thinks else "chat"] += 1
