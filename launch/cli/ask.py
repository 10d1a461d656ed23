"""`lfc launch ask`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from launch.cli.completion import complete_pairs
from launch.cli.evaluate import choose_adapters, is_setting, read_modes, refuse_entrants
from launch.cli.options import cli_option, dry_run_option, find_cli, name_option, no_check_option
from launch.cli.show import show_prediction
from prep.cli.options import FOLDER, json_option
from prep.cli.output import echo, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from launch.results.ask import Answer
    from launch.results.evaluate import Entrant


@click.command("ask")
@click.argument(
    "words",
    metavar="CONFIG... QUESTIONS.txt [KEY=VALUE]...",
    nargs=-1,
    shell_complete=complete_pairs(or_file=True),
)
@click.option(
    "--adapter", "adapters", multiple=True, type=FOLDER, help="Ask this one instead; `best` is the best checkpoint."
)
@click.option(
    "--modes", metavar="think,nothink", help="Ask with and without thoughts, as the config says if not given."
)
@name_option
@no_check_option
@dry_run_option
@cli_option
@json_option
def ask(
    words: tuple[str, ...],
    adapters: tuple[Path, ...],
    modes: str | None,
    name: str | None,
    no_check: bool,
    dry_run: bool,
    given_cli: str | None,
    as_json: bool,
) -> None:
    """Put the same questions to a base model and to what was trained of it, and show the answers side by side.

    QUESTIONS.txt holds one question a line; no reference answers are needed. The answers stand in the terminal, in
    runs/NAME/answers.json, and in runs/NAME/answers.html. Asked again, it goes on with the sides that are left.
    KEY=VALUE sets what the runs take, such as max_new_tokens or temperature.

    \b
    Examples:
      lfc launch ask configs/medical.yaml questions.txt
      lfc launch ask configs/medical.yaml questions.txt --modes think,nothink --adapter best
    """
    from launch.configs.actions import refuse_other_purpose
    from launch.configs.config import parse_overrides, read_config
    from launch.results.ask import PAGE, plan_asking, read_questions
    from launch.results.ask import ask as ask_sides
    from launch.results.evaluate import list_trained
    from launch.runs.folder import RUNS
    from prep.names import check_name, make_name

    paths = [Path(word) for word in words if not is_setting(word)]
    if len(paths) < 2 or paths[-1].suffix in (".yaml", ".yml"):
        raise click.UsageError("give one or several CONFIGs, and a file of questions after them")
    configs = {path.stem: read_config(path) for path in paths[:-1]}
    for path in paths[:-1]:
        refuse_other_purpose("eval", path, configs[path.stem])
    questions = read_questions(paths[-1])
    trained = list_trained(configs, choose_adapters(adapters, configs))
    folder = RUNS / (check_name(name, "run name") if name else make_name(f"{paths[0].stem}-{paths[-1].stem}"))
    overrides = parse_overrides(word for word in words if is_setting(word))
    entrants = plan_asking(configs, trained, read_modes(modes), folder, overrides)
    if dry_run:
        print_sides(entrants)
        return
    if not no_check:
        refuse_unready(entrants, questions)
    table = ask_sides(find_cli(given_cli), entrants, questions, folder, show_prediction)
    if as_json:
        rows = [{"question": question, "answers": [answer.__dict__ for answer in row]} for question, row in table]
        print_json({"run": folder.as_posix(), "rows": rows})
    else:
        for question, row in table:
            print_answers(question, row)
        echo(f"page: {(folder / PAGE).as_posix()}", err=True)


def refuse_unready(entrants: "Sequence[Entrant]", questions: "Sequence[str]") -> None:
    """Print what is wrong with any side; raises ConfigError when one of them cannot answer."""
    from dataclasses import replace
    from tempfile import TemporaryDirectory

    from launch.results.ask import write_dataset

    # Their own folder is made when all is known to be right.
    with TemporaryDirectory(prefix="lfc-ask-") as folder:
        write_dataset(Path(folder), questions)
        refuse_entrants(
            [replace(entrant, config={**entrant.config, "dataset_dir": folder}) for entrant in entrants]
        )


def print_sides(entrants: "Sequence[Entrant]") -> None:
    """Print each side's config, and start nothing."""
    from launch.configs.config import format_config
    from prep.secrets import mask_values

    for entrant in entrants:
        echo(format_config(mask_values(entrant.config), header=entrant.name), nl=False)


def print_answers(question: str, answers: "Sequence[Answer]") -> None:
    """Print one question's answers, a column a side; of a thought its length."""
    cells = [
        f"[thought: {len(answer.thought):,} characters]\n{answer.text}" if answer.thought else answer.text
        for answer in answers
    ]
    print_table([tuple(answer.side for answer in answers), tuple(cells)], title=question)
