"""One run: `lfc launch train`, `predict`, `export`, `chat`, `api`, and `attach`, `logs`, `stop`."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from launch.cli.options import cli_option, dry_run_option, find_cli, name_option, no_check_option, refuse_faults
from launch.cli.root import launch
from launch.cli.show import show_prediction, show_training
from launch.runs import RUNS, Run, RunFolder, read_run
from prep.cli import OUTPUT_FILE, json_option
from prep.cli.output import echo, print_result
from prep.errors import ChildFailedError, ConfigError
from prep.secrets import mask_text
from prep.terminal import neutralise_log

if TYPE_CHECKING:
    from launch.config import RunConfig


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
    from launch.retry import refuse_to_guess, set_aside
    from launch.run import begin_again, run_llamafactory, start_llamafactory

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
    elif not fresh:
        refuse_to_guess(config.values, hint="--resume, --fresh, or another output_dir=FOLDER")
    if resume or fresh:
        folder = begin_again(folder)
    if fresh and (aside := set_aside(output_dir)):
        echo(f"Note: {output_dir} was renamed to {aside}", err=True)
    if not no_check:
        refuse_faults(ctx, config_path, config, env)
    if detach:
        with stop_signals_raise():
            run = start_llamafactory(cli, "train", config, folder, env)
        print_detached(run, as_json=as_json)
        return
    # The view opens first: once the run has begun, nothing may come between it and who would stop it.
    with show_training(output_dir / "trainer_log.jsonl") as on_poll:
        run_llamafactory(cli, "train", config, folder, on_poll, env)
    print_trained(read_run(folder), as_json=as_json)


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
@no_check_option
@dry_run_option
@cli_option
@click.pass_context
def chat(ctx: click.Context, /, config_path: Path, pairs: tuple[str, ...], **options: Any) -> None:
    """Talk to a model in this terminal.

    \b
    Example:
      lfc launch chat configs/infer.yaml adapter_name_or_path=saves/Qwen3-4B/lora/medical
    """
    run_in_terminal(ctx, "chat", config_path, pairs, **options)


@launch.command("api")
@click.argument("config_path", metavar="CONFIG", type=OUTPUT_FILE)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 opens the API to the network.")
@click.option("--port", type=click.IntRange(1, 65_535), default=8000, show_default=True, help="Where it listens.")
@no_check_option
@dry_run_option
@cli_option
@click.pass_context
def api(
    ctx: click.Context, /, config_path: Path, pairs: tuple[str, ...], host: str, port: int, **options: Any
) -> None:
    """Serve a model with LLaMA-Factory's OpenAI-style API, until Ctrl-C.

    The variable API_KEY, when it is set, is the key that every request must bring.

    \b
    Example:
      lfc launch api configs/infer.yaml --port 8000
    """
    from launch.network import choose_port

    if not options["dry_run"]:
        choose_port(host, port)
        echo(f"API: http://{host}:{port}/v1, once LLaMA-Factory has loaded the model", err=True)
    run_in_terminal(ctx, "api", config_path, pairs, {"API_HOST": host, "API_PORT": str(port)}, **options)


@launch.command("attach")
@click.argument("name")
def attach(name: str) -> None:
    """Watch a run that goes on in the background; Ctrl-C ends the watching, not the run.

    \b
    Example:
      lfc launch attach medical
    """
    from launch.private import read_known_secrets
    from launch.process import describe_failure
    from launch.run import watch_run
    from launch.runs import find_run

    run = find_run(name)
    try:
        with show_training(run.trainer_log, since=0) as on_poll:
            watch_run(run.folder, on_poll)
    except KeyboardInterrupt:
        echo(f"\n{run.name} goes on: lfc launch stop {run.name} would stop it", err=True)
        return
    ended = find_run(name)
    if ended.exit_code:
        message = describe_failure(str(ended.plan["argv"][0]), ended.exit_code, ended.folder.log)
        raise ChildFailedError(
            mask_text(message, read_known_secrets(ended.folder.config)), exit_code=ended.exit_code
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
    from launch.private import read_known_secrets
    from launch.run import follow_log
    from launch.runs import find_run

    run = find_run(name).folder
    secrets = read_known_secrets(run.config)
    for block in join_lines(follow_log(run, lines=lines, follow=follow)):
        echo(mask_text(neutralise_log(block), secrets), nl=False)


def join_lines(blocks: Iterable[str]) -> Iterator[str]:
    """Yield blocks that end where a line ends: what stands across two of them is seen whole."""
    rest = ""
    for block in blocks:
        rest += block
        end = max(rest.rfind("\n"), rest.rfind("\r")) + 1
        if end:
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest


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
        echo(f"{name}: stopped")


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
    ctx: click.Context,
    action: str,
    config_path: Path,
    pairs: tuple[str, ...],
    env: Mapping[str, str] | None = None,
    *,
    no_check: bool,
    dry_run: bool,
    given_cli: str | None,
) -> None:
    """Run an action that talks to the user or serves until Ctrl-C; its exit code becomes ours."""
    from launch.command import build_llamafactory_command
    from launch.config import parse_overrides, read_run_config
    from launch.gpu import read_gpus
    from launch.private import private_config
    from launch.process import run_interactive
    from prep.secrets import holds_secret

    config = read_run_config(config_path, pairs)
    cli = find_cli(given_cli)
    if dry_run:
        print_dry_run(cli, action, config_path, pairs, config, env)
        return
    if not no_check:
        refuse_faults(ctx, config_path, config, env)
    gpus = read_gpus().gpus or ()
    if not holds_secret(parse_overrides(pairs)):
        command = build_llamafactory_command(cli, action, config_path, config.values, os.environ, gpus)
        ctx.exit(run_interactive(command.with_env(env or {}).with_arguments(pairs)))
    # All users of a machine can see a process's arguments.
    with private_config(config.values) as private:
        command = build_llamafactory_command(cli, action, private, config.values, os.environ, gpus)
        exit_code = run_interactive(command.with_env(env or {}))
    ctx.exit(exit_code)


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
    echo(command.with_env(env or {}).with_arguments(pairs).format())


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
