"""`lfc launch eval`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from launch.cli.completion import complete_pairs
from launch.cli.options import cli_option, dry_run_option, name_option, no_check_option
from launch.cli.show import print_comparison, show_prediction
from prep.cli.options import FOLDER, json_option
from prep.cli.output import echo, print_findings, print_json, print_table
from prep.errors import ConfigError
from prep.secrets import mask_values

if TYPE_CHECKING:
    from launch.results.evaluate import Entrant


@click.command("eval")
@click.argument(
    "words",
    metavar="CONFIG... [KEY=VALUE]...",
    nargs=-1,
    required=True,
    shell_complete=complete_pairs(or_file=True),
)
@click.option("--eval-dataset", help="The registered dataset of held-out rows.")
@click.option("--adapter", "adapters", multiple=True, type=FOLDER, help="Compare this one instead; may repeat.")
@click.option(
    "--tasks", metavar="NAME,...", help="Multiple-choice tasks of lm-evaluation-harness, such as mmlu,ceval."
)
@name_option
@no_check_option
@dry_run_option
@cli_option
@json_option
def evaluate(
    words: tuple[str, ...],
    eval_dataset: str | None,
    adapters: tuple[Path, ...],
    tasks: str | None,
    name: str | None,
    no_check: bool,
    dry_run: bool,
    given_cli: str | None,
    as_json: bool,
) -> None:
    """Compare the base model with what one or several trainings made of it, on held-out rows.

    CONFIG is a training config of any stage but rm; all sides get its template, thinking flag and seed, and the
    base runs once. Everything is checked before the first row is asked; an evaluation that broke off goes on where
    it stopped, when it is called again.
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
    from launch.configs.actions import refuse_other_purpose
    from launch.configs.config import parse_overrides, read_config
    from launch.results.evaluate import list_trained
    from launch.runs.claims import share_gpus
    from launch.runs.folder import RUNS
    from prep.names import check_name, make_name

    paths = [Path(word) for word in words if not is_setting(word)]
    configs = {path.stem: read_config(path) for path in paths}
    if not paths or len(configs) < len(paths) or bool(tasks) == bool(eval_dataset):
        raise click.UsageError(
            "give CONFIGs of different names, and either --eval-dataset NAME or --tasks NAME,..."
        )
    for path in paths:
        refuse_other_purpose("eval", path, configs[path.stem])
    overrides = parse_overrides(word for word in words if is_setting(word))
    trained = list_trained(configs, adapters)
    own = f"{paths[0].stem}-{'tasks' if tasks else 'eval'}"
    folder = RUNS / (check_name(name, "run name") if name else make_name(own))
    env = share_gpus(no_check)
    if tasks:
        plan = plan_tasks(configs, trained, tasks.split(","), folder, overrides)
        ask_tasks(plan, folder, env, as_json=as_json, dry_run=dry_run)
        return
    from launch.machine.command import find_llamafactory_cli
    from launch.results.evaluate import evaluate as evaluate_rows
    from launch.results.evaluate import plan_entrants

    entrants = plan_entrants(configs, trained, str(eval_dataset), folder, overrides)
    if not no_check:
        refuse_entrants(entrants)
    cli = find_llamafactory_cli(given_cli)
    if dry_run:
        print_plan(cli, entrants, folder, env)
        return
    result = evaluate_rows(
        cli, entrants, folder, show_prediction, lambda note: echo(f"Note: {note}", err=True), env
    )
    if as_json:
        print_json({"run": folder.as_posix(), **result.as_dict()})
    else:
        print_comparison(result)


def refuse_entrants(entrants: "Sequence[Entrant]") -> None:
    """Print what is wrong with any side's prediction; raises ConfigError when one of them cannot work."""
    from launch.configs.rules import read_machine
    from launch.results.evaluate import find_entrant_faults

    found = find_entrant_faults(entrants, read_machine())
    for name, faults in found.items():
        print_findings((fault.at(f"prediction of {name}") for fault in faults), err=True)
    broken = [name for name, faults in found.items() if any(fault.is_error for fault in faults)]
    if broken:
        raise ConfigError(f"{', '.join(broken)} cannot answer as it stands; nothing was started")


def print_plan(cli: Path, entrants: "Sequence[Entrant]", folder: Path, env: Mapping[str, str]) -> None:
    """Print each side's prediction config and command, and start nothing; raises OutputError as a run would."""
    from launch.configs.config import format_config
    from launch.results.evaluate import is_finished
    from launch.results.taken_up import compare_sides
    from launch.runs.run import check_start

    compare_sides(entrants, folder, is_finished=is_finished(folder))
    for entrant in entrants:
        place = folder / entrant.name
        command = check_start(cli, "train", entrant.config, place, env)
        echo(format_config(mask_values(entrant.config), header=(place / "config.yaml").as_posix()), nl=False)
        echo(command.format())


def plan_tasks(
    configs: Mapping[str, Mapping[str, Any]],
    trained: Mapping[str, str],
    tasks: list[str],
    folder: Path,
    overrides: Mapping[str, Any],
) -> "list[Entrant]":
    """Return what lm-evaluation-harness is to ask; raises ConfigError when the sides share no base."""
    from launch.results.evaluate import check_shared_base
    from launch.results.lm_eval import plan_task_runs

    check_shared_base(configs, overrides)
    return plan_task_runs(next(iter(configs.values())), trained, tasks, folder, overrides)


def ask_tasks(
    entrants: "Sequence[Entrant]", folder: Path, env: Mapping[str, str], *, as_json: bool, dry_run: bool
) -> None:
    """Let lm-evaluation-harness ask base and adapters, and print what it found."""
    from launch.configs.config import format_config
    from launch.machine.command import find_lm_eval
    from launch.results.lm_eval import check_task_run, run_tasks

    lm_eval = find_lm_eval()
    if dry_run:
        for entrant in entrants:
            place = folder / entrant.name
            command = check_task_run(lm_eval, entrant, place, env)
            echo(format_config(mask_values(entrant.config), header=(place / "config.yaml").as_posix()), nl=False)
            echo(command.format())
        return
    scores = run_tasks(lm_eval, entrants, folder, show_prediction, env)
    if as_json:
        print_json(
            {
                "run": folder.as_posix(),
                "sides": {side: [row._asdict() for row in rows] for side, rows in scores.items()},
            }
        )
    else:
        print_table(
            [
                ("", "", *scores),
                *(
                    (row[0].task, row[0].metric, *(format_task_score(score.value, score.error) for score in row))
                    for row in zip(*scores.values(), strict=True)
                ),
            ],
            title=f"lm-evaluation-harness, value ± standard error ({folder})",
        )


def format_task_score(value: float, error: float | None) -> str:
    """Return a figure of lm-evaluation-harness with its standard error."""
    return f"{value:.4f}" if error is None else f"{value:.4f} ± {error:.4f}"


def is_setting(word: str) -> bool:
    """Tell a KEY=VALUE from a config's path."""
    return word.partition("=")[0].isidentifier() and "=" in word and not Path(word).is_file()
