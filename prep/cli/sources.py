"""The `lfc prep sources` command."""

import click

from prep.cli.options import json_option
from prep.cli.output import print_json, print_table


@click.command("sources")
@json_option
def list_sources(as_json: bool) -> None:
    """List the named sets that `lfc prep download` knows.

    Each with its repository, convert's format, its size and a licence note: read the set's card yourself
    before you publish what you trained on it.

    \b
    Example:
      lfc prep sources
    """
    from prep.hub.catalog import read_catalog

    catalog = read_catalog()
    if as_json:
        print_json({name: entry._asdict() for name, entry in catalog.items()})
    else:
        print_table(
            [(name, entry.repository, entry.format, entry.size, entry.licence) for name, entry in catalog.items()],
            title="named sets: name, repository, format, size, licence",
        )
