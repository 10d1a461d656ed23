"""`lfc launch train`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launch.cli.completion import complete_pairs
from launch.cli.notify import StallTeller, describe_run_end, notify_option, open_notifier, tell_end
from launch.cli.options import (
    boost_option,
    cli_option,
    dry_run_option,
    find_cli,
    name_option,
    no_check_option,
    read_boost_option,
    read_gpu_option,
    refuse_faults,
    rehearse_option,
)
from launch.cli.show import print_detached, print_dry_run, print_trained, show_training
from launch.cli.tokens import make_once, tell_tokens, tokenize_option
from launch.cli.track import add_tracking, list_tracking_variables
from launch.runs.folder import choose_run_folder, read_run
from prep.cli.options import OUTPUT_FILE, json_option
from prep.cli.output import echo
from prep.errors import ConfigError

if TYPE_CHECKING:
    from launch.configs.config import RunConfig
    from launch.machine.command import Cluster
    from launch.notify.notifier import Notifier
    from launch.runs.folder import RunFolder


@click.command("train")
@click.argument("config_path", metavar="CONFIG", type=OUTPUT_FILE)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=complete_pairs())
@name_option
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in output_dir.")
@click.option("--fresh", is_flag=True, help="Start over; what stands in output_dir is renamed, never deleted.")
@boost_option
@rehearse_option
@tokenize_option
@click.option("--detach", is_flag=True, help="Return at once; see `lfc launch attach`, `logs` and `stop`.")
@click.option("--gpus", metavar="0,1,...", help="The GPUs of this machine to train on, by torchrun if several.")
@click.option("--nnodes", type=click.IntRange(1), default=1, show_default=True, help="Machines that train as one.")
@click.option("--node-rank", type=click.IntRange(0), default=0, show_default=True, help="Which one this is.")
@click.option("--master-addr", metavar="ADDRESS", help="The first machine's address, for all.")
@click.option("--master-port", type=click.IntRange(1, 65535), help="Its port; a free one on a single machine.")
@click.option("--ray", is_flag=True, help="Let Ray place the workers; ray_num_workers stands in the config.")
@no_check_option
@notify_option
@dry_run_option
@cli_option
@json_option
@click.pass_context
def train(
    ctx: click.Context,
    config_path: Path,
    pairs: tuple[str, ...],
    name: str | None,
    resume: bool,
    fresh: bool,
    boost: bool,
    rehearse: bool,
    tokenize: bool,
    detach: bool,
    no_check: bool,
    addresses: tuple[str, ...],
    dry_run: bool,
    given_cli: str | None,
    as_json: bool,
    gpus: str | None,
    nnodes: int,
    node_rank: int,
    master_addr: str | None,
    master_port: int | None,
    ray: bool,
) -> None:
    """Train with llamafactory-cli: checked first, then one run in runs/NAME.

    Its folder keeps the exact config, the command, the log and the result. Ctrl-C lets LLaMA-Factory end the run
    by itself; its exit code becomes that of this command. Whether a run goes on or starts over is never guessed.

    \b
    Examples:
      lfc launch train configs/medical.yaml
      lfc launch train configs/medical.yaml learning_rate=5e-5 --name medical-slow
      lfc launch train configs/medical.yaml --resume --detach
      lfc launch train configs/medical.yaml --boost
      lfc launch train configs/medical.yaml --rehearse
      lfc launch train configs/zero3.yaml --gpus 0,1,2,3
    """
    from launch.batches.retry import refuse_to_guess, refuse_working_folder
    from launch.configs.config import read_run_config
    from launch.machine.command import Cluster
    from launch.machine.network import find_free_port
    from launch.runs.backends.local import start_supervisor
    from launch.runs.claims import share_gpus, starting
    from launch.runs.process import stop_signals_raise
    from launch.runs.run import check_start, next_attempt_folder, prepare_llamafactory, refuse_taken_run

    refuse_together(resume and fresh, "--resume and --fresh exclude each other")
    refuse_together(
        detach and bool(addresses), "--detach goes without --notify: lfc launch attach NAME --notify URL"
    )
    cluster = Cluster(gpus, nnodes, node_rank, master_addr, master_port, ray)
    refuse_other_rank(cluster)
    notifier, config = open_notifier(addresses), read_run_config(config_path, pairs)
    output_dir = Path(str(config.values.get("output_dir") or ""))
    folder, cli = choose_run_folder(name, config_path), find_cli(given_cli)
    read_gpu_option(gpus, any_number=no_check)
    env = cluster.build_environment(find_free_port()) | read_boost_option(boost) | share_gpus(no_check)
    if resume:
        config = resume_from(config, output_dir)
    elif not fresh:
        refuse_to_guess(config.values, hint="--resume, --fresh, or another output_dir=FOLDER")
    config = add_tracking(config, cli, folder.name)
    if resume or fresh:
        folder = next_attempt_folder(folder)
    refuse_taken_run(folder)
    if fresh and config.values.get("output_dir"):
        refuse_working_folder(output_dir)
    if not no_check:
        refuse_faults(ctx, config_path, config, env)
    check_start(cli, "train", config.values, folder, env)
    if dry_run:
        tell_tokens([config.values], wanted=tokenize, machines=nnodes)
        pairs = (*pairs, *list_changes(pairs, config_path, config))
        print_dry_run(cli, "train", config_path, pairs, config, env | list_tracking_variables())
        return
    with stop_signals_raise():
        config = make_once(config, wanted=tokenize, machines=nnodes)
        config = rehearse_config(config, cli, env, wanted=rehearse)
        with starting():
            check_start(cli, "train", config.values, folder, env)
            if fresh and config.values.get("output_dir"):
                move_aside(output_dir)
            run = prepare_llamafactory(cli, "train", config, folder, env)
        if detach:
            start_supervisor(run)
            print_detached(run, as_json=as_json)
        else:
            with tell_end(notifier, lambda: describe_run_end(folder)):
                watch_training(run, output_dir, notifier)
            print_trained(read_run(folder), as_json=as_json)


def rehearse_config(config: "RunConfig", cli: Path, env: Mapping[str, str], *, wanted: bool) -> "RunConfig":
    """Return the config with the largest batch that fits, where that is wanted; raises ConfigError for none."""
    from launch.cli.rehearse import rehearse_values
    from launch.configs.config import RunConfig, format_config
    from launch.machine.command import is_boosted

    if not wanted:
        return config
    boosted = is_boosted("train", config.values, {**os.environ, **env})
    values = rehearse_values(config.values, cli, is_boosted=boosted)
    if values == config.values:
        return config
    return RunConfig(values, format_config(values, header="Its batch was found by a rehearsal"))


def refuse_together(is_so: bool, message: str) -> None:
    """Raise a usage error when two options that exclude each other were given."""
    if is_so:
        raise click.UsageError(message)


def watch_training(run: "RunFolder", output_dir: Path, notifier: "Notifier | None" = None) -> None:
    """Start a prepared training and show it until its end."""
    from launch.runs.run import run_to_end

    # The view opens first: once the run has begun, nothing may come between it and who would stop it.
    with show_training(output_dir / "trainer_log.jsonl") as on_poll:
        stall = StallTeller(notifier)

        def look() -> None:
            on_poll()
            stall.look(run.path.name, run.log)

        run_to_end(run, look)


def refuse_other_rank(cluster: "Cluster") -> None:
    """Raise ConfigError when --node-rank names a machine that --nnodes does not count."""
    if cluster.node_rank >= cluster.nnodes:
        raise ConfigError(
            f"--node-rank {cluster.node_rank} is outside --nnodes {cluster.nnodes}",
            hint=f"--node-rank 0 to {cluster.nnodes - 1}, or a larger --nnodes",
        )


def move_aside(output_dir: Path) -> None:
    """Set an output folder aside, with what its runs keep of it, and say where it lies now."""
    from launch.batches.retry import set_aside
    from launch.runs.figures import note_moved, seal_earlier
    from launch.runs.folder import list_runs

    everyone = list_runs()
    seal_earlier(output_dir, everyone)
    aside = set_aside(output_dir)
    if aside:
        note_moved(output_dir, aside, everyone)
        echo(f"Note: {output_dir} was renamed to {aside}", err=True)


def list_changes(pairs: tuple[str, ...], config_path: Path, config: "RunConfig") -> tuple[str, ...]:
    """Return the KEY=VALUE pairs that a resumed run adds to its config, for the command that is shown."""
    from launch.configs.config import read_run_config
    from launch.configs.document import format_value

    before = read_run_config(config_path, pairs).values
    changed = {key: value for key, value in config.values.items() if before.get(key, ...) != value}
    # What was taken out is set to LLaMA-Factory's own default.
    gone = {"overwrite_output_dir": False} if "overwrite_output_dir" in before.keys() - config.values.keys() else {}
    return tuple(f"{key}={format_value(value)}" for key, value in {**changed, **gone}.items())


def resume_from(config: "RunConfig", output_dir: Path) -> "RunConfig":
    """Return the config that goes on from the last checkpoint; raises ConfigError when there is none."""
    from launch.batches.retry import find_checkpoint, resume
    from launch.configs.config import RunConfig, format_config

    if find_checkpoint(output_dir) is None:
        raise ConfigError(f"{output_dir} holds no whole checkpoint to resume from", hint="--fresh starts over")
    values = resume(config.values)
    return RunConfig(values, format_config(values, header=f"Resumed from {values['resume_from_checkpoint']}"))
