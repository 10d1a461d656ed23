"""The whole way: `lfc quickstart`, `lfc run`, `lfc launch tiny-model`."""

import contextlib
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launch.cli.options import cli_option, dry_run_option, find_cli, fresh_option
from launch.cli.root import launch, lfc
from launch.cli.show import print_comparison, show_status
from prep.cli import FOLDER, OUTPUT_FILE, json_option
from prep.cli.output import echo, print_result

if TYPE_CHECKING:
    from launch.steps import Step


NEXT_COMMANDS = """
Next, with your own data and model:
  lfc prep convert YOUR_DATA.jsonl -o data/mine.jsonl
  lfc prep register data/mine.jsonl --name mine --dataset-dir data
  lfc launch config new medical-hybrid model_name_or_path=Qwen/Qwen3-4B dataset=mine -o configs/mine.yaml
and then: lfc launch train configs/mine.yaml"""


@launch.command("tiny-model")
@click.argument("data", metavar="DATA.jsonl", type=OUTPUT_FILE)
@click.option("--to", "folder", type=FOLDER, required=True, help="The model's folder.")
@cli_option
@json_option
def tiny_model(data: Path, folder: Path, given_cli: str | None, as_json: bool) -> None:
    """Make a tiny Qwen3 with random weights, to try a dataset and a config on a CPU in a minute.

    Its tokenizer is trained on DATA, an Alpaca JSONL that `lfc prep` wrote.

    \b
    Example:
      lfc launch tiny-model data/medical_train.jsonl --to models/tiny-qwen3
    """
    from launch.command import find_llamafactory_cli
    from launch.tiny_model import make_tiny_model

    with show_status(lambda: "making the model") as on_poll:
        make_tiny_model(find_llamafactory_cli(given_cli), data, folder, on_poll)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print_result(
        {"model": folder.as_posix(), "bytes": size},
        [("model", str(folder)), ("bytes", f"{size:,}")],
        as_json=as_json,
        title="tiny Qwen3 with random weights",
    )


@lfc.command()
@click.option("--to", "folder", type=FOLDER, default="quickstart", show_default=True, help="What all lies in.")
@fresh_option
@click.option("--from-hub", is_flag=True, help="Download the real datasets from ModelScope instead of the sample.")
@dry_run_option
@cli_option
@click.pass_context
def quickstart(
    ctx: click.Context, folder: Path, fresh: bool, from_hub: bool, dry_run: bool, given_cli: str | None
) -> None:
    """Go the whole way on the bundled sample: from raw files to a trained and compared adapter.

    A tiny Qwen3 is trained by the real llamafactory-cli on the CPU, with no hub and no GPU. Each step is a command
    that you could type yourself; run again, steps whose command, inputs and outputs are unchanged are skipped.

    \b
    Examples:
      lfc quickstart
      lfc quickstart --to /tmp/try --fresh
    """
    from launch.progress import check_learning
    from launch.recipe import FROM_HUB, plan_recipe, read_recipe

    steps = plan_recipe(read_recipe("quickstart", FROM_HUB if from_hub else ()))
    if dry_run:
        print_steps(steps)
        return
    run_steps(ctx, steps, folder, fresh=fresh, given_cli=given_cli)
    output_dir = next(step for step in steps if step.name == "train").outputs[0]
    with contextlib.chdir(folder):
        echo(f"In {folder}: {check_learning(Path(output_dir, 'trainer_log.jsonl'))}.")
    echo(NEXT_COMMANDS)


@lfc.command("run")
@click.argument("recipe_name", metavar="RECIPE")
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--to", "folder", type=FOLDER, help="What all lies in; from the recipe's name if not given.")
@click.option("--only", multiple=True, metavar="STEP", help="Do this step alone; repeatable.")
@click.option("--from", "start", metavar="STEP", help="Do this step and all after it again.")
@fresh_option
@dry_run_option
@cli_option
@click.pass_context
def run_recipe(
    ctx: click.Context,
    recipe_name: str,
    pairs: tuple[str, ...],
    folder: Path | None,
    only: tuple[str, ...],
    start: str | None,
    fresh: bool,
    dry_run: bool,
    given_cli: str | None,
) -> None:
    """Go the whole way that a recipe describes: download, convert, mix, split, register, train, compare.

    RECIPE is a YAML file or a shipped one: medical-hybrid, maths-hybrid, base-chat, customer-service, quickstart.
    KEY=VALUE changes it. Steps whose command, inputs and outputs are unchanged are skipped.

    \b
    Examples:
      lfc run medical-hybrid
      lfc run medical-hybrid mix.medical=0.7 mix.chat=0.3 --from mix
      lfc run customer-service sources.company.path=answers.csv --dry-run
    """
    from launch.recipe import plan_recipe, read_recipe
    from launch.steps import choose_steps

    recipe = read_recipe(recipe_name, pairs)
    steps = plan_recipe(recipe)
    chosen = choose_steps(steps, only=only, start=start)
    if dry_run:
        print_steps(chosen)
        return
    forced = {step.name for step in chosen} if only or start else set()
    run_steps(ctx, chosen, folder or Path(recipe["name"]), fresh=fresh, given_cli=given_cli, forced=forced)


def run_steps(
    ctx: click.Context,
    steps: "Sequence[Step]",
    folder: Path,
    *,
    fresh: bool,
    given_cli: str | None,
    forced: Collection[str] = (),
) -> None:
    """Run steps as the commands that they are, inside their folder, and skip those that are current."""
    from launch.evaluate import read_comparison
    from launch.steps import StepFolder, prepare_folder

    # Resolved before the folder changes: every step's command then finds the same program.
    if any(step.argv[0] == "launch" for step in steps):
        os.environ["LFC_LLAMAFACTORY_CLI"] = str(find_cli(given_cli))
    prepare_folder(folder, steps, ctx.command_path, fresh=fresh)
    skipped = False
    with contextlib.chdir(folder):
        done = StepFolder(Path())
        for number, step in enumerate(steps, 1):
            echo(f"\n[{number}/{len(steps)}] {step.title} ({step.name})", bold=True)
            echo(f"$ {step.format()}")
            skipped = step.name not in forced and done.is_current(step)
            if skipped:
                echo("  is current: nothing to do")
                continue
            done.clear_outputs(step)
            lfc.main(list(step.argv), prog_name="lfc", standalone_mode=False, parent=ctx)
            done.mark_done(step)
        echo("\nDone", bold=True)
        if skipped and steps[-1].name == "eval":
            print_comparison(read_comparison(Path(steps[-1].outputs[0])))


def print_steps(steps: "Sequence[Step]") -> None:
    """Print the commands of steps, one a line."""
    echo("\n".join(step.format() for step in steps))
