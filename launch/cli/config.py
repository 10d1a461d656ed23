"""`lfc launch config …`: write, check, compare and carry over YAML configs."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from launch.choices import OTHER_SCHEMAS, JudgedFor, Kind
from launch.cli.completion import complete_pairs, complete_preset, complete_preset_or_file
from launch.cli.options import version_option
from launch.cli.show import format_setting
from prep.cli.options import FOLDER, INPUT_FILE, OUTPUT_FILE, choice_of, force_option, json_option
from prep.cli.output import echo, print_findings, print_json, print_table
from prep.errors import ConfigError
from prep.secrets import mask_values
from prep.wording import count_of, in_shell

if TYPE_CHECKING:
    from launch.configs.config import Check


@click.group("config")
def config() -> None:
    """Write, check and compare LLaMA-Factory YAML configs.

    \b
    Examples:
      lfc launch config ls
      lfc launch config new medical-hybrid dataset=medical_train -o configs/medical.yaml
    """


@config.command("ls")
@json_option
def config_ls(as_json: bool) -> None:
    """List the shipped presets and what each needs.

    \b
    Example:
      lfc launch config ls
    """
    from launch.configs.presets import list_presets

    presets = list_presets()
    if as_json:
        print_json(
            {"presets": [{"name": preset.name, "title": preset.title, "needs": preset.needs} for preset in presets]}
        )
    else:
        print_table(
            [(preset.name, preset.title, f"needs {preset.needs}") for preset in presets],
            title=count_of(len(presets), "preset"),
        )


@config.command("show")
@click.argument("name", shell_complete=complete_preset)
@json_option
def config_show(name: str, as_json: bool) -> None:
    """Print a shipped preset as it stands.

    \b
    Example:
      lfc launch config show medical-hybrid
    """
    from launch.configs.presets import find_preset

    preset = find_preset(name)
    if as_json:
        print_json({"name": preset.name, "values": preset.values})
    else:
        echo(preset.text, nl=False)


@config.command("new")
@click.argument("preset_name", metavar="PRESET", shell_complete=complete_preset)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=complete_pairs())
@click.option("-o", "--output", type=OUTPUT_FILE, required=True, help="The YAML to write.")
@click.option("--dataset-dir", type=FOLDER, help="Holds dataset_info.json; the preset's own, data, if not given.")
@version_option
@force_option
@json_option
def config_new(
    preset_name: str, pairs: tuple[str, ...], output: Path, dataset_dir: Path | None, force: bool, as_json: bool
) -> None:
    """Write a config from a preset, with your own values for LLaMA-Factory's keys.

    Values are typed as in YAML. The dataset is given by its registered name: `enable_thinking`, `mask_history`
    and the template follow its think policy and the model; `cutoff_len` follows the rows' lengths where the model
    is a folder on this machine. What is written is checked, and what must still be fixed before a run, such as
    a model that is not there yet, is said.

    \b
    Examples:
      lfc launch config new medical-hybrid dataset=medical_train -o configs/medical.yaml
      lfc launch config new cpu-smoke dataset=medical_train max_steps=30 save_total_limit=null -o configs/cpu.yaml
    """
    from launch.configs.config import new_config, parse_overrides
    from launch.configs.presets import find_preset
    from launch.tune.memory import describe_memory

    refuse_recipe(preset_name)
    preset = find_preset(preset_name)
    written = new_config(preset, output, parse_overrides(pairs), dataset_dir=dataset_dir, force=force)
    for note in written.notes:
        echo(f"Note: {note}", err=True)
    print_findings(written.findings, err=True)
    needed = describe_memory(written.values) if written.values.get("do_train") else ""
    told = ("model_name_or_path", "template", "dataset", "enable_thinking", "output_dir")
    memory = [("memory", needed)] if needed else []
    if as_json:
        print_json(
            {
                "config": output.as_posix(),
                "values": mask_values(written.values),
                "notes": written.notes,
                "findings": [finding.as_dict() for finding in written.findings],
                "memory": needed,
            }
        )
    else:
        print_table(
            [*((key, format_setting(written.values[key])) for key in told if key in written.values), *memory],
            title=f"{output} from preset {preset.name}",
        )


def refuse_recipe(name: str) -> None:
    """Raise ConfigError when a name is that of a recipe and of no preset."""
    from launch.configs.presets import list_presets
    from launch.recipes.recipe import list_recipes

    if name in list_recipes() and name not in {preset.name for preset in list_presets()}:
        raise ConfigError(
            f"'{name}' is a recipe, which goes the whole way; `config new` takes a preset",
            hint=f"lfc run {in_shell(name)}",
        )


@config.command("check")
@click.argument("path", metavar="FILE", type=INPUT_FILE)
@click.option(
    "--for",
    "target",
    type=choice_of(JudgedFor),
    default=JudgedFor.HERE.value,
    show_default=True,
    help="The machine to judge for: this one, one with a single bf16 GPU, one without, or leave devices out.",
)
@click.option(
    "--as",
    "kind",
    type=click.Choice(get_args(Kind)),
    help="What reads it: train, or export, chat and api; told by its keys if not given.",
)
@click.option(
    "--gpus", type=click.IntRange(0, 1024), help="Judge for this many GPUs; as many as there are if not given."
)
@click.option("--measure", is_flag=True, help="Measure the rows in the model's tokens, too: takes seconds.")
@click.option("--strict", is_flag=True, help="Refuse warnings too.")
@version_option
@json_option
def config_check(
    path: Path, target: str, kind: "Kind | None", gpus: int | None, measure: bool, strict: bool, as_json: bool
) -> None:
    """Find everything that is wrong with a YAML config before LLaMA-Factory is started.

    All faults at once, with line and column, the value seen, what is allowed, and the fix: keys and types
    against LLaMA-Factory's own arguments, combinations that cannot work, the datasets and their think policy,
    the model's folder, and this machine. Exit code 1 when one stops the run or loses data.

    \b
    Examples:
      lfc launch config check configs/medical.yaml
      lfc launch config check configs/medical.yaml --for gpu --strict
      lfc launch config check configs/zero3.yaml --gpus 8
    """
    from launch.configs.config import check_config, read_config
    from launch.configs.rules import choose_machine
    from launch.tune.memory import describe_memory

    machine = choose_machine(target, gpus)
    check = check_config(path, machine, kind, measure=measure)
    refused = check.has_errors or (strict and bool(check.findings))
    needed = "" if refused or check.kind != "train" else describe_memory(read_config(path))
    if as_json:
        findings = [finding.as_dict() for finding in check.findings]
        result = {
            "config": path.as_posix(),
            "kind": check.kind,
            "refused": refused,
            "findings": findings,
            "memory": needed,
        }
        print_json(result)
    else:
        print_check(path, check, target, needed)
        if check.has_errors and target == JudgedFor.HERE and machine.gpus == ():
            suggest_other_machine(path, check, kind)
    if refused:
        click.get_current_context().exit(1)


def print_check(path: Path, check: "Check", target: str, needed: str) -> None:
    """Print a check's result to stdout, one finding and its fix after the other."""
    errors = sum(finding.is_error for finding in check.findings)
    warnings = len(check.findings) - errors
    print_findings(check.findings)
    verdict = f"{count_of(errors, 'error')}, {count_of(warnings, 'warning')}" if check.findings else "nothing wrong"
    echo(f"{path}: {verdict} ({check.kind} config, judged for {JudgedFor(target).machine})")
    if needed:
        echo(f"Memory: {needed}")


def suggest_other_machine(path: Path, check: "Check", kind: "Kind | None") -> None:
    """Say how to judge for a machine with a GPU, when faults of a config are none there."""
    from launch.configs.config import check_config
    from launch.configs.rules import choose_machine

    there = check_config(path, choose_machine(JudgedFor.GPU), kind)
    here, gone = (sum(finding.is_error for finding in found.findings) for found in (check, there))
    if gone < here:
        what = count_of(gone, "error") if gone else "no error"
        echo(f"  Try: lfc launch config check {shlex.quote(str(path))} --for gpu, which finds {what}")


@config.command("diff")
@click.argument("first", metavar="A", shell_complete=complete_preset_or_file)
@click.argument("second", metavar="B", shell_complete=complete_preset_or_file)
@json_option
def config_diff(first: str, second: str, as_json: bool) -> None:
    """Show the keys on which two configs differ: presets by name, or files.

    \b
    Example:
      lfc launch config diff medical-hybrid configs/medical.yaml
    """
    from launch.configs.config import diff_configs

    differing = diff_configs(first, second)
    pairs = {key: [None if side is ... else side for side in pair] for key, pair in differing.items()}
    rows = [
        (key, *(("(not set)" if side is ... else format_setting(side)) for side in pair))
        for key, pair in differing.items()
    ]
    only = {
        name: [key for key, pair in differing.items() if pair[1 - side] is ...]
        for side, name in enumerate(("only_in_a", "only_in_b"))
    }
    if as_json:
        print_json({"a": first, "b": second, "differing": pairs, **only})
    else:
        print_table(
            [("key", first, second), *rows] if rows else [("no key differs",)],
            title=f"{first} and {second}: {count_of(len(rows), 'key')} differ",
        )


@config.command("import")
@click.argument("saved", metavar="SAVED.yaml", type=OUTPUT_FILE)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=complete_pairs())
@click.option("-o", "--output", type=OUTPUT_FILE, required=True, help="The training YAML to write.")
@click.option("--keep-secrets", is_flag=True, help="Write API keys and tokens too, in clear text.")
@force_option
@json_option
def config_import(
    saved: Path, pairs: tuple[str, ...], output: Path, keep_secrets: bool, force: bool, as_json: bool
) -> None:
    """Make a training YAML of settings that were saved in the WebUI.

    SAVED is a file of llamaboard_config/, or the llamaboard_config.yaml in a run's folder under saves/. It trains
    what that page would train. KEY=VALUE adds what the page does not save, such as model_name_or_path.

    \b
    Examples:
      lfc launch config import llamaboard_config/medical.yaml -o configs/medical.yaml
      lfc launch config import saves/Qwen3-4B/lora/run1/llamaboard_config.yaml -o configs/run1.yaml
    """
    from launch.configs.config import parse_overrides, write_config
    from launch.llamaboard.convert import import_settings
    from prep.storage.atomic import refuse_existing

    refuse_existing(output, force=force)
    imported = import_settings(saved, parse_overrides(pairs), keep_secrets=keep_secrets)
    write_config(output, imported.values, header=f"From the WebUI's {saved.as_posix()}")
    for note in imported.notes:
        echo(f"Note: {note}", err=True)
    told = ("model_name_or_path", "template", "dataset", "enable_thinking", "output_dir")
    if as_json:
        print_json({"config": output.as_posix(), "values": mask_values(imported.values), "notes": imported.notes})
    else:
        print_table(
            [(key, format_setting(imported.values[key])) for key in told if key in imported.values],
            title=f"{output} from {saved}",
        )


@config.command("export")
@click.argument("config_path", metavar="CONFIG", type=OUTPUT_FILE)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=complete_pairs())
@click.option("-o", "--output", type=OUTPUT_FILE, required=True, help="The file to write in llamaboard_config/.")
@force_option
@json_option
def config_export(config_path: Path, pairs: tuple[str, ...], output: Path, force: bool, as_json: bool) -> None:
    """Make a training YAML loadable in the WebUI, by its button "Load arguments".

    What has no field on the page goes into its `extra_args`; what cannot be carried is named.

    \b
    Example:
      lfc launch config export configs/medical.yaml -o llamaboard_config/medical.yaml
    """
    from launch.llamaboard.convert import export_settings
    from launch.webui.start import read_request

    exported = export_settings(output, config_path, read_request(config_path, pairs, None), force=force)
    for note in exported.notes:
        echo(f"Note: {note}", err=True)
    told = ("top.model_name", "top.model_path", "top.template", "train.dataset", "train.extra_args")
    if as_json:
        print_json({"settings": output.as_posix(), "values": mask_values(exported.values), "notes": exported.notes})
    else:
        print_table(
            [(key, format_setting(exported.values[key])) for key in told], title=f"{output} from {config_path}"
        )


@config.command("schema")
@click.option(
    "--as",
    "kind",
    type=click.Choice([*get_args(Kind), *OTHER_SCHEMAS]),
    default="train",
    show_default=True,
    help="Which one is printed: of a YAML that trains or infers, a recipe, a sweep, or dataset_info.json.",
)
@click.option(
    "--refresh", is_flag=True, help="Write train and infer anew from the LLaMA-Factory that is installed."
)
@click.option(
    "--to", "folder", type=FOLDER, help="Write all of them into this folder; with --refresh the new ones."
)
@click.option("--python", type=INPUT_FILE, help="With --refresh: the interpreter that has LLaMA-Factory.")
def config_schema(kind: str, refresh: bool, folder: Path | None, python: Path | None) -> None:
    """Print the JSON Schema of a YAML, a recipe, a sweep or dataset_info.json, for editors and checkers.

    Those of a LLaMA-Factory YAML are made of LLaMA-Factory's own arguments: types, choices, defaults and help.

    \b
    Examples:
      lfc launch config schema > llamafactory.schema.json
      lfc launch config schema --to .schemas
      lfc launch config schema --refresh --to configs
    """
    from launch.configs.schema import install_schemas, introspect_stack, read_schema_text, write_schemas

    if folder is None:
        if refresh:
            raise click.UsageError("--refresh needs --to FOLDER")
        echo(read_schema_text(kind), nl=False)
        return
    written = write_schemas(introspect_stack(python or Path(sys.executable)), folder) if refresh else None
    for path in written or install_schemas(folder):
        echo(path)
