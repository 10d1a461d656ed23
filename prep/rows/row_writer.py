"""An exchange → a training row of its kind: SFT, preference, labelled answer, or text; with media or without."""

from typing import Any

from prep.choices import ThinkPolicy
from prep.errors import RecordError
from prep.rows.kinds import PLACEHOLDERS, Kind, get_form
from prep.rows.records import (
    Exchange,
    FormRecord,
    Record,
    TextPiece,
    ToolExchange,
    write_record,
    write_tool_record,
)
from prep.rows.thinking import refuse_chat_markup, write_output


def write_row(
    exchange: Exchange | ToolExchange | TextPiece, policy: ThinkPolicy, origin: str, media: tuple[str, ...] = ()
) -> Record:
    """Write what a format read as a training row of its kind.

    Shape: `media` are the media columns that every row of the file has, empty where a row has none.
    Raises: RecordError with the reason when the row cannot be trained on as it stands.
    """
    if isinstance(exchange, TextPiece):
        return _write_text(exchange, origin)
    if exchange.rejected is not None and exchange.label is not None:
        raise RecordError("it has both a label and a rejected answer", hint="--drop one of the two columns")
    _check_media(exchange, media)
    tool_row = write_tool_record(exchange, policy, origin) if isinstance(exchange, ToolExchange) else None
    row = tool_row or write_record(exchange, policy, origin)  # type: ignore[arg-type]
    kind = find_kind(exchange)
    if kind is Kind.SFT and not media:
        return row
    values = row.as_dict()
    last = values.pop("origin")
    if exchange.rejected is not None:
        _write_pair(values, exchange, exchange.rejected, policy)
    elif exchange.label is not None:
        values["kto_tag"] = exchange.label
    files = dict(exchange.media)
    values |= {name: list(files.get(name, ())) for name in media}
    return FormRecord(get_form(kind, "alpaca" if tool_row is None else "sharegpt"), {**values, "origin": last})


def find_kind(exchange: Exchange | ToolExchange | TextPiece) -> Kind:
    """Return the kind of the row that an exchange becomes."""
    if isinstance(exchange, TextPiece):
        return Kind.TEXT
    if exchange.rejected is not None:
        return Kind.PREFERENCE
    return Kind.SFT if exchange.label is None else Kind.KTO


def _write_text(piece: TextPiece, origin: str) -> FormRecord:
    if not piece.text.strip():
        raise RecordError("the text is empty")
    refuse_chat_markup(piece.text, "text")
    return FormRecord(get_form(Kind.TEXT, "alpaca"), {"text": piece.text, "origin": piece.origin or origin})


def _write_pair(
    values: dict[str, Any], exchange: Exchange | ToolExchange, rejected: tuple[str, str], policy: ThinkPolicy
) -> None:
    """Put the preferred and the rejected answer in place of the one answer.

    LLaMA-Factory writes the prompt of both after the preferred answer alone (processor/pairwise.py), so both
    get a think block where one of them has a thought.
    """
    if policy is ThinkPolicy.MASKED and bool(exchange.thought.strip()) != bool(rejected[0].strip()):
        policy = ThinkPolicy.TAGGED
    answers = [write_output(*pair, policy) for pair in ((exchange.thought, exchange.answer), rejected)]
    if answers[0] == answers[1]:
        raise RecordError("the chosen and the rejected answer are the same")
    if isinstance(exchange, ToolExchange):
        values["conversations"] = values["conversations"][:-1]
        turns = [{"from": exchange.role, "value": answer} for answer in answers]
        values["chosen"], values["rejected"] = turns
        return
    # In the place of the output: a person reads the row.
    rest = {name: values.pop(name) for name in ("output", "system", "history")}
    values["chosen"], values["rejected"] = answers
    values |= {name: rest[name] for name in ("system", "history")}


def _check_media(exchange: Exchange | ToolExchange, media: tuple[str, ...]) -> None:
    """Raise RecordError unless each file has its placeholder, as LLaMA-Factory's mm_plugin asks."""
    files = dict(exchange.media)
    if not media and not files:
        return
    texts = list_texts(exchange)
    for name, placeholder in PLACEHOLDERS.items():
        found, wanted = sum(text.count(placeholder) for text in texts), len(files.get(name, ()))
        if found != wanted:
            raise RecordError(
                f"it has {wanted} {name} and {found} {placeholder} in its texts",
                hint=f'write one where each belongs, such as --map question="{placeholder}{{question}}"',
            )
    extra = [name for name in files if name not in media]
    if extra:
        raise RecordError(f"it has {extra[0]}, and the first rows have none", hint=f"--media {extra[0]}")


def list_texts(exchange: Exchange | ToolExchange) -> list[str]:
    """Return the texts of an exchange in which a placeholder may stand, in order, each once."""
    if isinstance(exchange, ToolExchange):
        earlier = [text for _, text in exchange.turns]
    else:
        earlier = [text for pair in exchange.history for text in pair] + [exchange.question, exchange.input]
    return [*earlier, exchange.thought, exchange.answer]
