"""The root `lfc` command and the `lfc launch` group: parse, call, print. The only click in launch/."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prep import __version__
from prep.cli import FOLDER, INPUT_FILE, OUTPUT_FILE, force_option, json_option, prep, print_result
from prep.errors import UserError

if TYPE_CHECKING:
    from launch.config import Check
    from launch.evaluate import Comparison
    from launch.schema import Kind

NEXT_COMMANDS = """
Next, with your own data and model:
  lfc prep convert YOUR_DATA.jsonl -o data/mine.jsonl
  lfc prep register data/mine.jsonl --name mine --dataset-dir data
  lfc launch config new medical-hybrid model_name_or_path=Qwen/Qwen3-4B dataset=mine -o configs/mine.yaml
and then: lfc launch train configs/mine.yaml"""


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
    and the template follow its think policy and the model. What is written is checked, and what must still be
    mended before a run, such as a model that is not there yet, is said.

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
        click.echo(f"{'To mend' if fault.fatal else 'Note'}: `{fault.key}` {fault.message}", err=True)
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


cli_option = click.option(
    "--llamafactory-cli",
    "given_cli",
    envvar="LFC_LLAMAFACTORY_CLI",
    show_envvar=True,
    metavar="PROGRAM",
    help="The llamafactory-cli of another environment or checkout.",
)
name_option = click.option("--name", help="The run's folder under runs/; from the config's name if not given.")


@launch.command("train")
@click.argument("config_path", metavar="CONFIG", type=OUTPUT_FILE)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
@name_option
@click.option("--dry-run", is_flag=True, help="Print the command and start nothing.")
@cli_option
@json_option
def train(
    config_path: Path, pairs: tuple[str, ...], name: str | None, dry_run: bool, given_cli: str | None, as_json: bool
) -> None:
    """Train with llamafactory-cli, and keep config, command and log in runs/NAME.

    Ctrl-C is passed on to LLaMA-Factory; its exit code becomes that of this command.

    \b
    Examples:
      lfc launch train configs/medical.yaml
      lfc launch train configs/medical.yaml learning_rate=5e-5 --name medical-slow
    """
    from launch.command import build_llamafactory_command, find_llamafactory_cli
    from launch.config import read_run_config
    from launch.progress import read_trainer_log
    from launch.run import run_llamafactory

    config = read_run_config(config_path, pairs)
    cli = find_llamafactory_cli(given_cli)
    if dry_run:
        command = build_llamafactory_command(cli, "train", config_path, config.values, os.environ)
        click.echo(command.with_arguments(pairs).format())
        return
    folder = Path("runs", name or config_path.stem)
    output_dir = Path(str(config.values.get("output_dir", "")))
    trainer_log = output_dir / "trainer_log.jsonl"
    with show_training(trainer_log) as on_poll:
        seconds = run_llamafactory(cli, "train", config, folder, on_poll)
    losses = [entry["loss"] for entry in read_trainer_log(trainer_log) if entry.get("loss") is not None]
    first, last = (losses[0], losses[-1]) if losses else (None, None)
    print_result(
        {
            "run": folder.as_posix(),
            "output_dir": output_dir.as_posix(),
            "seconds": seconds,
            "steps": len(losses),
            "first_loss": first,
            "last_loss": last,
        },
        [
            ("loss", f"{first:.3f} → {last:.3f}, {len(losses)} log steps" if losses else "none was logged"),
            ("read from", str(trainer_log)),
            ("trained", str(output_dir)),
            ("whole log", str(folder / "log.txt")),
            ("seconds", f"{seconds:.0f}"),
        ],
        as_json=as_json,
        title=f"{config_path} trained",
    )


@launch.command("eval")
@click.argument("words", metavar="CONFIG... [KEY=VALUE]...", nargs=-1, required=True)
@click.option("--eval-dataset", help="The registered dataset of held-out rows.")
@click.option("--adapter", "adapters", multiple=True, type=FOLDER, help="Compare this one instead; may repeat.")
@click.option(
    "--tasks", metavar="NAME,...", help="Multiple-choice tasks of lm-evaluation-harness, such as mmlu,ceval."
)
@name_option
@cli_option
@json_option
def evaluate(
    words: tuple[str, ...],
    eval_dataset: str | None,
    adapters: tuple[Path, ...],
    tasks: str | None,
    name: str | None,
    given_cli: str | None,
    as_json: bool,
) -> None:
    """Compare the base model with what one or several trainings made of it, on held-out rows.

    CONFIG is a training config; all sides get its template, thinking flag and seed, and the base runs once.
    KEY=VALUE sets what the prediction runs take, such as max_new_tokens or do_sample; Qwen3's own sampling for the
    mode is the default. Answers are scored on what follows </think>. The scores of each row, and the rows that
    changed most, lie in runs/NAME.

    With --tasks, lm-evaluation-harness asks its multiple-choice questions instead; KEY=VALUE then sets its own
    options, such as num_fewshot, limit or include_path.

    \b
    Examples:
      lfc launch eval configs/medical.yaml --eval-dataset medical_test max_new_tokens=4096
      lfc launch eval configs/slow.yaml configs/fast.yaml --eval-dataset medical_test
      lfc launch eval configs/medical.yaml --adapter saves/Qwen3-4B/lora/medical --tasks mmlu,ceval-valid
    """
    from launch.config import parse_overrides, read_config
    from launch.evaluate import list_trained

    paths = [Path(word) for word in words if not is_setting(word)]
    configs = {path.stem: read_config(path) for path in paths}
    if not paths or len(configs) < len(paths) or bool(tasks) == bool(eval_dataset):
        raise click.UsageError(
            "give CONFIGs of different names, and either --eval-dataset NAME or --tasks NAME,..."
        )
    overrides = parse_overrides(word for word in words if is_setting(word))
    trained = list_trained(configs, adapters)
    folder = Path("runs", name or f"{paths[0].stem}-{'tasks' if tasks else 'eval'}")
    if tasks:
        ask_tasks(configs, trained, tasks.split(","), folder, overrides, as_json=as_json)
        return
    from launch.command import find_llamafactory_cli
    from launch.evaluate import evaluate as evaluate_rows
    from launch.evaluate import plan_entrants

    entrants = plan_entrants(configs, trained, str(eval_dataset), folder, overrides)
    result = evaluate_rows(find_llamafactory_cli(given_cli), entrants, folder, show_prediction)
    if as_json:
        print_result({"run": folder.as_posix(), **result.as_dict()}, [], as_json=True, title="")
    else:
        print_comparison(result)


def ask_tasks(
    configs: Mapping[str, Mapping[str, Any]],
    trained: Mapping[str, str],
    tasks: list[str],
    folder: Path,
    overrides: Mapping[str, Any],
    *,
    as_json: bool,
) -> None:
    """Let lm-evaluation-harness ask base and adapters, and print what it found."""
    from launch.command import find_lm_eval
    from launch.evaluate import check_shared_base
    from launch.harness import plan_task_runs, run_tasks

    lm_eval = find_lm_eval()
    check_shared_base(configs, overrides)
    entrants = plan_task_runs(next(iter(configs.values())), trained, tasks, folder, overrides)
    scores = run_tasks(lm_eval, entrants, folder, show_prediction)
    print_result(
        {
            "run": folder.as_posix(),
            "sides": {side: [row._asdict() for row in rows] for side, rows in scores.items()},
        },
        [
            ("", "", *scores),
            *(
                (row[0].task, row[0].metric, *(format_task_score(score.value, score.error) for score in row))
                for row in zip(*scores.values(), strict=True)
            ),
        ],
        as_json=as_json,
        title=f"lm-evaluation-harness, value ± standard error ({folder})",
    )


def format_task_score(value: float, error: float | None) -> str:
    """Return a figure of lm-evaluation-harness with its standard error."""
    return f"{value:.4f}" if error is None else f"{value:.4f} ± {error:.4f}"


def is_setting(word: str) -> bool:
    """Tell a KEY=VALUE from a config's path."""
    return word.partition("=")[0].isidentifier() and "=" in word and not Path(word).is_file()


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
@click.option(
    "--to",
    "folder",
    type=FOLDER,
    default="quickstart",
    show_default=True,
    help="The folder that everything lies in.",
)
@click.option("--fresh", is_flag=True, help="Throw away what an earlier quickstart made there, and start over.")
@click.option("--dry-run", is_flag=True, help="Print the commands and run none.")
@cli_option
@click.pass_context
def quickstart(ctx: click.Context, folder: Path, fresh: bool, dry_run: bool, given_cli: str | None) -> None:
    """Go the whole way on the bundled sample: from raw files to a trained and compared adapter.

    A tiny Qwen3 is trained by the real llamafactory-cli on the CPU, with no hub and no GPU. Each step is a command
    that you could type yourself; run again, steps whose command, inputs and outputs are unchanged are skipped.

    \b
    Examples:
      lfc quickstart
      lfc quickstart --to /tmp/try --fresh
    """
    from launch.command import find_llamafactory_cli
    from launch.evaluate import read_comparison
    from launch.quickstart import (
        COMPARISON,
        check_learning,
        clear_outputs,
        is_current,
        mark_done,
        plan_steps,
        prepare_folder,
    )

    steps = plan_steps()
    if dry_run:
        click.echo("\n".join(step.format() for step in steps))
        return
    # Resolved before the folder changes: every step's command then finds the same program.
    os.environ["LFC_LLAMAFACTORY_CLI"] = str(find_llamafactory_cli(given_cli))
    prepare_folder(folder, fresh=fresh)
    with contextlib.chdir(folder):
        here, step_was_skipped = Path(), False
        for number, step in enumerate(steps, 1):
            click.secho(f"\n[{number}/{len(steps)}] {step.title}", bold=True)
            click.echo(f"$ {step.format()}")
            step_was_skipped = is_current(step, here)
            if step_was_skipped:
                click.echo("  is current: nothing to do")
                continue
            clear_outputs(step, here)
            lfc.main(list(step.argv), prog_name="lfc", standalone_mode=False, parent=ctx)
            mark_done(step, here)
        click.secho("\nDone", bold=True)
        click.echo(f"  In {folder}: {check_learning(here)}.")
        if step_was_skipped:
            print_comparison(read_comparison(here / COMPARISON))
    click.echo(NEXT_COMMANDS)


def print_comparison(comparison: "Comparison") -> None:
    """Print the sides' figures, and how each moved from the base's with its 95 % interval."""
    from launch.scores import FIGURES

    heads = [
        part for side in comparison.sides for part in ((side.name, "change") if side.changes else (side.name,))
    ]
    rows = [
        (
            figure.name,
            *(
                part
                for side in comparison.sides
                for part in (
                    f"{side.figures[figure.name]:.2f}",
                    *([side.changes[figure.name].format()] if side.changes else []),
                )
            ),
            figure.meaning,
        )
        for figure in FIGURES
        if figure.name in comparison.sides[0].figures
    ]
    print_result(
        {},
        [("", *heads, ""), *rows],
        as_json=False,
        title=f"{comparison.rows} held-out rows, 0 to 100, after </think> ({comparison.folder})",
    )
    click.echo(
        "* the 95 % interval of the change excludes 0; rows that changed most: "
        f"{(comparison.folder / 'changed_rows.md').as_posix()}"
    )


@contextlib.contextmanager
def show_status(describe: Callable[[], str]) -> Iterator[Callable[[], None]]:
    """Show one line that changes on a terminal's stderr; elsewhere a line whenever a tenth more is done."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda: None
        return
    with console.status(describe()) as status:
        yield lambda: status.update(describe())


@contextlib.contextmanager
def show_training(trainer_log: Path) -> Iterator[Callable[[], None]]:
    """Show step, loss and time left of the run that writes `trainer_log`."""
    import time

    from launch.progress import describe_progress, read_progress

    started = time.time()

    def describe() -> str:
        progress = read_progress(trainer_log, since=started)
        return describe_progress(progress) if progress else f"starting LLaMA-Factory, {time.time() - started:.0f} s"

    with show_status(describe) as on_poll:
        yield on_poll


@contextlib.contextmanager
def show_prediction(side: str, log: Path) -> Iterator[Callable[[], None]]:
    """Show how many batches one side of a comparison has answered."""
    from launch.progress import read_bar

    def describe() -> str:
        bar = read_bar(log)
        return f"{side}: {bar[0]}/{bar[1]} batches" if bar else f"{side}: starting LLaMA-Factory"

    with show_status(describe) as on_poll:
        yield on_poll


lfc.add_command(prep)
lfc.add_command(launch)


def main() -> None:
    """Run `lfc`: the console script's entry."""
    lfc(prog_name="lfc")
