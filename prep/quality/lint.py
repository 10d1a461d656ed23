"""A registered or bare file of rows against schema, think grammar and chat markup, in one pass and flat memory."""

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from prep.choices import ThinkPolicy
from prep.errors import InputError, RecordError
from prep.progress import SILENT, Progress
from prep.quality.column_types import ColumnTypes
from prep.quality.findings import Finding, LintRule, LintSummary, OnFinding, Where
from prep.quality.lint_fixes import BY_HAND, BY_REPAIR, FIXES, ONE_TYPE
from prep.quality.lint_kinds import (
    LostMedia,
    Repeats,
    answer_column,
    describe_broken_line,
    find_missing_columns,
    find_switch_fault,
    has_thought_on_one_side,
    is_plainly_sound,
    list_conversation_faults,
    list_label_faults,
    list_media_faults,
    list_pair_faults,
    list_text_faults,
    read_answer,
)
from prep.quality.question_book import QuestionBook
from prep.quality.repair import repair_row
from prep.quality.sound_lines import EMPTY, OTHER, SOUND_KEYS, UNTAGGED, SoundLines
from prep.registry.dataset import Dataset, align_row, count_noted_rows, find_own_index
from prep.rows.conversation import Message
from prep.rows.json_rows import check_json_suffix, holds_lines_as_json, iter_json_rows
from prep.rows.kinds import MEDIA, Kind
from prep.rows.line_blocks import BLOCK_BYTES, BOM, read_byte_blocks
from prep.rows.records import is_text_pair
from prep.rows.repeated_keys import find_repeated_key
from prep.rows.thinking import (
    CLOSE_TAG,
    EMPTY_THOUGHT,
    OPEN_TAG,
    find_chat_markup,
    find_output_fault,
    may_hold_markup,
)
from prep.storage.changed_inputs import find_changed_inputs
from prep.storage.os_errors import explain_read_error
from prep.tokens.turns import TemplateOptions, plan_turns

_PROGRESS_ROWS = 1000
_OTHER_ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def lint_dataset(
    dataset: Dataset,
    on_finding: OnFinding,
    *,
    ignore: Collection[str] = (),
    on_rows: Progress = SILENT,
) -> LintSummary:
    """Check every row of a dataset; `on_finding` gets each fault whose kind is not in `ignore`, in file order.

    Duplicates and what only the whole file shows come at the end of each file.
    Raises: InputError when a file cannot be read at all.
    """
    rows, counts = 0, Counter[str]()

    def report(finding: Finding) -> None:
        if finding.rule not in ignore:
            counts[finding.rule] += 1
            on_finding(finding)

    on_rows.expect(count_noted_rows(dataset))
    for path in dataset.paths:
        linter = _FileLinter(path, dataset, report, on_rows, looks_for_duplicates=LintRule.DUPLICATE not in ignore)
        linter.run()
        rows += linter.rows
        for changed in find_changed_inputs(path):
            message = f"{changed.made} was made from {changed.path}, which has changed since"
            report(Finding(LintRule.INPUT_CHANGED, message, changed.command, where=Where(path.as_posix())))
    return LintSummary(rows, dict(sorted(counts.items())))


class _FileLinter:
    """Checks one file; holds 12 bytes a row, for duplicates."""

    def __init__(
        self,
        path: Path,
        dataset: Dataset,
        report: OnFinding,
        on_rows: Progress,
        *,
        looks_for_duplicates: bool,
    ) -> None:
        self.rows = 0
        self._path, self._dataset, self._report, self._on_rows = path, dataset, report, on_rows
        # One question may have many pairs, and a good and a bad answer.
        self._compares_answers = dataset.kind in (Kind.PREFERENCE, Kind.KTO)
        index = find_own_index(dataset, path)
        # A row that is just as convert wrote it names no key twice.
        self._may_repeat_keys = index is None
        self._book = QuestionBook() if index is None or self._compares_answers else QuestionBook.of(index)
        self._questions = self._book if looks_for_duplicates and not self._book.is_whole else None
        # Where the index knows the questions, a line in which nothing is to be found has nothing to add.
        self._sound = SoundLines(dataset, can_tell=self._book.is_whole)
        self._looks_for_duplicates = looks_for_duplicates
        self._check_row = self._check_alpaca if dataset.formatting == "alpaca" else self._check_sharegpt
        columns, answer = dataset.columns, answer_column(dataset)
        self._names = tuple(columns.get(name, "") for name in ("prompt", "query", answer, "system", "history"))
        self._labels = Counter[bool]()
        self._lost_media = LostMedia(dataset)
        # Rows that are just as convert wrote them have one type a column.
        self._types = ColumnTypes() if index is None else None
        self._last_told = -1
        self._keys: Collection[str] = ()
        self._untagged, self._empty_thoughts = Repeats(), Repeats()

    def run(self) -> None:
        check_json_suffix(self._path)
        is_misnamed = holds_lines_as_json(self._path)
        if is_misnamed:
            self._add(0, LintRule.FILE_NAME, "one object a line, in a file named .json")
        if is_misnamed or self._path.suffix.lower() == ".jsonl":
            is_readable = self._run_lines()
        else:
            is_readable = self._run_array()
        if is_readable and not self.rows:
            self._add(0, LintRule.NO_ROWS, "the file has no rows")
        self._report_mixed_policy()
        for line, fault in self._lost_media.list_faults():
            self._add(line, *fault)
        if len(self._labels) == 1:
            self._add(0, LintRule.LABEL, f"every label is {str(next(iter(self._labels))).lower()}: KTO needs both")
        for line, first_line in self._book.find_duplicates() if self._looks_for_duplicates else ():
            self._add(line, LintRule.DUPLICATE, f"asks what line {first_line} asks")
        self._on_rows(self.rows % _PROGRESS_ROWS)

    def _run_lines(self) -> bool:
        crlf, blank = Repeats(), Repeats()
        with explain_read_error(self._path), self._path.open("rb") as stream:
            encoding = _OTHER_ENCODINGS.get(stream.read(2))
        if encoding:
            self._add(1, LintRule.ENCODING, f"the file is {encoding}, not UTF-8")
            return False
        first = 1
        for data in read_byte_blocks(self._path, BLOCK_BYTES):
            told = self._sound.sort(data) if self._keys == SOUND_KEYS else b""
            if told and OTHER not in told:
                self._take_sound(first, told)
                first += len(told)
                continue
            lines = data.split(b"\n")
            if not lines[-1]:
                lines.pop()
            for number, raw in enumerate(lines, first):
                if sound := told[number - first : number - first + 1].strip(OTHER):
                    self._take_sound(number, sound)
                    continue
                line = raw
                if number == 1 and raw.startswith(BOM):
                    self._add(1, LintRule.BOM, "the file begins with a byte order mark")
                    line = raw[len(BOM) :]
                if line.endswith(b"\r"):
                    crlf.add(number)
                if not line or line.isspace():
                    blank.add(number)
                else:
                    self._take_line(number, line)
            first += len(lines)
        if crlf.count:
            self._add(crlf.first, LintRule.CRLF, f"the line ends in \\r\\n, one of {crlf.count:,} such lines")
        if blank.count:
            self._add(blank.first, LintRule.BLANK_LINE, f"the line is blank, one of {blank.count:,} such lines")
        return True

    def _take_sound(self, number: int, told: bytes) -> None:
        """Take lines from one on in which nothing is to be found."""
        before, self.rows = self.rows, self.rows + len(told)
        if steps := self.rows // _PROGRESS_ROWS - before // _PROGRESS_ROWS:
            self._on_rows(steps * _PROGRESS_ROWS)
        self._untagged.extend(number, told, UNTAGGED)
        self._empty_thoughts.extend(number, told, EMPTY)

    def _take_line(self, number: int, line: bytes) -> None:
        import orjson

        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            self.rows += 1
            self._add(number, *describe_broken_line(line, error))
            return
        repeated = find_repeated_key(line, row) if self._may_repeat_keys else None
        if repeated is not None:
            self._add(number, LintRule.REPEATED_KEY, f"names '{repeated}' twice: pyarrow stops the training")
        self._take(number, row)

    def _run_array(self) -> bool:
        try:
            for number, row in iter_json_rows(self._path):
                if isinstance(row, RecordError):
                    self.rows += 1
                    self._add(number, LintRule.REPEATED_KEY, str(row))
                else:
                    self._take(number, row)
        except InputError as error:
            self._add(0, LintRule.JSON, str(error).removeprefix(f"{self._path} "))
            return False
        return True

    def _take(self, number: int, row: Any) -> None:
        self.rows += 1
        if self.rows % _PROGRESS_ROWS == 0:
            self._on_rows(_PROGRESS_ROWS)
        if type(row) is not dict:
            self._add(number, LintRule.NOT_OBJECT, f"a JSON {type(row).__name__}, not an object")
        elif self._has_right_columns(number, row):
            if self._dataset.kind is Kind.TEXT:
                self._check_text(number, row)
            else:
                self._check_row(number, row)
                self._check_kind(number, row)
        if self._types is not None and type(row) is dict:
            self._check_types(number, row, self._types)

    def _check_types(self, number: int, row: dict[str, Any], types: ColumnTypes) -> None:
        """Report a column of another type than before, unless this row has been told of already."""
        changes = list(types.learn(number, row))
        if changes and self._last_told != number:
            change = changes[0]
            seen = f"column '{change.column}' is {change.now}, and in line {change.first} {change.before}"
            self._add(number, LintRule.TYPE, f"{seen}: pyarrow stops the training", fix=ONE_TYPE)

    def _has_right_columns(self, number: int, row: dict[str, Any]) -> bool:
        if row.keys() == self._keys:
            return True
        if not self._keys:
            missing = find_missing_columns(row, self._dataset)
            if missing:
                seen = ", ".join(f"'{name}'" for name in row) or "none"
                self._add(
                    number,
                    LintRule.COLUMNS,
                    f"column '{missing[0]}' not found; columns are {seen}",
                    fix="lfc prep convert turns other shapes into training rows",
                )
                return False
            self._keys = row.keys()
            return True
        missing = sorted(self._keys - row.keys())
        extra = sorted(row.keys() - self._keys)
        parts = [f"without {', '.join(missing)}"] * bool(missing) + [f"with also {', '.join(extra)}"] * bool(extra)
        self._add(number, LintRule.COLUMNS, f"not the columns of the first row: {' and '.join(parts)}")
        return not find_missing_columns(row, self._dataset)

    def _check_text(self, number: int, row: dict[str, Any]) -> None:
        for rule, message in list_text_faults(row, self._dataset):
            self._add(number, rule, message, fix=BY_HAND if rule is LintRule.MARKUP else None)
        text = row.get(self._names[0])
        if self._questions and isinstance(text, str) and text.strip():
            self._questions.add(number, text, ())

    def _check_kind(self, number: int, row: dict[str, Any]) -> None:
        """Check what the row has beside its question and its answer."""
        dataset = self._dataset
        faults = [*list_media_faults(row, dataset, self._path.parent)]
        self._lost_media.look(number, row)
        if dataset.kind is Kind.PREFERENCE:
            faults += list_pair_faults(row, dataset)
            if rejected := read_answer(row, dataset, "rejected"):
                self._check_output(number, row, rejected)
        elif dataset.kind is Kind.KTO:
            faults += list_label_faults(row, dataset)
            label = row.get(dataset.columns["kto_tag"])
            self._labels.update([label] if isinstance(label, bool) else [])
        for rule, message in faults:
            self._add(number, rule, message, fix=BY_HAND if rule is LintRule.MARKUP else None)

    def _check_alpaca(self, number: int, row: dict[str, Any]) -> None:
        prompt, query, response, system, history = (row.get(name, "") for name in self._names)
        if not (type(prompt) is type(query) is type(response) is type(system) is str):
            self._report_wrong_types(number, row)
            return
        if self._dataset.policy and type(row.get("origin", "")) is not str:
            self._add(number, LintRule.TYPE, "column 'origin' is not a string")
        # The record schema asks for an instruction; LLaMA-Factory itself also takes an input alone.
        is_asked = bool(prompt.strip() or (query.strip() and not self._dataset.policy))
        if not is_asked:
            self._add(number, LintRule.EMPTY, "the question is empty")
        self._check_output(number, row, response)
        self._check_switch(number, f"{prompt}\n{query}", response)
        for name, text in (("instruction", prompt), ("input", query), ("output", response), ("system", system)):
            if "<|" in text and (found := find_chat_markup(text)):
                self._add_repairable(number, row, LintRule.MARKUP, f"chat markup {found} stands inside the {name}")
        if (history or self._names[4] in row) and not self._check_history(number, row, history):
            return
        if is_asked and self._questions:
            context = (system, history, *(row[name] for name in ("tools", *MEDIA) if row.get(name)))
            if self._compares_answers:
                context += (response, read_answer(row, self._dataset, "rejected"))
            self._questions.add(number, f"{prompt}\n{query}" if query else prompt, context)

    def _check_sharegpt(self, number: int, row: dict[str, Any]) -> None:
        try:
            conversation = align_row(row, self._dataset)
            plan_turns(conversation, TemplateOptions())
        except InputError as error:
            self._add(number, LintRule.TURNS, str(error))
            return
        messages = conversation.messages
        for fault in list_conversation_faults(row, self._dataset, conversation):
            self._add(number, *fault)
        for place, (role, text) in enumerate(messages, 1):
            if not text.strip():
                self._add(number, LintRule.EMPTY, f"turn {place} is empty")
            if "<|" in text and (found := find_chat_markup(text)):
                self._add(number, LintRule.MARKUP, f"chat markup {found} stands inside turn {place}", fix=BY_HAND)
            if role == Message.ASSISTANT and place < len(messages) and (OPEN_TAG in text or CLOSE_TAG in text):
                self._add(number, LintRule.HISTORY_THOUGHT, f"a think tag stands in turn {place}, before the last")
        if messages[-1][0] == Message.ASSISTANT:
            self._check_output(number, row, messages[-1][1])
            self._check_switch(number, messages[-2][1] if len(messages) > 1 else "", messages[-1][1])

    def _check_history(self, number: int, row: dict[str, Any], history: object) -> bool:
        if history is None:
            self._add(number, LintRule.TYPE, "column 'history' is null")
            return False
        if not isinstance(history, list) or not all(map(is_text_pair, history)):
            self._add(number, LintRule.HISTORY, "history is not a list of [question, answer] pairs of strings")
            return False
        for question, answer in history:
            if not question.strip() or not answer.strip():
                self._add(number, LintRule.EMPTY, "an earlier turn is empty")
            if OPEN_TAG in answer or CLOSE_TAG in answer:
                self._add(number, LintRule.HISTORY_THOUGHT, "a think tag stands in the history")
            if found := find_chat_markup(question) or find_chat_markup(answer):
                self._add_repairable(number, row, LintRule.MARKUP, f"chat markup {found} stands inside the history")
        return True

    def _check_switch(self, number: int, question: str, answer: str) -> None:
        if fault := find_switch_fault(question, answer):
            self._add(number, LintRule.SWITCH, fault)

    def _check_output(self, number: int, row: dict[str, Any], output: str) -> None:
        if OPEN_TAG not in output and CLOSE_TAG not in output:
            self._untagged.add(number)
            if not output or output.isspace():
                self._add(number, LintRule.EMPTY, "the output is empty")
            elif may_hold_markup(output) and (fault := find_output_fault(output)):
                self._add_repairable(number, row, LintRule.THINK, fault)
            elif self._dataset.policy is ThinkPolicy.TAGGED:
                self._add(number, LintRule.THINK_POLICY, "no think block, in a file made with think policy tagged")
            return
        fault = None if is_plainly_sound(output) else find_output_fault(output)
        if fault:
            self._add_repairable(number, row, LintRule.THINK, fault)
            return
        if not output.rpartition(CLOSE_TAG)[2].strip():
            self._add(number, LintRule.EMPTY, "nothing stands after the thought")
        is_empty = output.startswith(EMPTY_THOUGHT)
        if is_empty:
            self._empty_thoughts.add(number)
        policy = self._dataset.policy
        if is_empty and has_thought_on_one_side(row, self._dataset):
            return
        if policy is ThinkPolicy.STRIP or (policy is ThinkPolicy.MASKED and is_empty):
            block = "an empty think block" if is_empty else "a think block"
            self._add(number, LintRule.THINK_POLICY, f"{block}, in a file made with think policy {policy}")

    def _report_mixed_policy(self) -> None:
        """Without a manifest, rows that write an empty thought and rows that write none cannot both be meant."""
        empty, none = self._empty_thoughts, self._untagged
        if self._dataset.policy is None and empty.count and none.count:
            line = none.first if none.count <= empty.count else empty.first
            message = f"{empty.count:,} rows have an empty think block and {none.count:,} have none"
            self._add(line, LintRule.THINK_POLICY, message)

    def _report_wrong_types(self, number: int, row: dict[str, Any]) -> None:
        for name in self._names[:4]:
            value = row.get(name, "")
            if not isinstance(value, str):
                seen = "null" if value is None else f"{type(value).__name__}, not a string"
                self._add(number, LintRule.TYPE, f"column '{name}' is {seen}")
        if self._names[4] in row:
            self._check_history(number, row, row[self._names[4]])

    def _add_repairable(self, number: int, row: dict[str, Any], kind: LintRule, message: str) -> None:
        try:
            repair_row(row, ThinkPolicy.TAGGED, "")
        except RecordError:
            self._add(number, kind, message, fix=BY_HAND)
        else:
            self._add(number, kind, message, fix=BY_REPAIR)

    def _add(self, line: int, kind: LintRule, message: str, fix: str | None = None) -> None:
        self._last_told = line
        self._report(Finding(kind, message, fix or FIXES[kind], where=Where(self._path.as_posix(), line)))
