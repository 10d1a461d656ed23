"""The commands of `lfc prep` that take paths and options, as functions; none prints.

Each raises prep.errors.UserError, whose text says what is wrong and whose `hint` the next step.
"""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from prep.api.progress import watch

if TYPE_CHECKING:
    from prep.combine.mix import MixOptions, MixResult
    from prep.combine.split import SplitOptions, SplitResult
    from prep.convert.options import ConvertOptions, ConvertResult
    from prep.quality.stats import DatasetStats, StatsOptions
    from prep.registry.dataset_info import Registration
    from prep.tokenized.make import MadeTokens

StrPath = str | PathLike[str]


def convert_files(
    inputs: StrPath | Sequence[StrPath], output: StrPath, options: "ConvertOptions | None" = None
) -> "ConvertResult":
    """Convert files of any known layout into training rows at `output`, as `lfc prep convert` does."""
    from prep.convert.convert import convert_files as convert
    from prep.convert.options import ConvertOptions

    paths = [inputs] if isinstance(inputs, str | PathLike) else list(inputs)
    with watch("converting", "rows") as on_rows:
        return convert([Path(path) for path in paths], Path(output), options or ConvertOptions(), on_rows)


def mix_files(parts: Mapping[str, StrPath], output: StrPath, options: "MixOptions | None" = None) -> "MixResult":
    """Mix converted files, each under its name, into one at `output`, as `lfc prep mix` does."""
    from prep.combine.mix import MixOptions
    from prep.combine.mix import mix_files as mix

    with watch("mixing", "rows") as on_rows:
        named = {name: Path(path) for name, path in parts.items()}
        return mix(named, Path(output), options or MixOptions(), on_rows)


def split_file(path: StrPath, prefix: StrPath, options: "SplitOptions") -> "SplitResult":
    """Hold rows out of a converted file: PREFIX_train.jsonl, PREFIX_test.jsonl, as `lfc prep split` does."""
    from prep.combine.split import split_file as split

    with watch("splitting", "rows") as on_rows:
        return split(Path(path), Path(prefix), options, on_rows)


def register_dataset(
    path: StrPath, name: str, dataset_dir: StrPath = "data", *, replace: bool = False
) -> "Registration":
    """Register a file of training rows in `dataset_dir`/dataset_info.json, as `lfc prep register` does."""
    from prep.registry.dataset_info import register_dataset as register

    return register(Path(path), name, Path(dataset_dir), replace=replace)


def collect_stats(
    target: StrPath, options: "StatsOptions | None" = None, *, dataset_dir: StrPath = "data"
) -> "DatasetStats":
    """Measure a file or a registered dataset, as `lfc prep stats` does; in tokens when the options name a model."""
    from prep.quality.stats import StatsOptions
    from prep.quality.stats import collect_stats as collect
    from prep.registry.dataset import find_dataset

    dataset = find_dataset(str(target), Path(dataset_dir))
    with watch("measuring", "rows") as on_rows:
        return collect(dataset, options or StatsOptions(), on_rows)


def make_tokens(
    config: StrPath, dataset: str | None = None, *, output: StrPath | None = None, force: bool = False
) -> "MadeTokens":
    """Make the tokens of a training YAML once, as `lfc prep tokenize` does."""
    from prep.storage.bounded_yaml import load_config
    from prep.tokenized.make import make_tokens as make
    from prep.tokenized.settings import read_settings

    values = load_config(Path(config))
    given = output or values.get("tokenized_path")
    with watch("tokenizing", "rows") as on_rows:
        target = Path(str(given)) if given else None
        return make(read_settings(values, dataset), target, force=force, on_rows=on_rows)
