"""The stream: readers → shards → one JSONL file, with counts, rejects and a manifest."""

import itertools
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from prep.choices import MissingMedia, OnLong, ThinkOpen
from prep.convert.inputs import (
    InputHashes,
    InputWatch,
    OpenedInputs,
    check_texts,
    describe_input_file,
    open_inputs,
    recognise_inputs,
)
from prep.convert.media import MediaFolders
from prep.convert.objects import refuse_addresses
from prep.convert.options import ConvertOptions, ConvertResult
from prep.convert.probe import settle_plan
from prep.convert.shard import COUNTED, MANY_COLUMNS, MAX_COLUMNS, ConvertPlan, ShardResult
from prep.convert.stream import RowStream
from prep.convert.where import parse_condition
from prep.errors import InputError, RejectsError
from prep.formats import SOURCES, Source, map_columns
from prep.formats.columns import list_used
from prep.inputs.formats import read_values
from prep.inputs.reader import InputFile
from prep.process import keep_memory
from prep.progress import SILENT, Progress
from prep.rows.duplicates.copies import CONTAMINATED_SUFFIX, DUPLICATES_SUFFIX, DuplicateFilter
from prep.rows.indexing import RowWriter
from prep.rows.kinds import Kind
from prep.storage.atomic import AtomicFile
from prep.storage.fingerprints import hash_file
from prep.storage.manifests import Manifest, read_manifest
from prep.storage.outputs import OutputSet, open_outputs, refuse_inputs

if TYPE_CHECKING:
    from prep.convert.length_limit import LengthLimit
    from prep.rows.duplicates.contamination import ContaminationFilter


def convert_files(
    inputs: Sequence[Path], output: Path, options: ConvertOptions, on_rows: Progress = SILENT
) -> ConvertResult:
    """Convert source files of one shape into an Alpaca JSONL with its manifest.

    Inputs are files, folders, globs, addresses in object stores, or `-` for JSONL on stdin. `on_rows`
    is called with the number of source rows read since its last call.
    Raises: InputError, OutputError, and RejectsError when more rows than `max_rejects` cannot be used.
    """
    keep_memory()
    mapped = tuple(itertools.chain.from_iterable(options.column_map.items()))
    check_texts({"--system": (options.system,), "--where": options.where, "--map": mapped, "--drop": options.drop})
    if options.cluster is not None:
        refuse_addresses(inputs)
    with ExitStack() as stack:
        opened = open_inputs(inputs, options.reading, stack)
        files = [reader.file for reader in opened.readers]
        watch = InputWatch(files)
        for file in files:
            # A broken manifest is told of now, and not when all is converted.
            read_manifest(file.path)
        hashes = InputHashes(opened.readers, stack)
        source, columns = recognise_inputs(opened.readers, options.format, options.column_map, options.drop)
        names = _OutputNames.of(output)
        refuse_inputs(names, [*(file.path for file in files), *options.decontaminate])
        outputs = stack.enter_context(open_outputs(output, names[1:], step="convert", force=options.force))
        plan = settle_plan(_make_plan(source, output, files, options), opened.readers, columns)
        room = output.parent / ".lfc" / f"{output.name}.{os.urandom(4).hex()}.shards"
        stream = RowStream(plan, opened.readers, options, hashes, stack, room)
        run = _Run(names, outputs, options, columns)
        for index, shard in stream.read():
            run.take(index, shard)
            on_rows(shard.counts["rows"])
            on_rows.reach(stream.measure_share(index))
        described = [
            describe_input_file(file, hashes.of(index), run.rows_of[index]) for index, file in enumerate(files)
        ]
        watch.check()
        return run.finish(stream.plan, described, opened)


def _make_plan(source: Source, output: Path, files: Sequence[InputFile], options: ConvertOptions) -> ConvertPlan:
    folders = [options.media_dir] if options.media_dir else [file.path.parent for file in files] + [output.parent]
    return ConvertPlan(
        source=source.name,
        column_map=dict(options.column_map),
        policy=options.policy,
        turns=options.turns,
        prefix=output.stem,
        dropped=frozenset(options.drop),
        label_is=options.label_is,
        media=options.media,
        media_folders=MediaFolders(tuple(folders), output.parent, options.missing_media == MissingMedia.KEEP),
        system=options.system,
        where=tuple(parse_condition(text) for text in options.where),
        length_limit=_make_length_limit(options),
        fixes=options.fix_turns,
        roles=tuple(options.roles.items()),
        may_lack_open=options.may_lack_open,
    )


def _make_length_limit(options: ConvertOptions) -> "LengthLimit | None":
    if options.max_tokens is None:
        return None
    from prep.convert.length_limit import LengthLimit, LengthMeter

    limit = LengthLimit.of(options.max_tokens, options.on_long, options.model, options.template)
    # A tokenizer that cannot be used is told of here, before other processes fail on it.
    LengthMeter(limit, options.policy)
    return limit


class _OutputNames(NamedTuple):
    main: Path
    tools: Path
    rejects: Path
    duplicates: Path
    too_long: Path
    contaminated: Path

    @classmethod
    def of(cls, main: Path) -> Self:
        return cls(
            main,
            main.with_name(f"{main.stem}_tools.jsonl"),
            main.with_name(f"{main.name}.rejects.jsonl"),
            main.with_name(f"{main.name}{DUPLICATES_SUFFIX}"),
            main.with_name(f"{main.name}.too-long.jsonl"),
            main.with_name(f"{main.name}{CONTAMINATED_SUFFIX}"),
        )


class _Run:
    """What is written while shards come in, and what is made of it at the end."""

    def __init__(self, names: _OutputNames, outputs: OutputSet, options: ConvertOptions, columns: set[str]) -> None:
        self.rows_of: Counter[int] = Counter()
        self._names = names
        self._outputs = outputs
        self._options = options
        self._columns = set(columns)
        self._counts: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
        if options.max_tokens is not None and options.on_long != OnLong.REJECT:
            self._counts["too_long"] = 0
        self._first_reject = self._first_hint = ""
        self._filters: dict[str, tuple[Path, DuplicateFilter | ContaminationFilter]] = {}
        if options.decontaminate:
            from prep.rows.duplicates import contamination

            self._counts["contaminated"] = 0
            found = contamination.ContaminationFilter(options.decontaminate, read_values)
            self._filters["contaminated"] = names.contaminated, found
        if options.dedup:
            self._filters["duplicates"] = names.duplicates, DuplicateFilter(options.dedup)
        self._rows = {path: RowWriter(outputs, path) for path in (names.main, names.tools)}
        self._files: dict[Path, AtomicFile] = {path: writer.file for path, writer in self._rows.items()}
        self._files |= {path: outputs.stage(path) for path in names[2:]}

    def take(self, index: int, shard: ShardResult) -> None:
        """Write one shard; they come in the order of the output."""
        self._counts.update(shard.counts)
        self._columns |= shard.columns
        if len(self._columns) > MAX_COLUMNS:
            raise InputError(f"the input cannot be converted: {MANY_COLUMNS}")
        self._first_reject = self._first_reject or shard.first_reject
        self._first_hint = self._first_hint or shard.first_hint
        self.rows_of[index] += shard.counts["rows"]
        self._write(self._names.main, shard.records)
        self._write(self._names.tools, shard.tool_records)
        self._files[self._names.rejects].write(shard.rejects)
        self._files[self._names.too_long].write(shard.too_long)

    def finish(self, plan: ConvertPlan, inputs: list[dict[str, Any]], opened: OpenedInputs) -> ConvertResult:
        """Publish the outputs that hold something; raises RejectsError or InputError without them."""
        counts, names = self._counts, self._names
        if counts["rejects"] > self._options.max_rejects:
            self._outputs.publish_one(names.rejects)
            raise RejectsError(
                f"{counts['rejects']:,} of {counts['rows']:,} rows cannot be used; the first: {self._first_reject}",
                hint=self._first_hint
                or f"see {names.rejects}, or allow them with --max-rejects {counts['rejects']}",
            )
        empty = [path for path, file in self._files.items() if not file.bytes_written]
        if names.main in empty and names.tools in empty:
            raise InputError(self._explain_no_rows(inputs))
        made = {path: self._describe(path, plan, inputs) for path in (names.main, names.tools) if path not in empty}
        self._outputs.publish(made, without=empty)
        used = list_used(map_columns(SOURCES[plan.source], self._columns, plan.column_map), self._columns)
        kept = {path: None if path in empty else path for path in self._files}
        return ConvertResult(
            format=plan.source,
            kind=plan.kind,
            counts=dict(counts),
            unused_columns=sorted(self._columns - used),
            output=kept[names.main],
            rejects=kept[names.rejects],
            tools_output=kept[names.tools],
            duplicates=kept[names.duplicates],
            too_long=kept[names.too_long],
            contaminated=kept[names.contaminated],
            left_out=opened.left_out,
            notes=opened.notes,
        )

    def _write(self, path: Path, lines: bytes | bytearray) -> None:
        described = None
        for name, (gone_path, row_filter) in self._filters.items() if lines else ():
            lines, described, gone, lost = row_filter.filter_lines(lines)
            self._counts[name] += gone.count(b"\n")
            self._counts.subtract(lost)
            self._files[gone_path].write(gone)
        if lines:
            self._rows[path].write(lines, described)

    def _explain_no_rows(self, inputs: list[dict[str, Any]]) -> str:
        names = ", ".join(entry["path"] for entry in inputs)
        counts = self._counts
        if not counts["rows"]:
            return f"no rows in {names}"
        gone = [f"{counts['filtered']:,} filtered", f"{counts['rejects']:,} rejected"]
        gone += [f"{counts[name]:,} {name}" for name in self._filters if counts[name]]
        if counts["too_long"]:
            gone.append(f"{counts['too_long']:,} too long for --max-tokens {self._options.max_tokens:,}")
        return f"no rows to write from {names}: {', '.join(gone)}"

    def _count_tool_records(self) -> dict[str, int]:
        counts = self._counts
        return {"records": counts["tool_records"], "with_history": counts["tool_records_with_history"]}

    def _describe(self, path: Path, plan: ConvertPlan, inputs: list[dict[str, Any]]) -> Manifest:
        options: dict[str, Any] = {"format": plan.source, "turns": plan.turns, "column_map": plan.column_map}
        if plan.kind is not Kind.SFT:
            options["kind"] = plan.kind.value
        if plan.media:
            options["media"] = list(plan.media)
        for name in ("fix_turns", "roles", "system", "drop", "where", "limit", "sample", "dedup"):
            if value := getattr(self._options, name):
                options[name] = value
        if self._options.may_lack_open:
            options["think_open"] = ThinkOpen.MISSING.value
        options |= self._options.reading.describe()
        if self._options.decontaminate:
            options["decontaminate"] = [
                {"path": path.as_posix(), "sha256": hash_file(path)} for path in self._options.decontaminate
            ]
        if plan.label_is is not None:
            options["label_is"] = plan.label_is
        if self._options.sample is not None:
            options["seed"] = self._options.seed
        if limit := plan.length_limit:
            options |= {"max_tokens": limit.max_tokens, "on_long": limit.on_long}
            options |= {"tokenizer": limit.tokenizer, "tokenizer_sha256": limit.sha256, "template": limit.template}
        return Manifest(
            step="convert",
            options=options,
            think_policy=plan.policy.value,
            inputs=inputs,
            counts=dict(self._counts) if path == self._names.main else self._count_tool_records(),
            output=self._rows[path].describe("sharegpt" if path == self._names.tools else "alpaca"),
        )
