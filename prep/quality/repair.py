"""Fixing Alpaca rows: spoiled rows in, what convert would have written out."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prep.choices import ThinkPolicy
from prep.errors import InputError, RecordError, RejectsError
from prep.progress import SILENT, Progress
from prep.registry.dataset import count_noted_rows, find_dataset
from prep.rows.indexing import RowWriter
from prep.rows.json_rows import describe_bad_row, iter_json_rows
from prep.rows.kinds import MEDIA, Kind
from prep.rows.records import AlpacaRecord, Exchange, is_text_pair, write_record
from prep.rows.thinking import EMPTY_THOUGHT, OPEN_TAG, refuse_chat_markup, repair_answer, unwrap_chat_markup
from prep.storage.manifests import Manifest, describe_input
from prep.storage.outputs import open_outputs
from prep.storage.paths import require_name

_PROGRESS_ROWS = 1000


@dataclass(frozen=True)
class RepairOptions:
    """How to repair; `policy` None takes the manifest's, or `tagged` as convert does."""

    policy: ThinkPolicy | None = None
    max_rejects: int = 0
    force: bool = False


@dataclass(frozen=True)
class RepairResult:
    """What a repair did; `unused_columns` were in the rows and are not in the output."""

    policy: ThinkPolicy
    counts: dict[str, int]
    unused_columns: list[str]
    output: Path
    rejects: Path | None


def repair_file(path: Path, output: Path, options: RepairOptions, on_rows: Progress = SILENT) -> RepairResult:
    """Write the rows of an Alpaca file as convert would have written them.

    Raises: InputError, OutputError, and RejectsError when more rows than `max_rejects` cannot be repaired
    without guessing.
    """
    import orjson

    require_name(output)
    dataset = find_dataset(str(path), path.parent)
    if dataset.formatting != "alpaca":
        raise InputError(f"{path} holds {dataset.formatting} rows; only Alpaca rows can be repaired")
    if dataset.kind is not Kind.SFT:
        raise InputError(
            f"{path} holds {dataset.kind} rows; only rows with one answer and no label can be repaired",
            hint="convert the source again",
        )
    on_rows.expect(count_noted_rows(dataset))
    run = _Repair(path, options.policy or dataset.policy or ThinkPolicy.TAGGED)
    rejects_path = output.with_name(f"{output.name}.rejects.jsonl")
    with open_outputs(output, step="lint-fix", force=options.force) as outputs:
        rejects, out = outputs.stage(rejects_path), RowWriter(outputs, output)
        for line, row in iter_json_rows(path):
            result = run.repair(line, row)
            if isinstance(result, AlpacaRecord):
                out.write(orjson.dumps(result._asdict()) + b"\n")
            else:
                rejects.write(orjson.dumps({"file": path.as_posix(), "row": line, "reason": result}) + b"\n")
            if run.counts["rows"] % _PROGRESS_ROWS == 0:
                on_rows(_PROGRESS_ROWS)
        has_rejects = run.counts["rejects"] > 0
        if run.counts["rejects"] > options.max_rejects:
            outputs.publish_one(rejects_path)
            raise run.describe_rejects(rejects_path)
        if not run.counts["records"]:
            raise InputError(f"no rows in {path}")
        outputs.publish({output: run.describe(out)}, without=() if has_rejects else (rejects_path,))
    unused = sorted(run.unused_columns)
    return RepairResult(run.policy, dict(run.counts), unused, output, rejects_path if has_rejects else None)


def repair_row(row: dict[str, Any], policy: ThinkPolicy, origin: str) -> AlpacaRecord:
    """Return a row as convert would have written it; a sound row comes back as it is.

    Raises: RecordError with the reason when that needs a guess.
    """
    question, more, system = (_read_text(row, name) for name in ("instruction", "input", "system"))
    asked = _read_prompt(question, system)
    thought, answer = repair_answer(_read_text(row, "output"))
    refuse_chat_markup(more, "input")
    if not asked.question:
        asked, more = asked._replace(question=more.strip()), ""
    asked = asked._replace(thought=thought, answer=answer, history=(*_read_history(row), *asked.history))
    return write_record(asked, policy, origin)._replace(input=more)


class _Repair:
    def __init__(self, path: Path, policy: ThinkPolicy) -> None:
        self.policy = policy
        self.counts: Counter[str] = Counter(
            dict.fromkeys(
                ("rows", "records", "repaired", "rejects", "reasoning", "chat", "with_system", "with_history"), 0
            )
        )
        self.first_reject = ""
        self.unused_columns: set[str] = set()
        self._path = path

    def repair(self, line: int, row: object) -> AlpacaRecord | str:
        self.counts["rows"] += 1
        try:
            if not isinstance(row, dict):
                raise RecordError(describe_bad_row(row))
            origin = row.get("origin")
            if not isinstance(origin, str) or not origin:
                origin = f"{self._path.stem}/{self._path.name}:{line}"
            if any(row.get(name) for name in MEDIA):
                raise RecordError("it has images, videos or audio: convert the source again")
            record = repair_row(row, self.policy, origin)
        except RecordError as error:
            self.counts["rejects"] += 1
            self.first_reject = self.first_reject or f"{self._path} line {line}: {error}"
            return str(error)
        self.unused_columns |= row.keys() - set(AlpacaRecord._fields)
        self._count(record, row)
        return record

    def describe_rejects(self, rejects_path: Path) -> RejectsError:
        """Return the error of too many rejects."""
        return RejectsError(
            f"{self.counts['rejects']} of {self.counts['rows']} rows cannot be repaired without guessing; "
            f"the first: {self.first_reject}",
            hint=f"see {rejects_path}, or leave them out with --max-rejects {self.counts['rejects']}",
        )

    def describe(self, out: RowWriter) -> Manifest:
        """Return the manifest of the repaired file."""
        return Manifest(
            step="lint-fix",
            options={},
            think_policy=self.policy.value,
            inputs=[describe_input(self._path)],
            counts=dict(self.counts),
            output=out.describe("alpaca"),
        )

    def _count(self, record: AlpacaRecord, row: dict[str, Any]) -> None:
        self.counts["records"] += 1
        self.counts["repaired"] += any(row.get(name) != value for name, value in record._asdict().items())
        self.counts["with_system"] += bool(record.system)
        self.counts["with_history"] += bool(record.history)
        thinks = record.output.startswith(OPEN_TAG) and not record.output.startswith(EMPTY_THOUGHT)
        self.counts["reasoning" if thinks else "chat"] += 1


def _read_text(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RecordError(f"column '{name}' is {type(value).__name__}, not a string")
    return value


def _read_prompt(text: str, system: str) -> Exchange:
    """Return the question, system prompt and earlier turns that an instruction holds, with its markup gone."""
    turns = unwrap_chat_markup(text)
    prompt = _unwrap_one(system, "system")
    if turns[0][0] == "system":
        inner = turns.pop(0)[1]
        if prompt and inner != prompt:
            raise RecordError("two different system prompts: one in its column, one in the instruction")
        prompt = inner
    # Some scripts end the instruction with the template's own `<|im_start|>assistant`.
    if turns and turns[-1] == ("assistant", ""):
        turns.pop()
    roles = [role or "user" for role, _ in turns]
    if not roles or roles != (["user", "assistant"] * len(roles))[: len(roles)] or roles[-1] != "user":
        raise RecordError(f"chat markup: the instruction is {' '.join(roles) or 'empty'}")
    texts = [text for _, text in turns]
    earlier = [(asked, repair_answer(said)[1]) for asked, said in zip(texts[::2], texts[1::2], strict=False)]
    return Exchange(texts[-1], "", "", prompt, tuple(earlier))


def _read_history(row: dict[str, Any]) -> list[tuple[str, str]]:
    history = row.get("history") or []
    if not isinstance(history, list) or not all(map(is_text_pair, history)):
        raise RecordError("column 'history' is not a list of [question, answer] pairs of strings")
    return [(_unwrap_one(asked, "user"), repair_answer(said)[1]) for asked, said in history]


def _unwrap_one(text: str, role: str) -> str:
    turns = unwrap_chat_markup(text)
    if len(turns) != 1 or turns[0][0] not in ("", role):
        raise RecordError(f"chat markup: {' '.join(name or 'text' for name, _ in turns)} where one {role} belongs")
    return turns[0][1]
