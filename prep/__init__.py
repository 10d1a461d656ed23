"""From a hub to a registered dataset: the `lfc prep` half of the LLaMA-Factory companion.

    from prep import convert_files, mix_files, split_file, register_dataset, collect_stats

Each name is imported when it is first asked for, so that importing the package itself stays light.
"""

# Nothing that Python has not loaded by itself: for `-m launch` the working folder is still looked through here.
from importlib import import_module

__version__ = "0.2.0"

# Whether the process is `lfc`, and not somebody's program that imports this: what is loaded then is ours to choose.
is_own_process = False
# The public names, and the module of each; a test holds the list, and __init__.pyi tells type checkers of it.
_PUBLIC = {
    "convert_files": "prep.api.datasets",
    "mix_files": "prep.api.datasets",
    "split_file": "prep.api.datasets",
    "register_dataset": "prep.api.datasets",
    "collect_stats": "prep.api.datasets",
    "make_tokens": "prep.api.datasets",
    "ConvertOptions": "prep.convert.options",
    "ConvertResult": "prep.convert.options",
    "MixOptions": "prep.combine.mix",
    "MixResult": "prep.combine.mix",
    "SplitOptions": "prep.combine.split",
    "SplitSizes": "prep.combine.split",
    "SplitResult": "prep.combine.split",
    "StatsOptions": "prep.quality.stats",
    "DatasetStats": "prep.quality.stats",
    "TemplateOptions": "prep.tokens.turns",
    "Registration": "prep.registry.dataset_info",
    "MadeTokens": "prep.tokenized.make",
    "UserError": "prep.errors",
}
__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604 - all of them are texts


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
