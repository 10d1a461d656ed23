"""`lfc launch eval`."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from launch.cli.completion import complete_pairs
from launch.cli.options import cli_option, dry_run_option, find_cli, name_option, no_check_option
from launch.cli.show import print_comparisons, show_prediction
from prep.cli.options import FOLDER, json_option
from prep.cli.output import echo, print_findings, print_json, print_table
from prep.errors import ConfigError
from prep.secrets import mask_values
from prep.storage.os_errors import is_file

if TYPE_CHECKING:
    from launch.results.endpoint_sides import Asking
    from launch.results.evaluate import Entrant


@click.command("eval")
@click.argument(
    "words", metavar="[CONFIG]... [KEY=VALUE]...", nargs=-1, shell_complete=complete_pairs(or_file=True)
)
@click.option("--eval-dataset", help="The registered dataset of held-out rows; several with commas between.")
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    type=FOLDER,
    help="Compare this one instead; may repeat; `best` is the best checkpoint.",
)
@click.option(
    "--modes", metavar="think,nothink", help="Ask with and without thoughts, each with Qwen3's own sampling."
)
@click.option(
    "--endpoint",
    "endpoints",
    multiple=True,
    metavar="NAME=URL[#MODEL]",
    help="Compare a server of OpenAI's protocol too, such as http://127.0.0.1:8000/v1; may repeat. Its key, if it "
    "wants one, stands in the variable LFC_ENDPOINT_KEY.",
)
@click.option(
    "--at-once",
    type=click.IntRange(1, 1024),
    default=16,
    show_default=True,
    help="Requests to an endpoint at a time.",
)
@click.option(
    "--plain",
    is_flag=True,
    envvar="LFC_PLAIN_EVAL",
    show_envvar=True,
    help="Let LLaMA-Factory ask in the rows' order, and keep no answers by row.",
)
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
    modes: str | None,
    endpoints: tuple[str, ...],
    at_once: int,
    plain: bool,
    tasks: str | None,
    name: str | None,
    no_check: bool,
    dry_run: bool,
    given_cli: str | None,
    as_json: bool,
) -> None:
    """Compare the base model with what one or several trainings made of it, on held-out rows.

    CONFIG is a training config of any stage but rm; all sides get its template, thinking flag and seed, and the
    base runs once. Everything is checked before the first row is asked. The longest rows are asked first, in
    batches as large as the memory allows. Answers are kept by row in runs/.answers: an evaluation that broke off
    goes on where it stopped, and a base that has answered for one adapter has answered for the next.
    KEY=VALUE sets what the prediction runs take, such as max_new_tokens or per_device_eval_batch_size; Qwen3's own
    sampling for the mode is the default. Answers are scored on what follows </think>. The scores of each row, the
    rows that changed most, and the rows by the loss of their wanted answer lie in runs/NAME; without --name, an
    evaluation of other weights, rows or settings has the next number, such as runs/medical-eval.2.

    Without any CONFIG the first --endpoint is what the others are compared with.

    With --tasks, lm-evaluation-harness asks its multiple-choice questions instead; KEY=VALUE then sets its own
    options, such as num_fewshot, limit or include_path.

    \b
    Examples:
      lfc launch eval configs/medical.yaml --eval-dataset medical_test max_new_tokens=4096
      lfc launch eval configs/slow.yaml configs/fast.yaml --eval-dataset medical_test
      lfc launch eval configs/medical.yaml --eval-dataset medical_test --modes think,nothink
      lfc launch eval --eval-dataset medical_test --endpoint old=http://127.0.0.1:8000/v1 \\
        --endpoint new=http://127.0.0.1:8001/v1
      lfc launch eval configs/medical.yaml --adapter saves/Qwen3-4B/lora/medical --tasks mmlu,ceval-valid
    """
    from launch.configs.actions import refuse_other_purpose
    from launch.configs.config import parse_overrides, read_config
    from launch.results.endpoint_sides import Asking
    from launch.results.evaluate import list_trained
    from launch.runs.claims import share_gpus
    from launch.runs.folder import RUNS
    from prep.names import check_name, make_name
    from prep.storage.paths import number_next

    paths = [Path(word) for word in words if not is_setting(word)]
    configs = {path.stem: read_config(path) for path in paths}
    if len(configs) < len(paths) or bool(tasks) == bool(eval_dataset) or not (paths or endpoints):
        raise click.UsageError(
            "give CONFIGs of different names, or --endpoint, and either --eval-dataset NAME or --tasks NAME,..."
        )
    if tasks and (endpoints or modes):
        raise click.UsageError("--tasks goes with neither --endpoint nor --modes")
    for path in paths:
        refuse_other_purpose("eval", path, configs[path.stem])
    overrides = parse_overrides(word for word in words if is_setting(word))
    trained = list_trained(configs, choose_adapters(adapters, configs)) if configs else {}
    own = f"{paths[0].stem if paths else 'endpoints'}-{'tasks' if tasks else 'eval'}"
    folder = RUNS / (check_name(name, "run name") if name else make_name(own))
    env = share_gpus(no_check)
    if tasks:
        plan = plan_tasks(configs, trained, tasks.split(","), folder, overrides)
        ask_tasks(plan, folder, env, as_json=as_json, dry_run=dry_run)
        return
    sides = Sides(configs, trained, str(eval_dataset), overrides, endpoints)
    plans = sides.plan_modes(folder, read_modes(modes))
    while not name and any(holds_another(entrants, folder / mode) for mode, entrants in plans.items()):
        folder = number_next(folder)
        plans = sides.plan_modes(folder, read_modes(modes))
    if not no_check:
        for entrants in plans.values():
            refuse_entrants(entrants)
    cli = find_cli(given_cli) if configs else Path()
    asking = Asking(None if plain else RUNS, at_once, env=env)
    if dry_run:
        for mode, entrants in plans.items():
            print_plan(cli, entrants, folder / mode, asking)
        return
    compare(cli, plans, folder, asking, as_json=as_json)


@dataclass(frozen=True)
class Sides:
    """What is compared: training configs, what they trained, the held-out rows, and servers."""

    configs: dict[str, dict[str, Any]]
    trained: dict[str, str]
    eval_dataset: str
    overrides: Mapping[str, Any]
    endpoints: tuple[str, ...]

    def plan_modes(self, folder: Path, modes: Sequence[str]) -> "dict[str, list[Entrant]]":
        """Return every side of each mode, in a folder of each; raises as `plan`."""
        return {mode: self.plan(folder / mode, mode) for mode in modes}

    def plan(self, folder: Path, mode: str) -> "list[Entrant]":
        """Return every side of one mode, "" for the config's own; raises ConfigError and the like."""
        from launch.evaluation.endpoints import parse_endpoint, refuse_same_names
        from launch.results.evaluate import plan_endpoints, plan_entrants, set_mode

        servers = [parse_endpoint(text) for text in self.endpoints]
        configs = set_mode(self.configs, think=mode == "think") if mode else self.configs
        local = plan_entrants(configs, self.trained, self.eval_dataset, folder, self.overrides) if configs else []
        refuse_same_names(servers, (entrant.name for entrant in local))
        first = next(iter(configs.values()), {})
        think = mode == "think" if mode else first.get("enable_thinking")
        dataset_dir = str(self.overrides.get("dataset_dir") or first.get("dataset_dir") or "data")
        settings = {**self.overrides, "eval_dataset": self.eval_dataset, "dataset_dir": dataset_dir}
        return [*local, *plan_endpoints(servers, settings, folder, think)]


def read_modes(text: str | None) -> list[str]:
    """Return the modes that --modes names, [""] for what the config says; raises a usage error."""
    if text is None:
        return [""]
    modes = [mode.strip() for mode in text.split(",")]
    if not set(modes) <= {"think", "nothink"} or len(set(modes)) < len(modes):
        raise click.UsageError("--modes takes think, nothink, or think,nothink")
    return modes


def compare(
    cli: Path,
    plans: "Mapping[str, Sequence[Entrant]]",
    folder: Path,
    asking: "Asking",
    *,
    as_json: bool,
) -> None:
    """Let the sides of each mode answer, and print their comparisons side by side."""
    from launch.results.evaluate import evaluate as evaluate_rows

    found = {}
    for mode, entrants in plans.items():
        note = functools.partial(show_note, mode)
        its = replace(asking, for_thoughts=mode == "think")
        found[mode] = evaluate_rows(cli, entrants, folder / mode, show_prediction, note, its)
    if not as_json:
        print_comparisons(found, folder)
    elif list(found) == [""]:
        print_json({"run": folder.as_posix(), **found[""].as_dict()})
    else:
        modes = {mode: comparison.as_dict() for mode, comparison in found.items()}
        print_json({"run": folder.as_posix(), "modes": modes})


def show_note(mode: str, note: str) -> None:
    """Say on stderr what was taken up, and why something is asked again."""
    echo(f"Note: {mode}: {note}" if mode else f"Note: {note}", err=True)


def holds_another(entrants: "Sequence[Entrant]", folder: Path) -> bool:
    """Tell whether a finished evaluation of something else stands in a folder, and say so."""
    from launch.results.comparison import is_finished
    from launch.results.taken_up import OtherEvaluationError, compare_sides

    local = [entrant for entrant in entrants if entrant.endpoint is None]
    try:
        compare_sides(local, folder, is_finished=is_finished(folder))
    except OtherEvaluationError as error:
        echo(f"Note: {error}; this one has the next number", err=True)
        return True
    return False


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


def print_plan(cli: Path, entrants: "Sequence[Entrant]", folder: Path, asking: "Asking") -> None:
    """Print each side's prediction config and command, and start nothing; raises OutputError as a run would."""
    from launch.configs.config import format_config
    from launch.results.comparison import is_finished
    from launch.results.evaluate import keep_answers
    from launch.results.taken_up import compare_sides
    from launch.runs.run import check_start

    local = [entrant for entrant in entrants if entrant.endpoint is None]
    compare_sides(local, folder, is_finished=is_finished(folder))
    for entrant in entrants:
        place = folder / entrant.name
        echo(format_config(mask_values(entrant.config), header=(place / "config.yaml").as_posix()), nl=False)
        if entrant.endpoint is None:
            echo(check_start(cli, "train", entrant.config, place, keep_answers(entrant, asking)).format())


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


def choose_adapters(adapters: "Sequence[Path]", configs: "Mapping[str, Mapping[str, Any]]") -> list[Path]:
    """Return the adapters that were named; `best` stands for each training's best checkpoint."""
    from launch.runs.progress import find_best_checkpoint

    chosen: list[Path] = []
    for adapter in adapters:
        if adapter.as_posix() == "best" and not adapter.exists():
            chosen += [find_best_checkpoint(Path(str(config.get("output_dir")))) for config in configs.values()]
        else:
            chosen.append(adapter)
    return chosen


def is_setting(word: str) -> bool:
    """Tell a KEY=VALUE from a config's path."""
    return word.partition("=")[0].isidentifier() and "=" in word and not is_file(word)
