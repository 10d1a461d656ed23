"""One data file of a split: rows from where they lie to Arrow, in a process of its own."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, NamedTuple

from prep.errors import InputError, RecordError
from prep.registry.dataset import Dataset, align_row
from prep.rows.conversation import Conversation
from prep.rows.json_arrays import check_weight
from prep.rows.kinds import PLACEHOLDERS
from prep.rows.repeated_keys import parse_json_once
from prep.storage.os_errors import explain_os_error, explain_read_error
from prep.tokenized.arrow_folder import Columns, make_schema
from prep.tokenized.order import OrderedRows
from prep.tokenized.packing import NO_MEDIA, PackedRows, join_texts, pack_rows
from prep.tokenized.rows import LabelledRows, LabelRules, label_rows
from prep.tokenized.settings import TokenSettings
from prep.tokens.encoder import RowEncoder
from prep.tokens.part_encoder import PartEncoder
from prep.tokens.tokenizer import find_special_token, load_tokenizer
from prep.wording import in_shell

if TYPE_CHECKING:
    import pyarrow as pa

_MEDIA = {"images": "null", "videos": "null", "audios": "null"}
# LLaMA-Factory's columns; `datasets` narrows the numbers of some names, but not under neat_packing.
ROWS: Columns = {"input_ids": "[int32]", "attention_mask": "[int8]", "labels": "[int64]", **_MEDIA}
TEXTS: Columns = {"input_ids": "[int32]", "attention_mask": "[int8]"}
PACKED: Columns = {
    **{"input_ids": "[int32]", "attention_mask": "[int8]", "position_ids": "[int64]", "labels": "[int64]"},
    **_MEDIA,
}
_SUBSEQUENCES = ("image_subseq_ids", "video_subseq_ids", "audio_subseq_ids")
NEAT: Columns = {
    "input_ids": "[int64]",
    "packing_params": {
        "sequence_boundaries": "[int64]",
        **dict.fromkeys(_SUBSEQUENCES, "[int64]"),
        "right_padding_length": "int64",
    },
    **{"attention_mask": "[int64]", "position_ids": "[int64]", "labels": "[int64]"},
    **_MEDIA,
}


@dataclass(frozen=True)
class RowFile:
    """A file that rows lie in, and whose they are; `is_judged` when no key of a row stands twice."""

    path: Path
    dataset: Dataset
    is_judged: bool


class Shard(NamedTuple):
    """What becomes one data file: batches of rows."""

    path: Path
    batches: list[OrderedRows]


class ShardResult(NamedTuple):
    """What a data file holds: `rows` as they are trained, and the rows that went into it."""

    name: str
    rows: int
    tokens: int
    bytes: int
    taken: int


def choose_columns(settings: TokenSettings) -> Columns:
    """Return the columns that LLaMA-Factory writes."""
    if settings.stage == "pt":
        return TEXTS
    if not settings.packing:
        return ROWS
    return NEAT if settings.neat_packing else PACKED


def make_shard_writer(settings: TokenSettings, files: Sequence[RowFile]) -> Callable[[Shard], ShardResult]:
    """Return what writes one data file whole or not at all, for a process of its own."""
    return _ShardWriter(settings, files).write


class _ShardWriter:
    def __init__(self, settings: TokenSettings, files: Sequence[RowFile]) -> None:
        self._settings = settings
        self._files = files
        self._schema = make_schema(choose_columns(settings))
        self._open: dict[int, Any] = {}
        if settings.stage == "pt":
            self._make_batch = _TextBatches(settings).make_batch
        else:
            self._make_batch = _RowBatches(settings).make_batch

    def write(self, shard: Shard) -> ShardResult:
        import pyarrow as pa

        rows = tokens = 0
        # A cluster that lost sight of a machine does its task again while that one may still write.
        partial = shard.path.with_name(f".{shard.path.name}.{token_hex(4)}.partial")
        with explain_os_error(shard.path), partial.open("wb") as stream:
            writer = pa.ipc.new_stream(stream, self._schema)
            for batch in shard.batches:
                columns = self._make_batch(self._read(batch))
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))
                rows += len(columns[0])
                tokens += len(columns[0].values)
            writer.close()
            stream.flush()
            os.fsync(stream.fileno())
            size = stream.tell()
        with explain_os_error(shard.path):
            partial.replace(shard.path)
        return ShardResult(shard.path.name, rows, tokens, size, sum(map(len, shard.batches)))

    def _read(self, batch: OrderedRows) -> list[Conversation]:
        places = zip(batch.files.tolist(), batch.starts.tolist(), batch.sizes.tolist(), strict=True)
        return [self._read_row(*place) for place in places]

    def _read_row(self, number: int, start: int, size: int) -> Conversation:
        import orjson

        file = self._files[number]
        line = self._read_line(number, start, size)
        try:
            if file.is_judged:
                row = orjson.loads(line)
            else:
                check_weight(line)
                row = parse_json_once(line)
            if isinstance(row, RecordError) or not isinstance(row, dict):
                raise InputError(str(row) if isinstance(row, RecordError) else "it is no JSON object")
            return align_row(row, file.dataset)
        except (orjson.JSONDecodeError, InputError) as error:
            reason = f"not JSON: {error}" if isinstance(error, orjson.JSONDecodeError) else str(error)
            raise InputError(
                f"{file.path} byte {start:,}: {reason}", hint=f"lfc prep lint {in_shell(file.path)} tells all"
            ) from error

    def _read_line(self, number: int, start: int, size: int) -> bytes:
        path = self._files[number].path
        with explain_read_error(path):
            if number not in self._open:
                self._open[number] = path.open("rb", buffering=0)
            stream = self._open[number]
            if hasattr(os, "pread"):
                line = os.pread(stream.fileno(), size, start)
            else:
                stream.seek(start)
                line = stream.read(size)
        if len(line) != size:
            raise InputError(f"{path} changed while it was read", hint="run again when nothing writes to it")
        return bytes(line)


class _RowBatches:
    """Questions and answers, each row by itself or packed."""

    def __init__(self, settings: TokenSettings) -> None:
        self._settings = settings
        self._encoder = RowEncoder(settings.model, settings.template)
        self._rules = LabelRules(
            settings.cutoff_len, settings.mask_history, settings.train_on_prompt, self._encoder.end_of_row
        )
        self._pad = self._encoder.pad_token if settings.packing else 0
        rules = settings.template.rules if settings.template else None
        self._words = tuple(PLACEHOLDERS.values()) if rules and rules.multimodal else ()

    def make_batch(self, conversations: list[Conversation]) -> list[Any]:
        for conversation in conversations if self._words else ():
            self._refuse_media(conversation)
        rows = label_rows(self._encoder.encode_rows(conversations), self._rules)
        if not self._settings.packing:
            return _list_rows(rows)
        neat = self._settings.neat_packing
        packed = pack_rows(rows, self._settings.cutoff_len, self._pad, neat=neat)
        return _list_neat(packed) if neat else _list_packed(packed)

    def _refuse_media(self, conversation: Conversation) -> None:
        for _, text in conversation.messages:
            for word in self._words:
                if word in text:
                    raise InputError(f"a text holds {word}, for which this template wants a file")


class _TextBatches:
    """Texts for pre-training, cut or joined into blocks."""

    def __init__(self, settings: TokenSettings) -> None:
        self._settings = settings
        tokenizer = load_tokenizer(settings.model)
        self._parts = PartEncoder(tokenizer, "")
        rules = settings.template.rules if settings.template else None
        self._end = rules.text_end if rules is not None else ""
        self._end = self._end or find_special_token(settings.model, "eos_token") or ""
        if not self._end:
            raise InputError(f"{settings.model} has no eos_token, which ends a text")

    def make_batch(self, conversations: list[Conversation]) -> list[Any]:
        import numpy as np

        ids, ends = self._parts.encode([row.messages[0][1] + self._end for row in conversations])
        lengths = np.diff(ends, prepend=0)
        block = self._settings.cutoff_len
        if self._settings.packing:
            whole = join_texts(lengths.tolist(), block)
            ids, lengths = ids[:whole], np.full(whole // block, block, np.int64)
        elif (lengths > block).any():
            starts = ends - lengths
            within = np.arange(len(ids), dtype=np.int64) - np.repeat(starts, lengths)
            ids, lengths = ids[within < block], np.minimum(lengths, block)
        offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
        return [_make_list(ids, offsets), _make_list(np.ones(len(ids), np.int8), offsets)]


def _list_rows(rows: LabelledRows) -> list[Any]:
    import numpy as np

    offsets = np.concatenate((np.zeros(1, np.int64), rows.ends))
    mask = np.ones(len(rows.ids), np.int8)
    lists = [_make_list(values, offsets) for values in (rows.ids, mask, rows.labels)]
    return [*lists, *_make_nulls(len(rows))]


def _list_packed(packed: PackedRows) -> list[Any]:
    import numpy as np

    columns = (packed.ids, packed.mask.astype(np.int8), packed.positions, packed.labels)
    return [*map(_make_even_list, columns), *_make_nulls(len(packed.ids))]


def _list_neat(packed: PackedRows) -> list[Any]:
    import numpy as np
    import pyarrow as pa

    count = len(packed.bounds)
    ends = np.cumsum([0, *map(len, packed.bounds)])
    bounds = np.array([place for places in packed.bounds for place in places], dtype=np.int64)
    none = _make_list(np.full(count, NO_MEDIA, np.int64), np.arange(count + 1))
    padding = np.array([places[-1] - places[-2] for places in packed.bounds], dtype=np.int64)
    names = ["sequence_boundaries", *_SUBSEQUENCES, "right_padding_length"]
    parameters = pa.StructArray.from_arrays(
        [_make_list(bounds, ends), none, none, none, _make_numbers(padding)], names=names
    )
    columns = (packed.mask, packed.positions, packed.labels)
    first = _make_even_list(packed.ids.astype(np.int64))
    return [first, parameters, *map(_make_even_list, columns), *_make_nulls(count)]


def _make_even_list(values: Any) -> "pa.Array":
    import numpy as np

    count, width = values.shape
    return _make_list(values.reshape(-1), np.arange(count + 1, dtype=np.int64) * width)


def _make_list(values: Any, offsets: Any) -> "pa.Array":
    import numpy as np
    import pyarrow as pa

    if offsets[-1] > np.iinfo(np.int32).max:
        raise InputError("a batch of rows holds too many tokens", hint="preprocessing_batch_size: 100")
    places = pa.Array.from_buffers(pa.int32(), len(offsets), [None, pa.py_buffer(offsets.astype(np.int32))])
    return pa.ListArray.from_arrays(places, _make_numbers(values))


def _make_numbers(values: Any) -> "pa.Array":
    """Return an array without a copy; `pa.array` would import pandas."""
    import numpy as np
    import pyarrow as pa

    kind = {"int8": pa.int8(), "int32": pa.int32(), "int64": pa.int64()}[values.dtype.name]
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def _make_nulls(count: int) -> list[Any]:
    import pyarrow as pa

    return [pa.nulls(count) for _ in _MEDIA]
