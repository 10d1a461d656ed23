"""dataset_info.json against what LLaMA-Factory and its WebUI make of it."""

import json
import re
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

from prep.errors import InputError
from prep.quality.findings import Finding, LintRule, Where
from prep.registry.dataset import DEFAULT_COLUMNS, FORMATTINGS, list_entry_files
from prep.registry.dataset_info import (
    SHAREGPT_TAGS,
    find_name_fault,
    read_registry_bytes,
    scan_members,
)
from prep.rows.json_rows import iter_json_rows
from prep.rows.kinds import ALPACA_COLUMNS, MEDIA, SHAREGPT_COLUMNS, Kind, find_form
from prep.rows.line_blocks import BOM
from prep.storage.os_errors import describe_os_error
from prep.wording import in_shell

SCHEMA_NAME = "dataset_info.schema.json"
_SHOWN_CHARACTERS = 200
_REMOTE_KEYS = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
_LOOKED_AT_ROWS = 20
_MAKES_A_KIND = ("chosen", "rejected", "kto_tag", *MEDIA)
_REGISTER_AGAIN = "lfc prep register FILE --name NAME --replace writes the whole entry"
_WHAT_IT_IS = 'write one object, {"name": {"file_name": …}, …}'
_SAVE_AS_UTF8 = "save it as UTF-8 without a BOM"


def lint_registry(path: Path) -> list[Finding]:
    """Return the faults of a dataset_info.json, in order: of the file first, then of each entry.

    Raises: InputError when it cannot be read.
    """
    try:
        content = read_registry_bytes(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {describe_os_error(error)}") from error
    findings: list[Finding] = []
    text = _decode(path.as_posix(), content, findings)
    entries = _parse(path.as_posix(), text, findings) if text is not None else None
    if text is not None and entries is not None:
        linter = _EntryLinter(path, text, findings)
        for name, entry in entries.items():
            linter.check(name, entry)
        linter.check_schema(entries)
        linter.report_names_given_twice()
    return findings


def _decode(file: str, content: bytes, findings: list[Finding]) -> str | None:
    if content.startswith(BOM):
        message = "a byte order mark: LLaMA-Factory cannot read the file, and the WebUI's list stays empty"
        findings.append(Finding(LintRule.BOM, message, _SAVE_AS_UTF8, where=Where(file, 1, 1)))
        content = content[len(BOM) :]
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8")
        line, column = _find_place(before, len(before))
        message = f"byte 0x{content[error.start]:02x} is not UTF-8"
        findings.append(Finding(LintRule.ENCODING, message, _SAVE_AS_UTF8, where=Where(file, line, column)))
        return None
    if not text.isascii():
        place = next(place for place, sign in enumerate(text) if not sign.isascii())
        line, column = _find_place(text, place)
        message = f"{text[place]!r} is not ASCII: LLaMA-Factory reads the file in the locale's encoding"
        fix = f"write it as {json.dumps(text[place])}"
        findings.append(Finding(LintRule.ENCODING, message, fix, where=Where(file, line, column)))
    return text


def _parse(file: str, text: str, findings: list[Finding]) -> dict[str, Any] | None:
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        findings.append(_explain_json_error(file, text, error))
        return None
    except RecursionError:
        findings.append(Finding(LintRule.JSON, "nested too deeply", _WHAT_IT_IS, where=Where(file, 1, 1)))
        return None
    except ValueError as error:
        # A number of more than 4,300 digits.
        findings.append(
            Finding(LintRule.JSON, f"not JSON that can be read: {error}", _WHAT_IT_IS, where=Where(file, 1, 1))
        )
        return None
    if not isinstance(entries, dict):
        message = f"a JSON {type(entries).__name__}, not an object of entries"
        findings.append(Finding(LintRule.NOT_OBJECT, message, _WHAT_IT_IS, where=Where(file, 1, 1)))
        return None
    return entries


class _EntryLinter:
    def __init__(self, path: Path, text: str, findings: list[Finding]) -> None:
        self._path, self._findings = path, findings
        self._members = scan_members(text)
        self._told: set[str] = set()
        self._places = {member.name: _find_place(text, member.start) for member in self._members}

    def check(self, name: str, entry: object) -> None:
        fault = find_name_fault(name)
        if fault:
            is_path = "/" in name or "\\" in name
            reason = "a name is a key, not a path" if is_path else fault
            self._add(
                name, LintRule.NAME, f"the name cannot be used: {reason}", "letters, digits, '_' and '-' work"
            )
        if not isinstance(entry, dict):
            message = f"a JSON {type(entry).__name__}, not an object"
            self._add(name, LintRule.NOT_OBJECT, message, _REGISTER_AGAIN)
            return
        formatting = entry.get("formatting", "alpaca")
        if formatting not in FORMATTINGS:
            message = f"formatting {formatting!r} is unknown; allowed are {', '.join(FORMATTINGS)}"
            self._add(name, LintRule.FORMATTING, message, _REGISTER_AGAIN)
            return
        if any(key in entry for key in _REMOTE_KEYS):
            return
        paths = list_entry_files(entry, self._path.parent)
        if not paths:
            self._report_missing_file(name, entry.get("file_name"))
            return
        if formatting == "openai":
            return
        rows = self._read_rows(name, paths[0])
        if rows:
            self._check_kind(name, entry, rows[0])
        if rows and formatting == "alpaca":
            self._check_alpaca(name, entry, rows[0])
        elif rows:
            self._check_sharegpt(name, entry, rows)

    def check_schema(self, entries: dict[str, Any]) -> None:
        """Hold entries in which nothing was found yet to dataset_info.schema.json."""
        sound = {name: entry for name, entry in entries.items() if name not in self._told}
        if not sound:
            return
        from jsonschema import Draft202012Validator

        schema = json.loads((files("llamafactory_configs") / "schemas" / SCHEMA_NAME).read_text("utf-8"))
        for fault in Draft202012Validator(schema).iter_errors(sound):
            name, *keys = map(str, fault.absolute_path)
            message, fix = fault.message[:_SHOWN_CHARACTERS], _REGISTER_AGAIN
            if fault.validator == "additionalProperties":
                message, fix = _explain_unknown_key(fault.schema, fault.instance)
            self._add(name, LintRule.ENTRY, ": ".join([*keys, message]), fix)

    def report_names_given_twice(self) -> None:
        names = [member.name for member in self._members]
        for name in sorted({name for name in names if names.count(name) > 1}):
            message = f"the name stands {names.count(name)} times: only the last entry counts"
            self._add(name, LintRule.NAME, message, "give each entry its own name")

    def _report_missing_file(self, name: str, file_name: object) -> None:
        if not isinstance(file_name, str) or not file_name:
            self._add(name, LintRule.MISSING_FILE, "the entry names no file_name and no hub", _REGISTER_AGAIN)
            return
        message = f"file_name '{file_name}' does not exist in {self._path.parent.as_posix()}"
        self._add(name, LintRule.MISSING_FILE, message, f"put it there, or lfc prep unregister {in_shell(name)}")

    def _read_rows(self, name: str, path: Path) -> list[dict[str, Any]]:
        if path.suffix.lower() not in (".json", ".jsonl"):
            return []
        try:
            rows = [row for _, row in islice(iter_json_rows(path), _LOOKED_AT_ROWS)]
        except InputError as error:
            self._add(name, LintRule.JSON, str(error), "lint the file itself")
            return []
        return [row for row in rows if isinstance(row, dict)]

    def _check_kind(self, name: str, entry: dict[str, Any], row: dict[str, Any]) -> None:
        """Report an entry that makes another kind of the rows, or drops what makes them one."""
        columns = entry.get("columns") or DEFAULT_COLUMNS
        form = find_form(row)
        if not isinstance(columns, dict) or row.keys().isdisjoint(form.marks):
            return
        if form.kind is Kind.PREFERENCE and not entry.get("ranking"):
            message = "the rows have a chosen and a rejected answer, and the entry no ranking: true"
            self._add(name, LintRule.ENTRY, message, _REGISTER_AGAIN)
        elif form.kind is not Kind.PREFERENCE and entry.get("ranking") is True and "chosen" not in columns:
            message = "ranking is true, and columns name no chosen and no rejected answer"
            self._add(name, LintRule.ENTRY, message, _REGISTER_AGAIN)
        known = (*form.columns.items(), *((media, media) for media in MEDIA))
        for ours, theirs in known:
            if ours in _MAKES_A_KIND and ours not in columns and theirs in row:
                self._report_dropped_column(name, entry, ours, theirs)

    def _check_alpaca(self, name: str, entry: dict[str, Any], row: dict[str, Any]) -> None:
        columns = self._read_map(name, entry, "columns", DEFAULT_COLUMNS)
        if columns is None:
            return
        wanted = {ours: theirs for ours, theirs in columns.items() if ours != "messages"}
        self._report_absent_columns(name, wanted, row)
        for ours, theirs in ALPACA_COLUMNS.items():
            if ours not in columns and theirs in row:
                self._report_dropped_column(name, entry, ours, theirs)

    def _check_sharegpt(self, name: str, entry: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        columns = self._read_map(name, entry, "columns", DEFAULT_COLUMNS)
        tags = self._read_map(name, entry, "tags", SHAREGPT_TAGS)
        if columns is None or tags is None:
            return
        wanted = {ours: theirs for ours, theirs in columns.items() if ours in SHAREGPT_COLUMNS}
        self._report_absent_columns(name, wanted, rows[0])
        for ours, theirs in SHAREGPT_COLUMNS.items():
            if ours not in columns and theirs in rows[0]:
                self._report_dropped_column(name, entry, ours, theirs)
        conversations = [row.get(columns.get("messages", "")) for row in rows]
        turns = [turn for turns in conversations if isinstance(turns, list) for turn in turns]
        keys = [tags.get("role_tag"), tags.get("content_tag")]
        absent = [key for key in keys if not all(isinstance(turn, dict) and key in turn for turn in turns)]
        if absent:
            seen = (
                ", ".join(repr(key) for key in turns[0]) if isinstance(turns[0], dict) else type(turns[0]).__name__
            )
            self._add(name, LintRule.TAGS, f"the turns have no {absent[0]!r}; they have {seen}", _REGISTER_AGAIN)
            return
        roles = {str(turn[keys[0]]) for turn in turns}
        unknown = sorted(roles - {tags.get(tag) for tag in SHAREGPT_TAGS if tag.endswith("_tag")})
        if unknown:
            message = f"no tag is {unknown[0]!r}, which turns carry: LLaMA-Factory skips such rows"
            self._add(name, LintRule.TAGS, message, _REGISTER_AGAIN)

    def _read_map(
        self, name: str, entry: dict[str, Any], key: str, default: dict[str, str]
    ) -> dict[str, str] | None:
        found = entry.get(key, default)
        if isinstance(found, dict) and all(isinstance(value, str) for value in found.values()):
            return found
        fault = LintRule.COLUMNS if key == "columns" else LintRule.TAGS
        self._add(name, fault, f"{key} is not an object of strings", _REGISTER_AGAIN)
        return None

    def _report_absent_columns(self, name: str, columns: dict[str, str], row: dict[str, Any]) -> None:
        for ours, theirs in columns.items():
            if theirs not in row:
                message = f"{ours} is column '{theirs}', which the rows do not have: a KeyError in LLaMA-Factory"
                self._add(name, LintRule.COLUMNS, message, _REGISTER_AGAIN)

    def _report_dropped_column(self, name: str, entry: dict[str, Any], ours: str, theirs: str) -> None:
        what = "columns lists" if "columns" in entry else "without columns, LLaMA-Factory reads"
        message = f"{what} no {ours}, so the rows' '{theirs}' is dropped in silence"
        self._add(name, LintRule.COLUMNS, message, _REGISTER_AGAIN)

    def _add(self, name: str, kind: LintRule, message: str, fix: str) -> None:
        self._told.add(name)
        line, column = self._places[name]
        # JSON can spell half a character, which no terminal prints.
        printable = name.encode("utf-8", "backslashreplace").decode("utf-8")
        where = Where(self._path.as_posix(), line, column)
        finding = Finding(kind, f"'{printable}': {message}", fix, where=where)
        self._findings.append(finding)


def _explain_unknown_key(schema: Any, entry: dict[str, Any]) -> tuple[str, str]:
    notes = "|".join(schema.get("patternProperties", ())) or "(?!)"
    unknown = next(key for key in entry if key not in schema["properties"] and not re.search(notes, key))
    message = f"LLaMA-Factory knows no key {unknown[:_SHOWN_CHARACTERS]!r}, and does not read it"
    return message, f"take it out, or write one of: {', '.join(schema['properties'])}"


def _explain_json_error(file: str, text: str, error: json.JSONDecodeError) -> Finding:
    # Before Python 3.13 the error points behind the comma, since then at it.
    before = text[: error.pos].rstrip() if text[error.pos : error.pos + 1] != "," else text[: error.pos + 1]
    if re.match(r",\s*[}\]]", text[len(before) - 1 :]):
        line, column = _find_place(text, len(before) - 1)
        return Finding(
            LintRule.JSON,
            "a comma stands before the closing bracket",
            "take it out",
            where=Where(file, line, column),
        )
    return Finding(
        LintRule.JSON,
        error.msg,
        "fix it, or restore the .bak beside it",
        where=Where(file, error.lineno, error.colno),
    )


def _find_place(text: str, place: int) -> tuple[int, int]:
    """Return (line, column) of a place in a text, both from 1."""
    before = text[:place]
    return before.count("\n") + 1, place - (before.rfind("\n") + 1) + 1
