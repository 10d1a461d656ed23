"""The folder that `datasets` loads with load_from_disk, written without it: Arrow streams, and JSON beside them.

Source: datasets 3.6, Dataset.save_to_disk, DatasetDict.save_to_disk and Features; a test loads what is written.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prep.process import without_needless
from prep.storage.atomic import write_json

if TYPE_CHECKING:
    import pyarrow as pa

# A column's type: a number's name, "[int32]" for a list of them, a mapping for a struct.
ColumnType = str | Mapping[str, str]
Columns = Mapping[str, ColumnType]
_DATA = "data-{:05d}-of-{:05d}.arrow"


def make_schema(columns: Columns) -> "pa.Schema":
    """Return the Arrow schema of columns, with what `datasets` reads of it."""
    with without_needless():
        import pyarrow as pa

    fields = [pa.field(name, _make_type(kind)) for name, kind in columns.items()]
    told = json.dumps({"info": {"features": describe_features(columns)}})
    return pa.schema(fields, metadata={"huggingface": told})


def describe_features(columns: Columns) -> dict[str, Any]:
    """Return columns as `datasets` describes them in JSON."""
    return {name: _describe_feature(kind) for name, kind in columns.items()}


def name_data_file(number: int, count: int) -> str:
    """Return the name of a split's data file; `number` counts from 0."""
    return _DATA.format(number, count)


def write_split(folder: Path, name: str, columns: Columns, files: Sequence[str], fingerprint: str) -> None:
    """Write the JSON beside the data files of a split."""
    state: dict[str, Any] = {
        "_data_files": [{"filename": file} for file in files],
        "_fingerprint": fingerprint,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": name,
    }
    info = {
        "citation": "",
        "description": "",
        "features": describe_features(columns),
        "homepage": "",
        "license": "",
    }
    write_json(folder / "state.json", state)
    write_json(folder / "dataset_info.json", info)


def write_splits(folder: Path, names: Sequence[str]) -> None:
    """Write the JSON that names the splits of a folder."""
    write_json(folder / "dataset_dict.json", {"splits": list(names)})


def _make_type(kind: ColumnType) -> "pa.DataType":
    import pyarrow as pa

    if not isinstance(kind, str):
        return pa.struct([pa.field(name, _make_type(inner)) for name, inner in kind.items()])
    if kind.startswith("["):
        return pa.list_(_make_type(kind[1:-1]))
    return {"int8": pa.int8(), "int32": pa.int32(), "int64": pa.int64(), "null": pa.null()}[kind]


def _describe_feature(kind: ColumnType) -> dict[str, Any]:
    if not isinstance(kind, str):
        return {name: _describe_feature(inner) for name, inner in kind.items()}
    if kind.startswith("["):
        return {"feature": _describe_feature(kind[1:-1]), "_type": "Sequence"}
    return {"dtype": kind, "_type": "Value"}
