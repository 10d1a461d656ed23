"""`lfc launch publish`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from launch.choices import HubName
from prep.cli.options import INPUT_FILE, choice_of, json_option
from prep.cli.output import echo, print_json, print_table
from prep.errors import ConfigError

if TYPE_CHECKING:
    from launch.publish.plan import PublishedFile, PublishedKind
    from launch.results.summary import RunSummary


@click.command("publish")
@click.argument("source", metavar="FOLDER|ROWS.jsonl", type=INPUT_FILE)
@click.option("--to", "site", type=choice_of(HubName), required=True, help="The hub.")
@click.option("--repo", required=True, metavar="OWNER/NAME", help="The repository; made where it is missing.")
@click.option("--license", "licence", metavar="ID", help="Such as apache-2.0; the card says it is to be filled in.")
@click.option(
    "--base-model", metavar="OWNER/NAME", help="The base as others find it, where it was trained from a folder."
)
@click.option("--public", is_flag=True, help="Let everybody see it; private if not given.")
@click.option("--token-env", metavar="NAME", help="The variable that holds the token, never the token itself.")
@click.option("--endpoint", metavar="URL", help="Another hub of the same kind.")
@click.option("--yes", is_flag=True, help="Publish; without it, what would be is shown and nothing is sent.")
@json_option
def publish(
    source: Path,
    site: str,
    repo: str,
    licence: str | None,
    base_model: str | None,
    public: bool,
    token_env: str | None,
    endpoint: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Publish an adapter, a merged model or a dataset on ModelScope or Hugging Face, with its card.

    FOLDER is a training's output_dir or an export_dir. Sent are the weights, their configs and the tokenizer: no
    checkpoint, log or pickle. The card tells base, licence, data, config and the scores of the newest evaluation,
    without paths of this machine. All goes in one commit, and is compared with what the hub lists afterwards.
    Without --yes the files and the card are shown, and nothing is sent.

    \b
    Examples:
      lfc launch publish saves/Qwen3-4B/lora/medical --to modelscope --repo me/medical --license apache-2.0
      lfc launch publish data/medical.jsonl --to huggingface --repo me/medical-rows --token-env MY_TOKEN --yes
    """
    from launch.publish.card import Origin, write_card
    from launch.publish.plan import check_repository, describe_files, find_base, find_kind, is_hub_name
    from launch.publish.upload import Target
    from launch.publish.upload import publish as send
    from prep.hub.endpoint import SITES, read_token
    from prep.storage.manifests import read_manifest

    check_repository(repo)
    if public and not licence:
        raise ConfigError("what everybody sees needs a licence", hint="--license apache-2.0, or without --public")
    kind = find_kind(source)
    named = base_model or find_base(source, kind)
    base = named if is_hub_name(named) else None
    summary = find_run_of(source) if source.is_dir() else None
    if summary:
        origin = Origin(base or named, summary.run.values, summary.data, summary.score)
    else:
        origin = Origin(base or named, manifest=read_manifest(source) if source.is_file() else None)
    card = write_card(repo, kind, licence, origin)
    files = describe_files(source, kind, base, card)
    if named and not base:
        echo(f"Warning: its base is a folder here, {named}: others need --base-model OWNER/NAME", err=True)
    target = Target(SITES[site], repo, not public, endpoint, read_token(token_env))
    where = send(target, kind, files, licence) if yes else None
    show(kind, files, card, where, f"{target.site.name} {repo}", is_private=not public, as_json=as_json)


def find_run_of(folder: Path) -> "RunSummary | None":
    """Return what is known of the training of a folder, or of what was merged into it; None when none here is."""
    from launch.results.summary import summarise_runs
    from launch.runs.folder import list_runs
    from launch.serving.exports import find_origin

    run = find_origin(folder, list_runs())
    return summarise_runs([run])[0] if run else None


def show(
    kind: "PublishedKind",
    files: "list[PublishedFile]",
    card: str,
    where: str | None,
    name: str,
    *,
    is_private: bool,
    as_json: bool,
) -> None:
    """Print what was published, or would be."""
    if as_json:
        listed = [{"name": file.name, "size": file.size, "sha256": file.sha256} for file in files]
        print_json({"kind": kind.value, "private": is_private, "published": where, "files": listed, "card": card})
        return
    rows = [(file.name, f"{file.size:,} bytes") for file in files]
    seen_by = "private" if is_private else "public"
    print_table(rows, title=f"{name}, {kind.value}, {seen_by}")
    if where:
        echo(f"published: {where}")
    else:
        echo(card, nl=False)
        echo("Nothing was sent; --yes publishes", err=True)
