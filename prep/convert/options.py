"""How to convert, and what came of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from prep.choices import DEFAULT_TEMPLATE, MissingMedia, OnLong, ThinkPolicy, Turns
from prep.frames import make_frame
from prep.inputs.reader import ReadOptions
from prep.rows.kinds import Kind

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ConvertOptions:
    """How to convert; `format` None recognises the shape, `column_map` is {our name: the file's name}.

    `drop` are columns that are left out although they may carry meaning; `label_is` takes the rows with this
    label alone, and drops the label. `media_dir` holds the images, videos and audio, `missing_media` is reject or
    keep, `media` names columns that rows beyond the first may have.
    `limit` takes the first rows that `where` lets pass, `sample` draws some of them with `seed`. A row of more
    than `max_tokens` tokens of `model` under `template` is dropped, rejected or kept, as `on_long` says.
    `cluster` is the address of a Ray cluster that converts JSONL files, "" for the one of this machine.
    """

    format: str | None = None
    policy: ThinkPolicy = ThinkPolicy.TAGGED
    column_map: dict[str, str] = field(default_factory=dict)
    turns: str = Turns.EXPAND
    fix_turns: tuple[str, ...] = ()
    roles: dict[str, str] = field(default_factory=dict)
    may_lack_open: bool = False
    system: str = ""
    drop: tuple[str, ...] = ()
    label_is: bool | None = None
    media: tuple[str, ...] = ()
    media_dir: Path | None = None
    missing_media: str = MissingMedia.REJECT
    where: tuple[str, ...] = ()
    limit: int | None = None
    sample: int | None = None
    seed: int = 42
    dedup: str | None = None
    decontaminate: tuple[Path, ...] = ()
    max_tokens: int | None = None
    model: Path | None = None
    on_long: str = OnLong.REJECT
    template: str = DEFAULT_TEMPLATE
    max_rejects: int = 0
    reading: ReadOptions = field(default_factory=ReadOptions)
    workers: int | None = None
    cluster: str | None = None
    force: bool = False


@dataclass(frozen=True)
class ConvertResult:
    """What a conversion did; `unused_columns` were in the input and are not in the output.

    `output` is None when every row calls tools; those rows are in `tools_output`, in ShareGPT form.
    `left_out` are files of a folder that hold no rows; `notes` say how inputs were read, where that was found out.
    """

    format: str
    kind: Kind
    counts: dict[str, int]
    unused_columns: list[str]
    output: Path | None
    rejects: Path | None
    tools_output: Path | None = None
    duplicates: Path | None = None
    too_long: Path | None = None
    contaminated: Path | None = None
    left_out: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_pandas(self) -> "pd.DataFrame":
        """Return what was counted, a row each."""
        return make_frame({"what": what, "rows": rows} for what, rows in self.counts.items())
