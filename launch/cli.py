"""The root `lfc` command and the `lfc launch` group: parse, call, print. The only click in launch/."""

from pathlib import Path
from typing import Any

import click

from prep import __version__
from prep.cli import FOLDER, OUTPUT_FILE, force_option, json_option, prep, print_result
from prep.errors import UserError


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
    told = ("model_name_or_path", "template", "dataset", "enable_thinking", "output_dir")
    print_result(
        {"config": output.as_posix(), "values": written.values, "notes": written.notes},
        [(key, format_setting(written.values[key])) for key in told if key in written.values],
        as_json=as_json,
        title=f"{output} from preset {preset.name}",
    )


def format_setting(value: Any) -> str:
    """Return a value as it stands in the YAML."""
    from launch.document import format_value

    return format_value(value)


lfc.add_command(prep)
lfc.add_command(launch)


def main() -> None:
    """Run `lfc`: the console script's entry."""
    lfc(prog_name="lfc")
