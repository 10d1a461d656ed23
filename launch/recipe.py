"""A recipe, the whole way in one file → the `lfc` commands that go it."""

from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from launch.document import format_value, load_document, parse_document, parse_value
from launch.presets import find_preset
from launch.steps import Step
from prep.errors import ConfigError, InputError

_KEYS = ("name", "sources", "think_policy", "mix", "split", "model", "config", "eval", "seed")
_SOURCE_PLACES = ("sample", "download", "path")
# Options of `lfc prep convert` that a source may set, in the recipe's spelling.
_CONVERT_OPTIONS = ("format", "limit", "sample_rows", "where", "system", "turns", "dedup", "max_rejects")
_SOURCE_KEYS = (*_SOURCE_PLACES, *_CONVERT_OPTIONS, "map", "revision", "files")
TINY = "tiny"
# What turns the quickstart's sample into the real sets that it was modelled on.
FROM_HUB = (
    "sources.reasoning.download=medical-cot",
    "sources.reasoning.limit=260",
    "sources.chat.download=finetome",
    "sources.chat.limit=240",
)


def list_recipes() -> dict[str, str]:
    """Return every shipped recipe's text, by name."""
    folder = files("llamafactory_configs") / "recipes"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    return {name.removesuffix(".yaml"): (folder / name).read_text(encoding="utf-8") for name in names}


def read_recipe(name: str, pairs: Iterable[str] = ()) -> dict[str, Any]:
    """Return a recipe, a file's or a shipped one's, with `sources.chat.limit=100` overrides.

    Raises: ConfigError when it is unknown, has an unknown key, or lacks what every recipe needs.
    """
    shipped = list_recipes()
    if name in shipped:
        document = parse_document(shipped[name], f"recipe {name}")
    elif Path(name).suffix in (".yaml", ".yml"):
        document = load_document(Path(name))
    else:
        raise ConfigError(f"no recipe is called '{name}'; there are {', '.join(shipped)}, or give a .yaml file")
    recipe = document.values
    for pair in pairs:
        _override(recipe, pair)
    recipe.setdefault("name", Path(name).stem)
    _check_recipe(recipe)
    return recipe


def plan_recipe(recipe: Mapping[str, Any]) -> list[Step]:
    """Return the steps from the sources to the comparison of base and adapter.

    Raises: ConfigError when a source names no place or more than one.
    """
    name = recipe["name"]
    sources: Mapping[str, Mapping[str, Any]] = recipe["sources"]
    steps = []
    wanted = tuple(f"raw/{source['sample']}" for source in sources.values() if source.get("sample"))
    if wanted:
        steps.append(_step("sample", "Take the sample", ("prep", "sample", "--to", "raw"), (), wanted))
    for label, source in sources.items():
        steps += _plan_source(label, source, recipe)
    mixed = _jsonl(next(iter(sources)))
    if len(sources) > 1:
        mixed = _jsonl(name)
        steps.append(_plan_mix(sources, mixed, recipe))
    train, test = _jsonl(f"{name}_train"), _jsonl(f"{name}_test")
    steps.append(_plan_split(name, mixed, recipe))
    for side, path in (("train", train), ("test", test)):
        argv = ("prep", "register", path, "--name", f"{name}_{side}", "--dataset-dir", "data")
        entry = f"data/dataset_info.json#{name}_{side}"
        steps.append(_step(f"register-{side}", f"Register the {side} rows", argv, (path,), (entry,)))
    return [*steps, *_plan_training(name, train, test, recipe)]


def _plan_source(label: str, source: Mapping[str, Any], recipe: Mapping[str, Any]) -> list[Step]:
    place = next(place for place in _SOURCE_PLACES if source.get(place))
    steps = []
    if place == "download":
        raw = f"raw/{_repository_folder(source['download'])}"
        argv = ["prep", "download", source["download"], "--to", "raw"]
        argv += ["--revision", str(source["revision"])] if "revision" in source else []
        steps.append(_step(f"download-{label}", f"Download {source['download']}", argv, (), (raw,)))
        raw = f"{raw}/{source['files']}" if "files" in source else raw
    else:
        raw = f"raw/{source['sample']}" if place == "sample" else Path(source["path"]).absolute().as_posix()
    argv = ["prep", "convert", raw, "-o", _jsonl(label), "--think-policy", recipe.get("think_policy", "tagged")]
    for option in _CONVERT_OPTIONS:
        if option in source:
            argv += [f"--{'sample' if option == 'sample_rows' else option.replace('_', '-')}", str(source[option])]
    for ours, theirs in (source.get("map") or {}).items():
        argv += ["--map", f"{ours}={theirs}"]
    read = raw.partition("*")[0].rpartition("/")[0] if "*" in raw else raw
    made = (_jsonl(label), _manifest(label))
    return [*steps, _step(f"convert-{label}", f"Convert the {label} rows", argv, (read,), made)]


def _plan_mix(sources: Iterable[str], mixed: str, recipe: Mapping[str, Any]) -> Step:
    argv = ["prep", "mix", *(f"{label}={_jsonl(label)}" for label in sources)]
    if recipe.get("mix"):
        argv += ["--ratio", ",".join(f"{label}={share:g}" for label, share in recipe["mix"].items())]
    argv += ["--seed", str(recipe.get("seed", 42)), "-o", mixed]
    read = tuple(place for label in sources for place in (_jsonl(label), _manifest(label)))
    return _step("mix", "Mix in true shares", argv, read, (mixed, _manifest(recipe["name"])))


def _plan_split(name: str, mixed: str, recipe: Mapping[str, Any]) -> Step:
    held_out = recipe.get("split") or {}
    argv = ["prep", "split", mixed, "-o", f"data/{name}", "--seed", str(recipe.get("seed", 42))]
    for side in ("test", "val"):
        argv += [f"--{side}", f"{held_out[side]:g}"] if side in held_out else []
    sides = ("train", "test", *(("val",) if held_out.get("val") else ()))
    made = tuple(place for side in sides for place in (_jsonl(f"{name}_{side}"), _manifest(f"{name}_{side}")))
    return _step("split", "Hold out a test set", argv, (mixed,), made)


def _plan_training(name: str, train: str, test: str, recipe: Mapping[str, Any]) -> list[Step]:
    model, model_steps = _plan_model(str(recipe["model"]), train)
    settings = dict(recipe["config"].get("set") or {})
    preset = recipe["config"]["preset"]
    method = settings.get("finetuning_type", find_preset(preset).values.get("finetuning_type", "lora"))
    output = settings.setdefault("output_dir", f"saves/{Path(model).name}/{method}/{name}")
    config = f"configs/{name}.yaml"
    pairs = {"model_name_or_path": model, "dataset": f"{name}_train", **settings}
    evaluation = (recipe.get("eval") or {}).get("set") or {}
    new = ("launch", "config", "new", preset, *_format_pairs(pairs), "-o", config)
    entry, manifest = f"data/dataset_info.json#{name}_train", _manifest(f"{name}_train")
    compare = ("launch", "eval", config, "--eval-dataset", f"{name}_test", *_format_pairs(evaluation))
    return [
        *model_steps,
        _step("config", "Write the config", new, (entry, manifest), (config,)),
        _step("train", "Train", ("launch", "train", config), (config, train, model), (output, f"runs/{name}")),
        _step("eval", "Compare base and adapter", compare, (config, test, model, output), (f"runs/{name}-eval",)),
    ]


def _plan_model(model: str, train: str) -> tuple[str, list[Step]]:
    """Return the model's folder, and the step that makes or fetches it if there is one."""
    if model == TINY:
        folder = "models/tiny-qwen3"
        make = ("launch", "tiny-model", train, "--to", folder)
        return folder, [_step("model", "Make a tiny Qwen3", make, (train,), (folder,))]
    if Path(model).is_dir():
        return Path(model).absolute().as_posix(), []
    folder = f"models/{_repository_folder(model)}"
    fetch = ("prep", "download", "--model", model, "--to", "models")
    return folder, [_step("model", f"Download {model}", fetch, (), (folder,))]


def _repository_folder(name: str) -> str:
    from prep.catalog import read_catalog

    catalog = read_catalog()
    repository = catalog[name].repository if name in catalog else name
    return repository.rpartition("/")[2]


def _check_recipe(recipe: Mapping[str, Any]) -> None:
    name = recipe["name"]
    unknown = set(recipe) - set(_KEYS)
    missing = {"sources", "model", "config"} - set(recipe)
    if unknown or missing:
        what = f"unknown key {min(unknown)}" if unknown else f"`{min(missing)}` is missing"
        raise ConfigError(f"recipe {name}: {what}", hint=f"the keys are {', '.join(_KEYS)}")
    for label, source in recipe["sources"].items():
        places = [place for place in _SOURCE_PLACES if source.get(place)]
        strange = set(source) - set(_SOURCE_KEYS)
        if strange:
            keys = ", ".join(_SOURCE_KEYS)
            raise ConfigError(
                f"recipe {name}: source {label}: unknown key {min(strange)}", hint=f"the keys are {keys}"
            )
        if len(places) != 1:
            given = f"sources.{label}.path=YOUR_FILE"
            raise ConfigError(f"recipe {name}: source {label} needs one of {', '.join(_SOURCE_PLACES)}", hint=given)
        if source.get("path") and not Path(source["path"]).exists():
            raise InputError(f"recipe {name}: source {label}: {source['path']} does not exist")
    strangers = set(recipe.get("mix") or {}) - set(recipe["sources"])
    if strangers:
        raise ConfigError(f"recipe {name}: mix names {min(strangers)}, which is no source")


def _override(recipe: dict[str, Any], pair: str) -> None:
    """Set `a.b.c=value`; a source's new place takes the old one's."""
    dotted, separator, text = pair.partition("=")
    if not separator or not dotted:
        raise ConfigError(f"'{pair}' is not key=value", hint="sources.chat.limit=100")
    *parents, last = dotted.split(".")
    inner = recipe
    for key in parents:
        inner = inner.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"'{dotted}': `{key}` holds a value, not keys")
    if parents[:1] == ["sources"] and last in _SOURCE_PLACES:
        for place in (*_SOURCE_PLACES, "files", "revision"):
            inner.pop(place, None)
    inner[last] = parse_value(text)


def _format_pairs(pairs: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{key}={format_value(value)}" for key, value in pairs.items())


def _step(name: str, title: str, argv: Iterable[str], inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Step:
    return Step(name, title, tuple(argv), inputs, outputs)


def _jsonl(name: str) -> str:
    return f"data/{name}.jsonl"


def _manifest(name: str) -> str:
    return f"data/{name}.manifest.json"
