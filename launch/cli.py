"""The root `lfc` command and the `lfc launch` group: parse, call, print. The only click in launch/."""

import contextlib
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from launch.runs import RUNS, Run, RunFolder, RunState, read_run
from prep import __version__
from prep.cli import FOLDER, INPUT_FILE, OUTPUT_FILE, build_table, force_option, json_option, prep, print_result
from prep.errors import ChildFailedError, ConfigError, UserError

if TYPE_CHECKING:
    from launch.batch import BatchPlan, QueuedRun
    from launch.config import Check, RunConfig
    from launch.evaluate import Comparison
    from launch.schema import Kind
    from launch.steps import Step
    from launch.summary import RunSummary
    from launch.webui import Opened, Plan

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
    and the template follow its think policy and the model; `cutoff_len` follows the rows' lengths where the model
    is a folder on this machine. What is written is checked, and what must still be mended before a run, such as
    a model that is not there yet, is said.

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
        click.echo(f"{'To mend' if fault.fatal else 'Note'}: {fault.describe()}", err=True)
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
@click.option("--measure", is_flag=True, help="Measure the rows in the model's tokens, too: takes seconds.")
@click.option("--strict", is_flag=True, help="Refuse warnings too.")
@json_option
def config_check(path: Path, target: str, kind: "Kind | None", measure: bool, strict: bool, as_json: bool) -> None:
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

    check = check_config(path, choose_machine(target), kind, measure=measure)
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
        click.echo(f"{path}:{line}:{column}: {what}: {fault.describe()}")
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


@config.command("import")
@click.argument("saved", metavar="SAVED.yaml", type=OUTPUT_FILE)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
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
    from launch.config import parse_overrides, write_config
    from launch.webui import import_settings
    from prep.files import refuse_existing

    refuse_existing(output, force=force)
    imported = import_settings(saved, parse_overrides(pairs), keep_secrets=keep_secrets)
    write_config(output, imported.values, header=f"From the WebUI's {saved.as_posix()}")
    for note in imported.notes:
        click.echo(f"Note: {note}", err=True)
    told = ("model_name_or_path", "template", "dataset", "enable_thinking", "output_dir")
    print_result(
        {"config": output.as_posix(), "values": imported.values, "notes": imported.notes},
        [(key, format_setting(imported.values[key])) for key in told if key in imported.values],
        as_json=as_json,
        title=f"{output} from {saved}",
    )


@config.command("export")
@click.argument("config_path", metavar="CONFIG", type=OUTPUT_FILE)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
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
    from launch.webui import export_settings, read_request

    exported = export_settings(output, config_path, read_request(config_path, pairs, None), force=force)
    for note in exported.notes:
        click.echo(f"Note: {note}", err=True)
    told = ("top.model_name", "top.model_path", "top.template", "train.dataset", "train.extra_args")
    print_result(
        {"settings": output.as_posix(), "values": exported.values, "notes": exported.notes},
        [(key, format_setting(exported.values[key])) for key in told],
        as_json=as_json,
        title=f"{output} from {config_path}",
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
no_check_option = click.option("--no-check", is_flag=True, help="Start even if the check finds faults.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Print what would run, and start nothing.")


@launch.command("train")
@click.argument("config_path", metavar="CONFIG", type=OUTPUT_FILE)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
@name_option
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in output_dir.")
@click.option("--fresh", is_flag=True, help="Start over; what stands in output_dir is renamed, never deleted.")
@click.option("--detach", is_flag=True, help="Return at once; see `lfc launch attach`, `logs` and `stop`.")
@click.option("--gpus", metavar="0,1,...", help="The GPUs of this machine to train on, by torchrun if several.")
@click.option("--nnodes", type=click.IntRange(1), default=1, show_default=True, help="Machines that train as one.")
@click.option("--node-rank", type=click.IntRange(0), default=0, show_default=True, help="Which one this is.")
@click.option("--master-addr", metavar="ADDRESS", help="The first machine's address, for all.")
@click.option("--master-port", type=click.IntRange(1, 65535), help="Its port; a free one on a single machine.")
@click.option("--ray", is_flag=True, help="Let Ray place the workers; ray_num_workers stands in the config.")
@no_check_option
@dry_run_option
@cli_option
@json_option
@click.pass_context
def train(
    ctx: click.Context,
    /,
    config_path: Path,
    pairs: tuple[str, ...],
    name: str | None,
    resume: bool,
    fresh: bool,
    detach: bool,
    no_check: bool,
    dry_run: bool,
    given_cli: str | None,
    as_json: bool,
    **cluster: Any,
) -> None:
    """Train with llamafactory-cli: checked first, then one run in runs/NAME.

    Its folder keeps the exact config, the command, the log and the result. Ctrl-C lets LLaMA-Factory end the run
    by itself; its exit code becomes that of this command. Whether a run goes on or starts over is never guessed.

    \b
    Examples:
      lfc launch train configs/medical.yaml
      lfc launch train configs/medical.yaml learning_rate=5e-5 --name medical-slow
      lfc launch train configs/medical.yaml --resume --detach
      lfc launch train configs/zero3.yaml --gpus 0,1,2,3
    """
    from launch.command import Cluster, find_free_port
    from launch.config import read_run_config
    from launch.process import stop_signals_raise
    from launch.retry import set_aside
    from launch.run import begin_again, finish_run, start_llamafactory

    if resume and fresh:
        raise click.UsageError("--resume and --fresh exclude each other")
    config = read_run_config(config_path, pairs)
    output_dir = Path(str(config.values.get("output_dir", "")))
    folder = RUNS / (name or config_path.stem)
    cli = find_cli(given_cli)
    env = Cluster(**cluster).build_environment(find_free_port())
    if dry_run:
        print_dry_run(cli, "train", config_path, pairs, config, env)
        return
    if resume:
        config = resume_from(config, output_dir)
    if resume or fresh:
        folder = begin_again(folder)
    if fresh and (aside := set_aside(output_dir)):
        click.echo(f"Note: {output_dir} was renamed to {aside}", err=True)
    if not no_check:
        refuse_faults(ctx, config_path, config)
    with stop_signals_raise():
        run = start_llamafactory(cli, "train", config, folder, env)
        if detach:
            print_detached(run, as_json=as_json)
            return
        with show_training(output_dir / "trainer_log.jsonl") as on_poll:
            finish_run(run, on_poll)
    print_trained(read_run(run.path), as_json=as_json)


@launch.command("predict")
@click.argument("config_path", metavar="CONFIG", type=OUTPUT_FILE)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
@name_option
@no_check_option
@dry_run_option
@cli_option
@json_option
@click.pass_context
def predict(ctx: click.Context, /, config_path: Path, pairs: tuple[str, ...], **options: Any) -> None:
    """Answer the rows of a dataset with a prediction config, as one run.

    The answers are written to generated_predictions.jsonl in its output_dir.

    \b
    Example:
      lfc launch predict configs/medical-predict.yaml eval_dataset=medical_test
    """
    launch_action(ctx, "train", config_path, pairs, **options)


@launch.command("export")
@click.argument("config_path", metavar="CONFIG", type=OUTPUT_FILE)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
@name_option
@no_check_option
@dry_run_option
@cli_option
@json_option
@click.pass_context
def export(ctx: click.Context, /, config_path: Path, pairs: tuple[str, ...], **options: Any) -> None:
    """Merge an adapter into its model and write the whole to export_dir, as one run.

    \b
    Example:
      lfc launch export configs/medical-export.yaml export_dir=models/medical
    """
    launch_action(ctx, "export", config_path, pairs, **options)


@launch.command("chat")
@click.argument("config_path", metavar="CONFIG", type=OUTPUT_FILE)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
@dry_run_option
@cli_option
def chat(config_path: Path, pairs: tuple[str, ...], dry_run: bool, given_cli: str | None) -> None:
    """Talk to a model in this terminal.

    \b
    Example:
      lfc launch chat configs/infer.yaml adapter_name_or_path=saves/Qwen3-4B/lora/medical
    """
    run_in_terminal("chat", config_path, pairs, dry_run=dry_run, given_cli=given_cli)


@launch.command("api")
@click.argument("config_path", metavar="CONFIG", type=OUTPUT_FILE)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
@dry_run_option
@cli_option
def api(config_path: Path, pairs: tuple[str, ...], dry_run: bool, given_cli: str | None) -> None:
    """Serve a model with LLaMA-Factory's OpenAI-style API, until Ctrl-C.

    \b
    Example:
      API_PORT=8000 lfc launch api configs/infer.yaml
    """
    run_in_terminal("api", config_path, pairs, dry_run=dry_run, given_cli=given_cli)


@launch.command("batch")
@click.argument("paths", nargs=-1, type=OUTPUT_FILE, metavar="SWEEP.yaml|CONFIG...")
@click.option("--name", help="The batch's folder under runs/; from the first file's name if not given.")
@click.option("--gpus", metavar="0,1,...", help="One run a GPU at a time.")
@click.option("--slots", type=click.IntRange(1), default=1, show_default=True, help="Runs at a time without GPUs.")
@click.option(
    "--max-attempts",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Starts of one run, the first included.",
)
@click.option("--continue", "go_on", metavar="NAME", help="Go on with a batch that was begun.")
@no_check_option
@dry_run_option
@cli_option
@json_option
@click.pass_context
def batch(
    ctx: click.Context,
    paths: tuple[Path, ...],
    name: str | None,
    gpus: str | None,
    slots: int,
    max_attempts: int,
    go_on: str | None,
    no_check: bool,
    dry_run: bool,
    given_cli: str | None,
    as_json: bool,
) -> None:
    """Run a sweep, or several configs, through a queue: one run a GPU, the largest first.

    A sweep file names a `config` and changes it by `grid` (every combination), `zip` (paired lists), `runs`
    (named ones) and `set` (for all). A run that ran out of memory goes on with a smaller batch and more
    accumulation, one that was killed from its last checkpoint; a wrong config is not tried again. The state is
    the run folders alone: when this command dies, the runs go on, and --continue picks the queue up.

    \b
    Examples:
      lfc launch batch sweep.yaml --gpus 0,1,2,3
      lfc launch batch configs/a.yaml configs/b.yaml --gpus 0 --name overnight
      lfc launch batch --continue overnight
    """
    from launch.batch import plan_batch, read_batch, read_sweep

    if bool(go_on) == bool(paths):
        raise click.UsageError("name a sweep or configs, or --continue NAME")
    if go_on:
        plan = read_batch(go_on)
    else:
        name = name or paths[0].stem
        configs = read_sweep(paths, name)
        places = tuple(gpus.split(",")) if gpus else ("cpu",) * slots
        if not no_check:
            refuse_batch_faults(ctx, configs)
        if dry_run:
            print_result(
                {"runs": configs}, describe_configs(configs), as_json=as_json, title=f"{name}, {len(places)} slots"
            )
            return
        plan = plan_batch(name, configs, places, max_attempts)
    queue = watch_batch(plan, find_cli(given_cli))
    print_queue(plan, queue, as_json=as_json)
    if any(run.last is None or run.last.state is not RunState.FINISHED for run in queue):
        ctx.exit(1)


@launch.command("attach")
@click.argument("name")
def attach(name: str) -> None:
    """Watch a run that goes on in the background; Ctrl-C ends the watching, not the run.

    \b
    Example:
      lfc launch attach medical
    """
    from launch.process import describe_failure
    from launch.run import watch_run
    from launch.runs import find_run

    run = find_run(name)
    try:
        with show_training(run.trainer_log, since=0) as on_poll:
            watch_run(run.folder, on_poll)
    except KeyboardInterrupt:
        click.echo(f"\n{run.name} goes on: lfc launch stop {run.name} would stop it", err=True)
        return
    ended = find_run(name)
    if ended.exit_code:
        raise ChildFailedError(
            describe_failure(str(ended.plan["argv"][0]), ended.exit_code, ended.folder.log),
            exit_code=ended.exit_code,
        )
    print_trained(ended, as_json=False)


@launch.command("logs")
@click.argument("name")
@click.option("-n", "--lines", type=click.IntRange(1), help="The last lines alone.")
@click.option("-f", "--follow", is_flag=True, help="Go on printing until the run ends.")
def logs(name: str, lines: int | None, follow: bool) -> None:
    """Print what LLaMA-Factory printed in a run.

    \b
    Examples:
      lfc launch logs medical -n 50
      lfc launch logs medical --follow
    """
    from launch.run import follow_log
    from launch.runs import find_run

    for block in follow_log(find_run(name).folder, lines=lines, follow=follow):
        click.echo(block, nl=False)


@launch.command("stop")
@click.argument("names", nargs=-1, required=True)
def stop(names: tuple[str, ...]) -> None:
    """Stop runs as Ctrl-C would, and wait until nothing of them is left; a batch's name stops all of its runs.

    \b
    Example:
      lfc launch stop medical overnight
    """
    from launch.batch import PLAN_FILE, read_batch, stop_batch
    from launch.run import stop_run
    from launch.runs import find_run

    for name in names:
        if (RUNS / name / PLAN_FILE).is_file():
            stop_batch(read_batch(name))
        else:
            stop_run(find_run(name).folder)
        click.echo(f"{name}: stopped")


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


@launch.command("runs")
@json_option
def runs_table(as_json: bool) -> None:
    """List all runs, the newest first: state, losses, score, time, data and flags.

    They are those of the terminal in runs/, and those that were started in the WebUI in saves/.

    The best loss is that on validation rows where there are any. The score is that of the newest evaluation; a
    star means that the 95 % interval of its change from the base excludes 0.

    \b
    Example:
      lfc launch runs
    """
    from launch.summary import summarise_all

    summaries = summarise_all()
    rows = [describe_run(summary) for summary in summaries]
    print_result(
        {"runs": [summary.as_dict() for summary in summaries]},
        [("run", "kind", "state", "best loss", "last loss", "score", "time", "data", "flags"), *rows]
        if rows
        else [("no run yet",)],
        as_json=as_json,
        title=f"{len(rows)} runs",
    )


def describe_run(summary: "RunSummary") -> tuple[str, ...]:
    """Return a run as one line of the table."""
    from launch.summary import format_seconds

    return (
        summary.run.name,
        summary.kind,
        str(summary.run.state),
        format_loss(summary.best_loss),
        format_loss(summary.last_loss),
        summary.score.format() if summary.score else "",
        format_seconds(summary.run.seconds),
        ", ".join(source for data in summary.data for source in data.sources or (data.name,)),
        "; ".join(summary.flags),
    )


def format_loss(loss: float | None) -> str:
    """Return a loss to four digits, nothing when none was logged."""
    return "" if loss is None else f"{loss:.4g}"


@launch.command("compare")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@json_option
def compare(first: str, second: str, as_json: bool) -> None:
    """Compare two runs: losses and scores side by side, and the config keys on which they differ.

    \b
    Example:
      lfc launch compare medical medical-slow
    """
    from launch.config import diff_values
    from launch.runs import find_run
    from launch.summary import list_figures, summarise_runs

    pair = summarise_runs([find_run(first), find_run(second)])
    differing = diff_values(pair[0].run.values, pair[1].run.values)
    names = ("run", "kind", "state", "best loss", "last loss", "score", "time", "data", "flags")
    told = list(zip(names, *map(describe_run, pair), strict=True))
    figures = list_figures(summary.score.side for summary in pair if summary.score)
    rows = [
        ("", *told[0][1:]),
        *(row for row in told[1:] if any(row[1:])),
        *((figure, *(format_figure(summary, figure) for summary in pair)) for figure in figures),
        *(
            (key, *("(not set)" if side is ... else format_setting(side) for side in sides))
            for key, sides in differing.items()
        ),
    ]
    settings = {key: [None if side is ... else side for side in sides] for key, sides in differing.items()}
    print_result(
        {"a": pair[0].as_dict(), "b": pair[1].as_dict(), "config": settings},
        rows,
        as_json=as_json,
        title=f"{first} and {second}: {len(differing)} config keys differ",
    )


def format_figure(summary: "RunSummary", name: str) -> str:
    """Return one figure of a run's evaluation with its change from the base."""
    if summary.score is None or name not in summary.score.side.figures:
        return ""
    change = summary.score.side.changes.get(name)
    return f"{summary.score.side.figures[name]:.2f}" + (f"  {change.format()}" if change else "")


@launch.command("report")
@click.argument("name")
@click.option("-o", "--output", type=OUTPUT_FILE, help="The page to write; runs/NAME.html if not given.")
@json_option
def report(name: str, output: Path | None, as_json: bool) -> None:
    """Write one HTML page of a run or a batch, to read offline and to pass on.

    Loss curves, scores with their intervals, what the config sets otherwise than its preset, where the data came
    from, answers side by side, and what was flagged. The page loads nothing and runs no script.

    \b
    Example:
      lfc launch report medical -o medical.html
    """
    from launch.report import write_report

    path = write_report(name, output)
    print_result(
        {"report": path.as_posix(), "bytes": path.stat().st_size},
        [("open", path.absolute().as_uri()), ("bytes", f"{path.stat().st_size:,}")],
        as_json=as_json,
        title=f"report of {name}",
    )


@launch.command("webui")
@click.argument("config_path", metavar="[CONFIG]", type=OUTPUT_FILE, required=False)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--dataset-dir", type=FOLDER, help="Holds dataset_info.json; the config's own if not given.")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 opens the page to the network.")
@click.option("--port", type=click.IntRange(1, 65_535), help="The first free one from 7860 on if not given.")
@click.option("--share", is_flag=True, help="Have gradio make a public link.")
@click.option("--lang", type=click.Choice(["en", "zh", "ru", "ko", "ja"]), help="The locale's if not given.")
@click.option("--name", help="The saved settings' name in llamaboard_config/; the config's if not given.")
@click.option("--no-browser", is_flag=True, help="Print the address, and open nothing.")
@click.option("--scrub", is_flag=True, help="Empty API keys and tokens in saved settings first.")
@force_option
@dry_run_option
@cli_option
def webui(config_path: Path | None, pairs: tuple[str, ...], dataset_dir: Path | None, **options: Any) -> None:
    """Open LLaMA-Factory's WebUI with everything of CONFIG filled in.

    CONFIG is the YAML that `lfc launch train` takes, or settings saved in the WebUI. Datasets, model, ports and
    proxies are checked first. Ctrl-C asks a running training to save and stop, and then ends the page.

    \b
    Examples:
      lfc launch webui configs/medical.yaml
      lfc launch webui configs/medical.yaml lora_rank=32 --lang zh --port 8000
      lfc launch webui configs/medical.yaml --dry-run
    """
    from launch.llamaboard_files import find_secrets, scrub_secrets
    from launch.webui import Address, Request, plan_webui, read_request, serve_webui, write_plan

    if options["scrub"] and not options["dry_run"]:
        for path, keys in find_secrets(Path()).items():
            scrub_secrets(path)
            click.echo(f"{path}: {', '.join(keys)} emptied", err=True)
    values = read_request(config_path, pairs, dataset_dir)
    request = Request(config_path, values, options["name"], options["lang"], options["force"])
    address = Address(options["host"], options["port"], options["share"])
    plan = plan_webui(request, address, find_cli(options["given_cli"]), os.environ)
    for note in plan.notes:
        click.echo(f"Note: {note}", err=True)
    if options["dry_run"]:
        print_webui_plan(plan)
        return
    write_plan(plan)
    click.echo("Starting LLaMA-Factory's WebUI …", err=True)
    with contextlib.suppress(KeyboardInterrupt):
        serve_webui(plan, lambda opened: show_page(opened, plan, browser=not options["no_browser"]), tell_stop)
    click.echo("The WebUI has ended.", err=True)


def print_webui_plan(plan: "Plan") -> None:
    """Print what `lfc launch webui` would write and start."""
    import yaml

    from launch.command import Command, is_secret

    if plan.settings is not None:
        click.echo(f"# {plan.settings.as_posix()}")
        click.echo(yaml.safe_dump(plan.page, allow_unicode=True, sort_keys=False))
    click.echo("# llamaboard_cache/user_config.yaml")
    click.echo(yaml.safe_dump(plan.user_config, allow_unicode=True, sort_keys=False))
    shown = {name: "***" if is_secret(name) else value for name, value in plan.command.env.items()}
    click.echo(f"# {plan.url}\n{Command(plan.command.argv, shown).format()}")


def show_page(opened: "Opened", plan: "Plan", *, browser: bool) -> None:
    """Print the address of a page that answers, and open it."""
    import webbrowser

    from launch.webui import LOAD_BUTTONS, can_open_browser

    click.echo(f"WebUI: {opened.url}")
    if opened.public_url:
        click.echo(f"Public link: {opened.public_url}")
    if plan.settings is not None and opened.is_filled:
        click.echo(f"Everything of {plan.settings.as_posix()} is filled in.")
    elif plan.settings is not None:
        button = LOAD_BUTTONS[plan.language]
        click.echo(f"Choose {plan.settings.name} as its config path and press [{button}]: {opened.reason}.")
    click.echo("Ctrl-C ends it; a running training saves first.", err=True)
    if browser and can_open_browser(os.environ):
        webbrowser.open(opened.url)


def tell_stop() -> None:
    """Say that the WebUI was asked to end."""
    click.echo("Ending: a running training saves first. Ctrl-C again ends it at once, unsaved.", err=True)


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


fresh_option = click.option("--fresh", is_flag=True, help="Throw away what an earlier run made there; start over.")


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
        click.echo(f"In {folder}: {check_learning(Path(output_dir, 'trainer_log.jsonl'))}.")
    click.echo(NEXT_COMMANDS)


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
            click.secho(f"\n[{number}/{len(steps)}] {step.title} ({step.name})", bold=True)
            click.echo(f"$ {step.format()}")
            skipped = step.name not in forced and done.is_current(step)
            if skipped:
                click.echo("  is current: nothing to do")
                continue
            done.clear_outputs(step)
            lfc.main(list(step.argv), prog_name="lfc", standalone_mode=False, parent=ctx)
            done.mark_done(step)
        click.secho("\nDone", bold=True)
        if skipped and steps[-1].name == "eval":
            print_comparison(read_comparison(Path(steps[-1].outputs[0])))


def print_steps(steps: "Sequence[Step]") -> None:
    """Print the commands of steps, one a line."""
    click.echo("\n".join(step.format() for step in steps))


def find_cli(given: str | None) -> Path:
    """Return the llamafactory-cli to run; raises StackError when there is none."""
    from launch.command import find_llamafactory_cli

    return find_llamafactory_cli(given)


def refuse_faults(ctx: click.Context, path: Path, config: "RunConfig") -> None:
    """Print what is wrong with a config to stderr, and end with exit code 1 when it cannot work."""
    from launch.config import check_values, guess_kind
    from launch.rules import choose_machine

    faults = check_values(config.values, guess_kind(config.values), choose_machine("here"), path)
    for fault in faults:
        what = "error" if fault.fatal else "warning"
        click.echo(f"{path}: {what}: {f'`{fault.key}` ' if fault.key else ''}{fault.message}", err=True)
        click.echo(f"  Try: {fault.mend}", err=True)
    if any(fault.fatal for fault in faults):
        click.echo(f"Error: {path} cannot work as it stands; nothing was started", err=True)
        ctx.exit(1)


def refuse_batch_faults(ctx: click.Context, configs: Mapping[str, dict[str, Any]]) -> None:
    """Check every config of a batch before the first one starts."""
    from launch.config import RunConfig

    for name, values in configs.items():
        refuse_faults(ctx, Path(name), RunConfig(values, ""))


def resume_from(config: "RunConfig", output_dir: Path) -> "RunConfig":
    """Return the config that goes on from the last checkpoint; raises ConfigError when there is none."""
    from launch.config import RunConfig, format_config
    from launch.retry import find_checkpoint, resume

    if find_checkpoint(output_dir) is None:
        raise ConfigError(f"{output_dir} holds no whole checkpoint to resume from", hint="--fresh starts over")
    values = resume(config.values)
    return RunConfig(values, format_config(values, header=f"Resumed from {values['resume_from_checkpoint']}"))


def launch_action(
    ctx: click.Context,
    action: str,
    config_path: Path,
    pairs: tuple[str, ...],
    *,
    name: str | None,
    no_check: bool,
    dry_run: bool,
    given_cli: str | None,
    as_json: bool,
) -> None:
    """Run an action other than training to its end, with its progress bar."""
    from launch.config import read_run_config
    from launch.run import run_llamafactory

    config = read_run_config(config_path, pairs)
    cli = find_cli(given_cli)
    if dry_run:
        print_dry_run(cli, action, config_path, pairs, config)
        return
    if not no_check:
        refuse_faults(ctx, config_path, config)
    folder = RUNS / (name or config_path.stem)
    with show_prediction(action, folder / "log.txt") as on_poll:
        seconds = run_llamafactory(cli, action, config, folder, on_poll)
    made = str(config.values.get("export_dir") or config.values.get("output_dir"))
    print_result(
        {"run": folder.as_posix(), "made": made, "seconds": seconds},
        [("made", made), ("whole log", str(folder / "log.txt")), ("seconds", f"{seconds:.0f}")],
        as_json=as_json,
        title=f"{config_path} done",
    )


def run_in_terminal(
    action: str, config_path: Path, pairs: tuple[str, ...], *, dry_run: bool, given_cli: str | None
) -> None:
    """Run an action that talks to the user or serves until Ctrl-C; its exit code becomes ours."""
    from launch.command import build_llamafactory_command
    from launch.config import read_run_config
    from launch.gpu import read_gpus
    from launch.process import run_interactive

    config = read_run_config(config_path, pairs)
    cli = find_cli(given_cli)
    if dry_run:
        print_dry_run(cli, action, config_path, pairs, config)
        return
    gpus = read_gpus().gpus or ()
    command = build_llamafactory_command(cli, action, config_path, config.values, os.environ, gpus)
    click.get_current_context().exit(run_interactive(command.with_arguments(pairs)))


def print_dry_run(
    cli: Path,
    action: str,
    path: Path,
    pairs: tuple[str, ...],
    config: "RunConfig",
    env: Mapping[str, str] | None = None,
) -> None:
    """Print the command of a run, ready to paste; `env` is what it gets on top of the user's variables."""
    from launch.command import build_llamafactory_command
    from launch.gpu import read_gpus

    gpus = read_gpus().gpus or ()
    environ = {**os.environ, **(env or {})}
    command = build_llamafactory_command(cli, action, path, config.values, environ, gpus)
    click.echo(command.with_env(env or {}).with_arguments(pairs).format())


def print_detached(run: RunFolder, *, as_json: bool) -> None:
    """Say how to get back to a run that goes on in the background."""
    name = run.path.relative_to(RUNS).as_posix()
    print_result(
        {"run": run.path.as_posix()},
        [
            ("watch", f"lfc launch attach {name}"),
            ("log", f"lfc launch logs {name}"),
            ("stop", f"lfc launch stop {name}"),
        ],
        as_json=as_json,
        title=f"{run.path} runs in the background",
    )


def print_trained(run: Run, *, as_json: bool) -> None:
    """Print what a finished training run made, and what its own log says of the loss."""
    from launch.progress import read_trainer_log

    losses = [entry["loss"] for entry in read_trainer_log(run.trainer_log) if entry.get("loss") is not None]
    first, last = (losses[0], losses[-1]) if losses else (None, None)
    rows = [
        ("loss", f"{first:.3f} → {last:.3f}, {len(losses)} log steps" if losses else "none was logged"),
        ("read from", str(run.trainer_log)),
        ("trained", str(run.output_dir)),
        ("whole log", str(run.folder.log)),
        ("seconds", f"{run.seconds or 0:.0f}"),
        *(("flag", flag) for flag in run.flags),
    ]
    result = {
        "run": run.path.as_posix(),
        "state": run.state.value,
        "output_dir": run.output_dir.as_posix(),
        "seconds": run.seconds,
        "first_loss": first,
        "last_loss": last,
        "flags": run.flags,
    }
    print_result(result, rows, as_json=as_json, title=f"{run.path} {run.state.value}")


def watch_batch(plan: "BatchPlan", cli: Path) -> "list[QueuedRun]":
    """Work a batch's queue off with a live table; Ctrl-C asks once, then stops all runs cleanly."""
    from launch.batch import run_batch, stop_batch

    while True:
        try:
            with show_queue(plan) as on_poll:
                return run_batch(plan, cli, on_poll)
        except KeyboardInterrupt:
            asks = sys.stdin.isatty()
            if not asks or click.confirm("\nStop all runs? Otherwise the batch goes on", default=True, err=True):
                stop_batch(plan)
                raise


@contextlib.contextmanager
def show_queue(plan: "BatchPlan") -> "Iterator[Callable[[list[QueuedRun]], None]]":
    """Show where every run stands: a live table on a terminal, one line for each change elsewhere."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    seen: dict[str, str] = {}
    if console.is_terminal:
        with Live(console=console, transient=True, auto_refresh=False) as live:
            yield lambda queue: live.update(
                build_table(describe_queue(queue), plan.folder.as_posix()), refresh=True
            )
        return

    def tell_changes(queue: "list[QueuedRun]") -> None:
        for run in queue:
            state = describe_state(run)
            if seen.get(run.planned.name) != state:
                seen[run.planned.name] = state
                console.print(f"{run.planned.name}: {state}", highlight=False)

    yield tell_changes


def describe_queue(queue: "Sequence[QueuedRun]") -> list[tuple[str, ...]]:
    """Return a table row for each run of a batch."""
    from launch.progress import describe_progress, read_progress

    rows: list[tuple[str, ...]] = []
    for run in queue:
        progress = read_progress(run.last.trainer_log) if run.last else None
        line = describe_progress(progress) if progress else ""
        rows.append((run.planned.name, describe_state(run), line))
    return rows


def describe_state(run: "QueuedRun") -> str:
    """Return one run's state in words, with its attempts and why the last one ended."""
    if run.last is None:
        return "queued"
    attempt = f", attempt {len(run.attempts)}" if len(run.attempts) > 1 else ""
    cause = f" ({run.cause})" if run.cause else ""
    again = ", will be tried again" if run.next_values is not None else ""
    return f"{run.last.state}{cause}{attempt}{again}"


def print_queue(plan: "BatchPlan", queue: "Sequence[QueuedRun]", *, as_json: bool) -> None:
    """Print how a batch ended."""
    result = [
        {
            "run": run.planned.name,
            "state": run.last.state.value if run.last else "queued",
            "attempts": len(run.attempts),
            "cause": run.cause.value if run.cause else None,
            "folder": run.last.path.as_posix() if run.last else None,
            "output_dir": str(run.planned.values.get("output_dir")),
        }
        for run in queue
    ]
    print_result(
        {"batch": plan.folder.as_posix(), "runs": result},
        describe_queue(queue),
        as_json=as_json,
        title=f"{plan.folder}",
    )


def describe_configs(configs: Mapping[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return a table row for each config of a batch: its name and output folder."""
    return [(name, str(values.get("output_dir"))) for name, values in configs.items()]


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
def show_training(trainer_log: Path, since: float | None = None) -> Iterator[Callable[[], None]]:
    """Show step, loss and time left of the run that writes `trainer_log` from `since` on, now if not given."""
    import time

    from launch.progress import describe_progress, read_progress

    started = time.time()

    def describe() -> str:
        progress = read_progress(trainer_log, since=started if since is None else since)
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


@lfc.command("doctor")
@click.option("--llamafactory-cli", "given_cli", envvar="LFC_LLAMAFACTORY_CLI", help="The one to look into.")
@click.option("--quick", is_flag=True, help="Leave out the imports, which take most of a minute.")
@json_option
def doctor(given_cli: str | None, quick: bool, as_json: bool) -> None:
    """Find out whether training can work here, and say what mends it.

    Looks at Python, GPU and driver, disk, ports, proxies and caches; at the installed versions against the
    tested set and against what llamafactory and unsloth declare; at pairs known to break; and really imports
    each package in a child process. Exit code 1 when training cannot work.

    \b
    Examples:
      lfc doctor
      lfc doctor --quick --json
    """
    from launch.stack import examine

    def say(step: str) -> None:
        click.echo(f"looking at {step}", err=True)

    findings = examine(given_cli, quick=quick, on_step=say)
    broken = any(finding.status == "error" for finding in findings)
    if as_json:
        result = {"can_train": not broken, "findings": [asdict(finding) for finding in findings]}
        print_result(result, [], as_json=True, title="")
    else:
        for finding in findings:
            click.echo(f"{finding.status:8}{finding.what}: {finding.message}")
            if finding.mend:
                click.echo(f"          Try: {finding.mend}")
        click.echo("training cannot work here yet" if broken else "training can work here")
    if broken:
        click.get_current_context().exit(1)


lfc.add_command(prep)
lfc.add_command(launch)


def main() -> None:
    """Run `lfc`: the console script's entry."""
    lfc(prog_name="lfc")
