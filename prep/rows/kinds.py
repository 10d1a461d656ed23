"""What LLaMA-Factory trains: the kinds of rows, and the form in which a file of each kind stands."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from prep.errors import RegistryError


class Kind(StrEnum):
    """What a row is for; each value is what messages, manifests and statistics call it."""

    SFT = "sft"
    PREFERENCE = "preference"
    KTO = "kto"
    TEXT = "text"

    @property
    def stages(self) -> tuple[str, ...]:
        """The values of LLaMA-Factory's `stage` that train on such rows."""
        return _STAGES[self]


_STAGES = {
    Kind.SFT: ("sft", "ppo"),
    Kind.PREFERENCE: ("dpo", "rm"),
    Kind.KTO: ("kto",),
    Kind.TEXT: ("pt",),
}
# What LLaMA-Factory counts in the messages for each file that such a column names, data/mm_plugin.py.
PLACEHOLDERS = {"images": "<image>", "videos": "<video>", "audios": "<audio>"}
MEDIA = tuple(PLACEHOLDERS)
ALPACA_COLUMNS = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "system": "system",
    "history": "history",
}
SHAREGPT_COLUMNS = {"messages": "conversations", "system": "system", "tools": "tools"}
_PAIR = {"chosen": "chosen", "rejected": "rejected"}
_LABEL = {"kto_tag": "kto_tag"}
_MEDIA_COLUMNS = {name: name for name in MEDIA}


@dataclass(frozen=True)
class Form:
    """How the rows of one file are laid out, as its entry in dataset_info.json says.

    Shape: `columns` maps LLaMA-Factory's names of what every row has to ours; `marks` are our columns by which
    such a row is known.
    """

    kind: Kind
    formatting: str
    columns: Mapping[str, str]
    marks: tuple[str, ...]

    @property
    def all_columns(self) -> dict[str, str]:
        """The columns, and those that only rows with images, videos or audio have."""
        return dict(self.columns) if self.kind is Kind.TEXT else {**self.columns, **_MEDIA_COLUMNS}

    def describe_entry(self, present: Collection[str]) -> dict[str, Any]:
        """Return the entry of a file whose rows have these columns, without its name and tags.

        A column that no row has is a KeyError in LLaMA-Factory, so it is not named.
        """
        entry: dict[str, Any] = {"formatting": self.formatting}
        if self.kind is Kind.PREFERENCE:
            entry["ranking"] = True
        columns = self.all_columns.items()
        return {**entry, "columns": {ours: theirs for ours, theirs in columns if theirs in present}}


def _without(columns: Mapping[str, str], name: str) -> dict[str, str]:
    return {ours: theirs for ours, theirs in columns.items() if ours != name}


# The most particular first: a row has the first form whose marks it has.
FORMS = (
    Form(Kind.PREFERENCE, "sharegpt", {**SHAREGPT_COLUMNS, **_PAIR}, ("conversations", "chosen", "rejected")),
    Form(
        Kind.PREFERENCE,
        "alpaca",
        {**_without(ALPACA_COLUMNS, "response"), **_PAIR},
        ("instruction", "chosen", "rejected"),
    ),
    Form(Kind.KTO, "sharegpt", {**SHAREGPT_COLUMNS, **_LABEL}, ("conversations", "kto_tag")),
    Form(Kind.KTO, "alpaca", {**ALPACA_COLUMNS, **_LABEL}, ("instruction", "kto_tag")),
    Form(Kind.SFT, "alpaca", ALPACA_COLUMNS, ("instruction",)),
    Form(Kind.SFT, "sharegpt", SHAREGPT_COLUMNS, ("conversations",)),
    Form(Kind.TEXT, "alpaca", {"prompt": "text"}, ("text",)),
)
# What a row is taken for that has none of the marks: the errors then name Alpaca's columns.
_FALLBACK = next(form for form in FORMS if form.marks == ("instruction",))


def find_form(columns: Collection[str]) -> Form:
    """Return the form of a row with these columns, when no manifest and no registry tells of it."""
    return next((form for form in FORMS if all(mark in columns for mark in form.marks)), _FALLBACK)


def get_form(kind: Kind, formatting: str) -> Form:
    """Return the form in which rows of a kind stand under a formatting; raises KeyError when there is none."""
    for form in FORMS:
        if form.kind is kind and form.formatting == formatting:
            return form
    raise KeyError(f"no {kind} rows in {formatting} form")


def take_chosen(form: Form, where: str) -> Form:
    """Return the form in which the preferred answers of pairs are the answers of usual rows.

    Raises: RegistryError, which calls the file `where`, when its rows are no pairs, or their answers are turns.
    """
    if form.kind is not Kind.PREFERENCE:
        raise RegistryError(f"{where} holds {form.kind} rows, and only pairs have a chosen answer")
    if form.formatting != "alpaca":
        raise RegistryError(f"{where}: its chosen answers are turns, which no entry can take for usual answers")
    return replace(form, kind=Kind.SFT, columns={**ALPACA_COLUMNS, "response": form.columns["chosen"]})
