"""The root `lfc` command and the `lfc launch` group: parse, call, print. The only click in launch/."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prep import __version__
from prep.cli import FOLDER, INPUT_FILE, OUTPUT_FILE, force_option, json_option, prep, print_result
from prep.errors import UserError

if TYPE_CHECKING:
    from launch.config import Check
    from launch.schema import Kind


class RootGroup(click.Group):
    """Ends a user's fault in one message and its exit code; a bug keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; UserError becomes one message, Ctrl-C exit code 130."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"Error: {error}", err=True)
            if error.hint:
                click.echo(f"  Try: {error.hint}", err=True)
            ctx.exit(error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            click.echo("Interrupted: nothing half-written was left behind.", err=True)
            ctx.exit(130)


@click.group(cls=RootGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lfc")
def lfc() -> None:
    """Prepare data for LLaMA-Factory, and launch it: from a hub to a compared adapter.

    \b
    Examples:
      lfc quickstart
      lfc prep convert raw/r1_data_example.jsonl -o data/medical.jsonl
      lfc launch train configs/medical.yaml
    """


@click.group("launch")
def launch() -> None:
    """Write configs, train, and compare.

    \b
    Example:
      lfc launch train configs/medical.yaml
    """


@launch.group("config")
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
    from launch.presets import list_presets

    presets = list_presets()
    print_result(
        {"presets": [{"name": preset.name, "title": preset.title, "needs": preset.needs} for preset in presets]},
        [(preset.name, preset.title, f"needs {preset.needs}") for preset in presets],
        as_json=as_json,
        title=f"{len(presets)} presets",
    )


@config.command("show")
@click.argument("name")
@json_option
def config_show(name: str, as_json: bool) -> None:
    """Print a shipped preset as it stands.

    \b
    Example:
      lfc launch config show medical-hybrid
    """
    from launch.presets import find_preset

    preset = find_preset(name)
    if as_json:
        print_result({"name": preset.name, "values": preset.values}, [], as_json=True, title="")
    else:
        click.echo(preset.text, nl=False)


@config.command("new")
@click.argument("preset_name", metavar="PRESET")
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("-o", "--output", type=OUTPUT_FILE, required=True, help="The YAML to write.")
@click.option("--dataset-dir", type=FOLDER, help="Holds dataset_info.json; the preset's own, data, if not given.")
@force_option
@json_option
def config_new(
    preset_name: str, pairs: tuple[str, ...], output: Path, dataset_dir: Path | None, force: bool, as_json: bool
) -> None:
    """Write a config from a preset, with your own values for LLaMA-Factory's keys.

    Values are typed as in YAML. The dataset is given by its registered name: `enable_thinking`, `mask_history`
    and the template follow its think policy and the model.

    \b
    Examples:
      lfc launch config new medical-hybrid dataset=medical_train -o configs/medical.yaml
      lfc launch config new cpu-smoke dataset=medical_train max_steps=30 save_total_limit=null -o configs/cpu.yaml
    """
    from launch.config import new_config, parse_overrides
    from launch.presets import find_preset

    preset = find_preset(preset_name)
    written = new_config(preset, output, parse_overrides(pairs), dataset_dir=dataset_dir, force=force)
    for note in written.notes:
        click.echo(f"Note: {note}", err=True)
    for fault in written.faults:
        click.echo(f"{'Error' if fault.fatal else 'Note'}: `{fault.key}` {fault.message}", err=True)
        click.echo(f"  Try: {fault.mend}", err=True)
    told = ("model_name_or_path", "template", "dataset", "enable_thinking", "output_dir")
    print_result(
        {
            "config": output.as_posix(),
            "values": written.values,
            "notes": written.notes,
            "faults": [asdict(fault) for fault in written.faults],
        },
        [(key, format_setting(written.values[key])) for key in told if key in written.values],
        as_json=as_json,
        title=f"{output} from preset {preset.name}",
    )
    if any(fault.fatal for fault in written.faults):
        click.get_current_context().exit(1)


@config.command("check")
@click.argument("path", metavar="FILE", type=INPUT_FILE)
@click.option(
    "--for",
    "target",
    type=click.Choice(["here", "gpu", "cpu", "any"]),
    default="here",
    show_default=True,
    help="The machine to judge for: this one, one with a single bf16 GPU, one without, or leave devices out.",
)
@click.option(
    "--as",
    "kind",
    type=click.Choice(["train", "infer"]),
    help="What reads it: train, or export, chat and api; told by its keys if not given.",
)
@click.option("--strict", is_flag=True, help="Refuse warnings too.")
@json_option
def config_check(path: Path, target: str, kind: "Kind | None", strict: bool, as_json: bool) -> None:
    """Find everything that is wrong with a YAML config before LLaMA-Factory is started.

    All faults at once, with line and column, the value seen, what is allowed, and the mend: keys and types
    against LLaMA-Factory's own arguments, combinations that cannot work, the datasets and their think policy,
    the model's folder, and this machine. Exit code 1 when one stops the run or loses data.

    \b
    Examples:
      lfc launch config check configs/medical.yaml
      lfc launch config check configs/medical.yaml --for gpu --strict
    """
    from launch.config import check_config
    from launch.rules import choose_machine

    check = check_config(path, choose_machine(target), kind)
    faults = [{**asdict(fault), **check.place(fault)._asdict()} for fault in check.faults]
    refused = check.is_fatal or (strict and bool(faults))
    if as_json:
        result = {"config": path.as_posix(), "kind": check.kind, "refused": refused, "faults": faults}
        print_result(result, [], as_json=True, title="")
    else:
        print_faults(path, check, target)
    if refused:
        click.get_current_context().exit(1)


def print_faults(path: Path, check: "Check", target: str) -> None:
    """Print a check's result to stdout, one fault and its mend after the other."""
    errors = sum(fault.fatal for fault in check.faults)
    warnings = len(check.faults) - errors
    for fault in check.faults:
        line, column = check.place(fault)
        what = "error" if fault.fatal else "warning"
        click.echo(f"{path}:{line}:{column}: {what}: {f'`{fault.key}` ' if fault.key else ''}{fault.message}")
        click.echo(f"  Try: {fault.mend}")
    where = {"here": "this machine", "gpu": "a GPU", "cpu": "a CPU", "any": "any machine"}[target]
    verdict = f"{errors} errors, {warnings} warnings" if check.faults else "nothing wrong"
    click.echo(f"{path}: {verdict} ({check.kind} config, judged for {where})")


@config.command("diff")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@json_option
def config_diff(first: str, second: str, as_json: bool) -> None:
    """Show the keys on which two configs differ: presets by name, or files.

    \b
    Example:
      lfc launch config diff medical-hybrid configs/medical.yaml
    """
    from launch.config import diff_configs

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
    print_result(
        {"a": first, "b": second, "differing": pairs, **only},
        [("key", first, second), *rows] if rows else [("no key differs",)],
        as_json=as_json,
        title=f"{first} and {second}: {len(rows)} keys differ",
    )


@config.command("schema")
@click.option(
    "--as",
    "kind",
    type=click.Choice(["train", "infer"]),
    default="train",
    show_default=True,
    help="Which of the two.",
)
@click.option("--refresh", is_flag=True, help="Write both anew from the LLaMA-Factory that is installed.")
@click.option("--to", "folder", type=FOLDER, help="With --refresh: the folder to write them into.")
@click.option("--python", type=INPUT_FILE, help="With --refresh: the interpreter that has LLaMA-Factory.")
def config_schema(kind: "Kind", refresh: bool, folder: Path | None, python: Path | None) -> None:
    """Print the JSON Schema of LLaMA-Factory's YAML, for editors and checkers.

    It is made of LLaMA-Factory's own arguments: types, choices, defaults and help.

    \b
    Examples:
      lfc launch config schema > llamafactory.schema.json
      lfc launch config schema --refresh --to configs
    """
    from launch.schema import introspect_stack, read_schema_text, write_schemas

    if not refresh:
        click.echo(read_schema_text(kind), nl=False)
        return
    if folder is None:
        raise click.UsageError("--refresh needs --to FOLDER")
    for path in write_schemas(introspect_stack(python or Path(sys.executable)), folder):
        click.echo(path)


def format_setting(value: Any) -> str:
    """Return a value as it stands in the YAML."""
    from launch.document import format_value

    return format_value(value)


lfc.add_command(prep)
lfc.add_command(launch)


def main() -> None:
    """Run `lfc`: the console script's entry."""
    lfc(prog_name="lfc")
