"""A recipe, the whole way in one file → the `lfc` commands that go it."""

from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from launch.configs.document import format_value, load_document, parse_document, parse_value, suggest_names
from launch.configs.presets import find_preset
from launch.recipes.check import (
    KEY,
    SOURCE_PLACES,
    TINY,
    check_inner_path,
    check_recipe,
    find_collision,
    name_model,
)
from launch.recipes.made_files import TRAINED_FILES, WEIGHTS
from launch.recipes.steps import SCRIPT_FILE, STATE_FILE, Step
from prep.errors import ConfigError, InputError
from prep.rows.kinds import Kind
from prep.storage.os_errors import is_file

# Options of `lfc prep convert` that a source may set, in the recipe's spelling.
_CONVERT_OPTIONS = ("format", "split", "limit", "sample_rows", "where", "system", "turns", "dedup", "max_rejects")
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
    """Return a recipe, a file's or a shipped one's, with `sources.chat.limit=100` overrides, all of it checked.

    Raises: ConfigError when it is unknown, or a key, a type, a name, a share or a path in it cannot be.
    """
    shipped = list_recipes()
    if name in shipped:
        document = parse_document(shipped[name], f"recipe {name}")
    elif Path(name).suffix in (".yaml", ".yml"):
        if not is_file(name):
            raise InputError(f"{name} does not exist or is not a file", hint=f"lfc run {next(iter(shipped))}")
        document = load_document(Path(name))
    else:
        near = suggest_names(name, shipped)
        raise ConfigError(
            f"no recipe is called '{name}'; there are {', '.join(shipped)}, or give a .yaml file",
            hint=f"lfc run {near[0]}" if near else None,
        )
    for fault in document.faults:
        raise ConfigError(f"{name} line {document.places[fault.key].line}: {fault.describe()}", hint=fault.fix)
    recipe = document.values
    for pair in pairs:
        _override(recipe, pair)
    recipe.setdefault("name", Path(name).stem)
    check_recipe(recipe, Path(name).stem)
    return recipe


def plan_recipe(recipe: Mapping[str, Any]) -> list[Step]:
    """Return the steps from the sources to the comparison of base and adapter.

    Shape: `recipe` comes from `read_recipe`.
    Raises: ConfigError when two steps would write to one place.
    """
    name = recipe["name"]
    sources: Mapping[str, Mapping[str, Any]] = recipe["sources"]
    steps = _plan_sample() if any(source.get("sample") for source in sources.values()) else []
    for label, source in sources.items():
        # Two sources of one repository: it is downloaded once.
        known = {step.argv for step in steps}
        steps += [step for step in _plan_source(label, source, recipe) if step.argv not in known]
    mixed = _jsonl(name_rows(*next(iter(sources.items()))))
    if len(sources) > 1:
        mixed = _jsonl(name)
        steps.append(_plan_mix(sources, mixed, recipe))
    train, test = _jsonl(f"{name}_train"), _jsonl(f"{name}_test")
    steps.append(_plan_split(name, mixed, recipe))
    # A comparison of answers needs one answer a row.
    taken = {"train": (), "test": ("--chosen",) if _trains_pairs(recipe) else ()}
    for side, path in (("train", train), ("test", test)):
        argv = ("prep", "register", path, "--name", f"{name}_{side}", "--dataset-dir", "data", *taken[side])
        entry = f"data/dataset_info.json#{name}_{side}"
        steps.append(Step(f"register-{side}", f"Register the {side} rows", argv, (path,), (entry,)))
    steps += _plan_training(name, train, test, recipe)
    _refuse_collisions(steps, name)
    return steps


def _trains_pairs(recipe: Mapping[str, Any]) -> bool:
    settings = recipe["config"].get("set") or {}
    return (
        settings.get("stage", find_preset(recipe["config"]["preset"]).values.get("stage")) in Kind.PREFERENCE.stages
    )


def name_rows(label: str, source: Mapping[str, Any]) -> str:
    """Return the name of the file that holds a source's rows: convert writes those with tools beside the others."""
    return f"{label}_tools" if source.get("tools") else label


def _refuse_collisions(steps: Iterable[Step], name: str) -> None:
    claims = [
        ("lfc itself", STATE_FILE),
        ("lfc itself", SCRIPT_FILE),
        ("the registration", "data/dataset_info.json"),
    ]
    claims += [
        (f"step {step.name}", place)
        for step in steps
        for place in (*step.outputs, *step.may_make)
        if "#" not in place
    ]
    found = find_collision(claims)
    if found:
        (first, place), (second, other) = found
        what = place if place == other else f"{place} and {other}"
        raise ConfigError(
            f"recipe {name}: {first} and {second} would both write to {what}",
            hint="another label, name or output_dir",
        )


def _plan_sample() -> list[Step]:
    from prep.hub.samples import SAMPLE_FILES

    made = tuple(f"raw/{name}" for name in SAMPLE_FILES)
    return [Step("sample", "Take the sample", ("prep", "sample", "--to", "raw"), (), made)]


def _plan_source(label: str, source: Mapping[str, Any], recipe: Mapping[str, Any]) -> list[Step]:
    place = next(place for place in SOURCE_PLACES if source.get(place))
    steps = []
    if place == "download":
        folder = f"raw/{_repository_folder(source['download'])}"
        argv = ["prep", "download", source["download"], "--to", "raw", *_option("revision", source.get("revision"))]
        title = f"Download {source['download']}"
        steps.append(Step(f"download-{label}", title, tuple(argv), (), (folder,), resumes=True))
        raw = f"{folder}/{source['files']}" if "files" in source else folder
        read = folder
    else:
        read = raw = f"raw/{source['sample']}" if place == "sample" else Path(source["path"]).absolute().as_posix()
    argv = ["prep", "convert", raw, "-o", _jsonl(label), "--think-policy", recipe.get("think_policy", "tagged")]
    for option in _CONVERT_OPTIONS:
        argv += _option("sample" if option == "sample_rows" else option.replace("_", "-"), source.get(option))
    for ours, theirs in (source.get("map") or {}).items():
        argv += ["--map", f"{ours}={theirs}"]
    rows = name_rows(label, source)
    other = label if source.get("tools") else f"{label}_tools"
    made = (_jsonl(rows), _manifest(rows))
    beside = (
        *(f"{_jsonl(label)}.{what}.jsonl" for what in ("rejects", "too-long", "duplicates")),
        _jsonl(other), _manifest(other), _index(label), _index(f"{label}_tools"),
    )  # fmt: skip
    convert = Step(f"convert-{label}", f"Convert the {label} rows", tuple(argv), (read,), made, beside)
    return [*steps, convert]


def _plan_mix(sources: Mapping[str, Mapping[str, Any]], mixed: str, recipe: Mapping[str, Any]) -> Step:
    rows = {label: name_rows(label, source) for label, source in sources.items()}
    argv = ["prep", "mix", *(f"{label}={_jsonl(name)}" for label, name in rows.items())]
    if recipe.get("mix"):
        argv += ["--ratio", ",".join(f"{label}={share}" for label, share in recipe["mix"].items())]
    argv += ["--seed", str(recipe.get("seed", 42)), "-o", mixed]
    read = tuple(place for name in rows.values() for place in (_jsonl(name), _manifest(name)))
    made = (mixed, _manifest(recipe["name"]))
    beside = (f"{mixed}.duplicates.jsonl", _index(recipe["name"]))
    return Step("mix", "Mix in true shares", tuple(argv), read, made, beside)


def _plan_split(name: str, mixed: str, recipe: Mapping[str, Any]) -> Step:
    held_out = recipe["split"]
    argv = ["prep", "split", mixed, "-o", f"data/{name}", "--seed", str(recipe.get("seed", 42))]
    for side in ("test", "val"):
        argv += [f"--{side}", str(held_out[side])] if side in held_out else []
    places = {side: (_jsonl(f"{name}_{side}"), _manifest(f"{name}_{side}")) for side in ("train", "test", "val")}
    made = (*places["train"], *places["test"], *(places["val"] if held_out.get("val") else ()))
    beside = () if held_out.get("val") else places["val"]
    indexes = tuple(_index(f"{name}_{side}") for side in places)
    return Step("split", "Hold out a test set", tuple(argv), (mixed,), made, (*beside, *indexes))


def _plan_training(name: str, train: str, test: str, recipe: Mapping[str, Any]) -> list[Step]:
    from launch.configs.schema import schema_name

    model, model_steps = _plan_model(recipe["model"], train)
    settings = dict(recipe["config"].get("set") or {})
    preset = recipe["config"]["preset"]
    method = settings.get("finetuning_type", find_preset(preset).values.get("finetuning_type", "lora"))
    named = settings.get("output_dir") or f"saves/{name_model(model)}/{method}/{name}"
    output = settings["output_dir"] = check_inner_path(named, f"recipe {name}: output_dir").as_posix()
    config = f"configs/{name}.yaml"
    pairs = {"model_name_or_path": model, "dataset": f"{name}_train", **settings}
    evaluation = (recipe.get("eval") or {}).get("set") or {}
    new = ("launch", "config", "new", preset, *_format_pairs(pairs), "-o", config)
    entry, manifest = f"data/dataset_info.json#{name}_train", _manifest(f"{name}_train")
    compared = f"runs/{name}-eval"
    compare = ("launch", "eval", config, "--eval-dataset", f"{name}_test", *_format_pairs(evaluation))
    beside = (f"configs/{schema_name('train')}",)
    # A slash: of the adapter's folder the files count that the training made, not a note that came beside them.
    read = (config, test, f"{model}/", f"{output}/")
    switches: tuple[str, ...] = ("--boost",) if recipe.get("boost") else ()
    switches += ("--no-tokenize",) if recipe.get("tokenize") is False else ()
    return [
        *model_steps,
        Step("config", "Write the config", new, (entry, manifest), (config,), beside),
        Step(
            "train",
            "Train",
            ("launch", "train", config, *switches),
            (config, train, f"{model}/"),
            (output, f"runs/{name}"),
            makes=TRAINED_FILES,
            needs=WEIGHTS,
        ),
        Step("eval", "Compare base and adapter", compare, read, (compared,), end=f"{compared}/comparison.json"),
    ]


def _plan_model(model: str, train: str) -> tuple[str, list[Step]]:
    """Return the model's folder, and the step that makes or fetches it if there is one."""
    if model == TINY:
        folder = "models/tiny-qwen3"
        make = ("launch", "tiny-model", train, "--to", folder)
        return folder, [Step("model", "Make a tiny Qwen3", make, (train,), (folder,))]
    if Path(model).is_dir():
        return Path(model).absolute().as_posix(), []
    folder = f"models/{_repository_folder(model)}"
    fetch = ("prep", "download", "--model", model, "--to", "models")
    return folder, [Step("model", f"Download {model}", fetch, (), (folder,), resumes=True)]


def _repository_folder(name: str) -> str:
    from prep.hub.catalog import resolve_names

    return resolve_names([name], "dataset")[0].folder_name


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
    if parents[:1] == ["sources"] and len(parents) == 2 and last in SOURCE_PLACES:
        for place in (*SOURCE_PLACES, "files", "revision", "split"):
            inner.pop(place, None)
    try:
        inner[last] = parse_value(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"'{dotted}': the value cannot be read: {error}") from error


def _option(name: str, value: Any) -> list[str]:
    """Return an option with its value as arguments; a value is never taken for an option itself."""
    if isinstance(value, list):
        return [word for item in value for word in _option(name, item)]
    if value is None:
        return []
    text = str(value)
    return [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]


def _format_pairs(pairs: Mapping[str, Any]) -> tuple[str, ...]:
    """Return settings as arguments; a key that is no identifier would be read as something else."""
    for key in pairs:
        if not KEY.fullmatch(key):
            raise ConfigError(f"{key!r} is no key of LLaMA-Factory")
    return tuple(f"{key}={format_value(value)}" for key, value in pairs.items())


def _jsonl(name: str) -> str:
    return f"data/{name}.jsonl"


def _manifest(name: str) -> str:
    return f"data/{name}.manifest.json"


def _index(name: str) -> str:
    return f"data/{name}.index"
