"""The `lfc prep` group: one module a command. Only `cli` packages import click and print."""

import click

from prep.cli.lazy import CommandEntry, LazyGroup

COMMANDS = {
    "download": CommandEntry("prep.cli.download:download", "Fetch datasets or models from a hub, and verify them."),
    "sources": CommandEntry("prep.cli.sources:list_sources", "List the sets that `download` knows by name."),
    "sample": CommandEntry("prep.cli.sample:sample", "Write small sample sets, to try everything with."),
    "convert": CommandEntry("prep.cli.convert:convert", "Convert files into the rows that LLaMA-Factory trains."),
    "mix": CommandEntry("prep.cli.mix:mix", "Mix converted files in a true ratio."),
    "split": CommandEntry("prep.cli.split:split", "Hold out test and validation rows."),
    "lint": CommandEntry("prep.cli.lint:lint", "Check rows, or dataset_info.json, for faults."),
    "repair": CommandEntry("prep.cli.repair:repair", "Write rows that a script spoiled anew."),
    "stats": CommandEntry("prep.cli.stats:stats", "Count rows, measure tokens, choose a cutoff_len."),
    "show": CommandEntry("prep.cli.show:show", "Show rows as they are read, and what of them is trained."),
    "tokenize": CommandEntry("prep.cli.tokenize:tokenize", "Make the tokens of a training config once."),
    "explain": CommandEntry("prep.cli.explain:explain", "Tell where a row came from."),
    "register": CommandEntry("prep.cli.register:register", "Register a file in dataset_info.json."),
    "unregister": CommandEntry("prep.cli.unregister:unregister", "Take a dataset out of dataset_info.json."),
    "ls": CommandEntry("prep.cli.ls:list_registered", "List the registered datasets."),
}


@click.group("prep", cls=LazyGroup, table=COMMANDS)
def prep() -> None:
    """Prepare datasets: convert, mix, split and register.

    \b
    Example:
      lfc prep convert raw/r1_data_example.jsonl -o data/medical.jsonl
    """
