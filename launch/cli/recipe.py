"""The whole way: `lfc quickstart`, `lfc run`, `lfc launch tiny-model`."""

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from launch.cli.completion import complete_recipe_or_file, complete_step
from launch.cli.options import cli_option, dry_run_option, fresh_option, rehearse_option
from launch.cli.root import lfc
from launch.cli.show import print_comparison, show_status
from prep.cli.options import FOLDER, OUTPUT_FILE, json_option
from prep.cli.output import echo, echo_error, print_json, print_table
from prep.errors import ChildFailedError

if TYPE_CHECKING:
    from launch.recipes.steps import Step


NEXT_COMMANDS = """
Next, with your own data and model:
  lfc prep convert YOUR_DATA.jsonl -o data/mine.jsonl
  lfc prep register data/mine.jsonl --name mine --dataset-dir data
  lfc launch config new medical-hybrid model_name_or_path=Qwen/Qwen3-4B dataset=mine -o configs/mine.yaml
and then: lfc launch train configs/mine.yaml"""


@click.command("tiny-model")
@click.argument("data", metavar="DATA.jsonl", type=OUTPUT_FILE)
@click.option("--to", "folder", type=FOLDER, required=True, help="The model's folder.")
@cli_option
@json_option
def tiny_model(data: Path, folder: Path, given_cli: str | None, as_json: bool) -> None:
    """Make a tiny Qwen3 with random weights, to try a dataset and a config on a CPU in a minute.

    Its tokenizer is trained on DATA, a JSONL of any kind that `lfc prep` wrote.

    \b
    Example:
      lfc launch tiny-model data/medical_train.jsonl --to models/tiny-qwen3
    """
    from launch.machine.command import find_llamafactory_cli
    from launch.recipes.tiny_model import make_tiny_model

    with show_status(lambda: "making the model") as on_poll:
        make_tiny_model(find_llamafactory_cli(given_cli), data, folder, on_poll)
    size = sum(path.stat().st_size for path in folder.iterdir())
    if as_json:
        print_json({"model": folder.as_posix(), "bytes": size})
    else:
        print_table([("model", str(folder)), ("bytes", f"{size:,}")], title="tiny Qwen3 with random weights")


@click.command()
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
    from launch.recipes.recipe import FROM_HUB, plan_recipe, read_recipe
    from launch.runs.progress import check_learning

    recipe = read_recipe("quickstart", FROM_HUB if from_hub else ())
    steps = plan_recipe(recipe)
    if dry_run:
        show_plan(Plan(recipe, steps, steps), folder, given_cli)
        return
    run_steps(ctx, Plan(recipe, steps, steps), folder, fresh=fresh, given_cli=given_cli)
    output_dir = next(step for step in steps if step.name == "train").outputs[0]
    with contextlib.chdir(folder):
        echo(f"In {folder}: {check_learning(Path(output_dir, 'trainer_log.jsonl'))}.")
    echo(NEXT_COMMANDS)


@click.command("run")
@click.argument("recipe_name", metavar="RECIPE", shell_complete=complete_recipe_or_file)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--to", "folder", type=FOLDER, help="What all lies in; from the recipe's name if not given.")
@click.option(
    "--only", multiple=True, metavar="STEP", help="Do this step alone; repeatable.", shell_complete=complete_step
)
@click.option(
    "--from",
    "start",
    metavar="STEP",
    help="Do this step and all after it again; not with --only.",
    shell_complete=complete_step,
)
@fresh_option
@rehearse_option
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
    rehearse: bool,
    dry_run: bool,
    given_cli: str | None,
) -> None:
    """Go the whole way that a recipe describes: download, convert, mix, split, register, train, compare.

    RECIPE is a YAML file or a shipped one: medical-hybrid, maths-hybrid, base-chat, customer-service, preference,
    tools-agent, quickstart.
    KEY=VALUE changes it. Steps whose command, inputs and outputs are unchanged are skipped.

    \b
    Examples:
      lfc run medical-hybrid
      lfc run medical-hybrid mix.medical=0.7 mix.chat=0.3 --from mix
      lfc run customer-service sources.company.path=answers.csv --dry-run
    """
    from launch.recipes.recipe import plan_recipe, read_recipe
    from launch.recipes.steps import choose_steps

    if only and start:
        raise click.UsageError("--only and --from exclude each other")
    recipe = read_recipe(recipe_name, pairs)
    steps = plan_recipe(recipe)
    chosen = choose_steps(steps, only=only, start=start)
    folder = folder or Path(recipe["name"])
    plan = Plan(recipe, steps, chosen, {step.name for step in chosen} if only or start else set())
    if dry_run:
        show_plan(plan, folder, given_cli)
        return
    if rehearse:
        # The step is another process or call of ours: the command that its record holds stays the same.
        os.environ["LFC_REHEARSE"] = "1"
        ctx.call_on_close(lambda: os.environ.pop("LFC_REHEARSE", None))
    run_steps(ctx, plan, folder, fresh=fresh, given_cli=given_cli)


class Plan(NamedTuple):
    """A recipe with all of its steps, those that were `chosen`, and the names of those that are done anyway."""

    recipe: Mapping[str, Any]
    steps: "Sequence[Step]"
    chosen: "Sequence[Step]"
    forced: Collection[str] = ()


def run_steps(ctx: click.Context, plan: Plan, folder: Path, *, fresh: bool, given_cli: str | None) -> None:
    """Run steps as the commands that they are, inside their folder, and skip those that are current.

    Raises: ChildFailedError with a step's own exit code when it did not succeed: no step after it begins.
    """
    from launch.machine.command import CLI_VARIABLE
    from launch.recipes.preflight import check_plan
    from launch.recipes.steps_folder import open_folder
    from launch.results.comparison import read_comparison

    # Resolved before the folder changes: every step's command then finds the same program.
    cli = check_plan(plan.recipe, plan.chosen, folder, given_cli)
    environ = {CLI_VARIABLE: str(cli)} if cli else {}
    renamed: list[tuple[Path, Path]] = []
    with (
        open_folder(folder, plan.steps, ctx.command_path, fresh=fresh, renamed=renamed) as opened,
        contextlib.chdir(folder),
        set_variables(environ),
    ):
        tell_renamed(renamed, opened.path)
        skipped = False
        for number, step in enumerate(plan.chosen, 1):
            echo(f"\n[{number}/{len(plan.chosen)}] {step.title} ({step.name})", bold=True)
            echo(f"$ {step.format()}")
            skipped = step.name not in plan.forced and opened.record.is_current(step)
            if skipped:
                echo("  is current: nothing to do")
                continue
            tell_renamed(opened.make_room(step), opened.path)
            run_command(step)
            opened.record.mark_done(step)
        echo("\nDone", bold=True)
        if skipped and plan.chosen[-1].name == "eval":
            print_comparison(read_comparison(Path(plan.chosen[-1].outputs[0])))


def run_command(step: "Step") -> None:
    """Run a step's command in this process, as `lfc` itself would: it shares the terminal, and starts at once.

    Raises: ChildFailedError with its exit code when that is not 0. A bug's own exception goes through.
    """
    try:
        ended = lfc.main(list(step.argv), prog_name="lfc", standalone_mode=False)
    except click.ClickException as error:
        echo_error(f"Error: {error.format_message()}")
        ended = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        ended = 130
    except SystemExit as end:
        ended = end.code if end.code is None or isinstance(end.code, int) else 1
    # Commands return nothing; a number is what `ctx.exit` was given.
    if ended is not None and ended != 0:
        code = ended if isinstance(ended, int) else 1
        how = "was interrupted" if code == 130 else f"ended with exit code {code}"
        raise ChildFailedError(
            f"step {step.name} {how}; nothing after it was started",
            exit_code=code,
            hint="the same command again: what is done is skipped",
        )


@contextlib.contextmanager
def set_variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the time of a block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def tell_renamed(renamed: "Sequence[tuple[Path, Path]]", folder: Path) -> None:
    """Say what stood in the way and was set aside."""
    for old, new in renamed:
        was, is_now = old.relative_to(folder), new.relative_to(folder)
        echo(f"Note: {was} is not as a step left it: it was renamed to {is_now}", err=True)


def show_plan(plan: Plan, folder: Path, given_cli: str | None) -> None:
    """Print the commands of steps, one a line, and check all that can be told before they run."""
    from launch.recipes.preflight import check_plan, try_downloads, try_sources

    echo("\n".join(step.format() for step in plan.chosen))
    check_plan(plan.recipe, plan.chosen, folder, given_cli)
    for note in try_sources(plan.recipe, plan.chosen) + try_downloads(plan.recipe, plan.chosen, folder):
        echo(f"Note: {note}", err=True)
