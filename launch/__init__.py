"""From a registered dataset to a finished, compared run: the `lfc launch` half of the companion.

    from launch import check_config, prove_model, train, evaluate, list_runs

Each name is imported when it is first asked for, so that importing the package itself stays light.
"""

# Nothing that Python has not loaded by itself: for `-m launch` the working folder is still looked through here.
from importlib import import_module

# The public names, and the module of each; a test holds the list, and __init__.pyi tells type checkers of it.
_PUBLIC = {
    "check_config": "launch.api.trainings",
    "prove_model": "launch.api.trainings",
    "train": "launch.api.trainings",
    "evaluate": "launch.api.trainings",
    "list_runs": "launch.api.trainings",
    "Runs": "launch.api.trainings",
    "Check": "launch.configs.config",
    "Answer": "launch.configs.prove",
    "Run": "launch.runs.folder",
    "RunState": "launch.runs.folder",
    "Comparison": "launch.results.comparison",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
