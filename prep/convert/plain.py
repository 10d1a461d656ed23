"""What the compiled half of conversion is told: how rows are written, and what each column of a file is for."""

from collections.abc import Callable, Sequence
from typing import Any

from prep.choices import ThinkPolicy, Turns
from prep.convert.kernel import Converted, Job, Judge, ObjectKernel, escape_json, has_kernel
from prep.convert.shard import ConvertPlan, ShardBuilder, name_origin
from prep.convert.where import Condition, all_hold, condition_columns
from prep.errors import InputError, RecordError
from prep.formats import SOURCES, map_columns
from prep.formats.columns import is_template
from prep.formats.reading import ASSISTANT, ROLE_FIELDS, ROLES, SYSTEM, TEXT_FIELDS, TURN_FIELDS, USER
from prep.rows.kinds import Kind
from prep.rows.thinking import THOUGHT_END, THOUGHT_START, find_chat_markup

_MAX_NAMES = 64
_MAX_VERDICTS = 10_000
ROLE, CONTENT = TURN_FIELDS[:2]
_TURN_FIELDS = {ROLE: ROLE_FIELDS, CONTENT: TEXT_FIELDS}
# The roles that files mostly have are compared first.
_USUAL_ROLES = ("human", "gpt", "user", "assistant", "system")


def make_job(plan: ConvertPlan, label: str) -> Job | None:
    """Return how a plan's rows are written; None when the compiled half does not write such rows."""
    if not _is_plain(plan):
        return None
    from prep.convert import _kernel

    turns: dict[str, int] = {
        Turns.EXPAND: _kernel.EXPAND,
        Turns.ALL: _kernel.ALL,
        Turns.FIRST: _kernel.FIRST,
        Turns.LAST: _kernel.LAST,
    }
    policies = {
        ThinkPolicy.TAGGED: _kernel.TAGGED,
        ThinkPolicy.MASKED: _kernel.MASKED,
        ThinkPolicy.STRIP: _kernel.STRIP,
    }
    return Job(
        texts=(
            b'{"instruction":"',
            b'","input":"',
            b'","output":"',
            escape_json(THOUGHT_START),
            escape_json(THOUGHT_END),
            b'","system":"',
            escape_json(plan.system.strip()),
            b'","history":[',
            b'],"origin":"' + escape_json(f"{name_origin(plan, label)}:"),
            b'"}\n',
        ),
        turns=turns[plan.turns],
        policy=policies[plan.policy],
        roles=_list_roles(plan),
        role_fields=tuple(name.encode() for name in list_turn_fields(plan, ROLE)),
        text_fields=tuple(name.encode() for name in list_turn_fields(plan, CONTENT)),
    )


def _is_plain(plan: ConvertPlan) -> bool:
    """Whether a plan asks for nothing that only Python can do, and its format is one that the kernel knows."""
    asks_more = plan.length_limit is not None or plan.label_is is not None
    is_written = plan.kind is Kind.SFT and not plan.media and find_chat_markup(plan.system) is None
    return has_kernel() and is_written and not asks_more and bool(SOURCES[plan.source].plain)


def _list_roles(plan: ConvertPlan) -> tuple[tuple[bytes, int], ...]:
    from prep.convert import _kernel

    codes = {SYSTEM: _kernel.SYSTEM, USER: _kernel.USER, ASSISTANT: _kernel.ASSISTANT}
    reading = plan.reading
    found = {name: reading.find_role(name) for name in (*_USUAL_ROLES, *reading.roles, *ROLES)}
    roles = [(name.encode(), codes[role]) for name, role in found.items() if role in codes]
    return tuple(roles[:_MAX_NAMES])


def list_turn_fields(plan: ConvertPlan, purpose: str) -> tuple[str, ...]:
    """Return the names under which turns may hold their role, or their content."""
    fields = plan.reading.fields
    if purpose in fields:
        return (fields[purpose],)
    taken = {*fields.values(), *plan.dropped}
    return tuple(name for name in _TURN_FIELDS[purpose] if name not in taken)


def list_uses(plan: ConvertPlan, columns: Sequence[str]) -> list[int] | None:
    """Return what each column of a row is for, as the kernel numbers it; None when such rows are not plain."""
    from prep.convert import _kernel

    words = {
        "question": _kernel.QUESTION,
        "answer": _kernel.ANSWER,
        "thought": _kernel.THOUGHT,
        "system": _kernel.SYSTEM_PROMPT,
        "input": _kernel.INPUT,
        "turns": _kernel.TURNS,
        "nothing": _kernel.EMPTY,
        "no text": _kernel.BLANK,
    }
    source = SOURCES[plan.source]
    if len(columns) > _kernel.MAX_COLUMNS:
        return None
    kept = [column for column in columns if column not in plan.dropped]
    try:
        mapping = map_columns(source, kept, plan.column_map)
    except InputError:
        return None
    if any(ours not in source.plain or is_template(theirs, kept) for ours, theirs in mapping.items()):
        return None
    uses = dict.fromkeys(plan.find_lost(columns), _kernel.EMPTY)
    uses |= {theirs: words[source.plain[ours]] for ours, theirs in mapping.items()}
    return [uses.get(column, _kernel.UNUSED) for column in columns]


def make_judge(
    conditions: Sequence[Condition], columns: Sequence[str], read: Callable[[bytes], Any] | None = None
) -> Judge:
    """Return what judges a row by the bytes of these columns: 1 to take it, 0 to sort it out, -1 for a fault.

    Shape: `read` makes a value of them; by itself they are JSON.
    """
    import orjson

    read = read or orjson.loads
    verdicts: dict[tuple[bytes, ...], int] = {}

    def judge(*values: bytes) -> int:
        verdict = verdicts.get(values)
        if verdict is None:
            try:
                verdict = int(all_hold(conditions, dict(zip(columns, map(read, values), strict=True))))
            except (RecordError, ValueError):
                verdict = -1
            if len(verdicts) >= _MAX_VERDICTS:
                verdicts.clear()
            verdicts[values] = verdict
        return verdict

    return judge


def make_object_kernel(plan: ConvertPlan, label: str, block_bytes: int) -> ObjectKernel | None:
    """Return what converts rows of JSON, and knows no form of them yet; None when a plan's rows are not plain."""
    job = make_job(plan, label)
    if job is None:
        return None
    judged = sorted(condition_columns(plan.where))
    try:
        return ObjectKernel(job, judged, make_judge(plan.where, judged), block_bytes)
    except TypeError:
        return None


def learn_form(plan: ConvertPlan, kernel: ObjectKernel, columns: Sequence[str]) -> bool:
    """Tell a kernel of rows with these columns; False when it knew them, or they are not plain."""
    if not kernel.is_new(columns):
        return False
    uses = list_uses(plan, columns)
    return uses is not None and kernel.add_form(columns, uses)


def count_converted(builder: ShardBuilder, done: Converted) -> None:
    """Put what a kernel made into a shard."""
    builder.records.append(done.lines)
    builder.count_plain(
        rows=done.rows,
        records=done.records,
        reasoning=done.reasoning,
        with_system=done.with_system,
        with_history=done.with_history,
        filtered=done.filtered,
    )
