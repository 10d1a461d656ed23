"""`lfc launch webui`."""

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launch.choices import Language
from launch.cli.completion import complete_pairs
from launch.cli.options import cli_option, dry_run_option, find_cli
from prep.cli.options import FOLDER, OUTPUT_FILE, choice_of, force_option
from prep.cli.output import echo

if TYPE_CHECKING:
    from launch.webui.serve import Opened
    from launch.webui.start import Plan


@click.command("webui")
@click.argument("config_path", metavar="[CONFIG]", type=OUTPUT_FILE, required=False)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=complete_pairs())
@click.option("--dataset-dir", type=FOLDER, help="Holds dataset_info.json; the config's own if not given.")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    envvar="GRADIO_SERVER_NAME",
    show_envvar=True,
    help="0.0.0.0 opens the page to the network.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65_535),
    envvar="GRADIO_SERVER_PORT",
    show_envvar=True,
    help="The first free one from 7860 on if not given.",
)
@click.option(
    "--share", is_flag=True, envvar="GRADIO_SHARE", show_envvar=True, help="Have gradio make a public link."
)
@click.option("--lang", type=choice_of(Language), help="The locale's if not given.")
@click.option("--name", help="The saved settings' name in llamaboard_config/; the config's if not given.")
@click.option("--chat", is_flag=True, help="Fill in the Chat tab with what CONFIG trained, and no training.")
@click.option("--no-browser", is_flag=True, help="Print the address, and open nothing.")
@click.option("--scrub", is_flag=True, help="Empty API keys and tokens in saved settings first.")
@force_option
@dry_run_option
@cli_option
def webui(
    config_path: Path | None,
    pairs: tuple[str, ...],
    dataset_dir: Path | None,
    host: str,
    port: int | None,
    share: bool,
    lang: str | None,
    name: str | None,
    chat: bool,
    no_browser: bool,
    scrub: bool,
    force: bool,
    dry_run: bool,
    given_cli: str | None,
) -> None:
    """Open LLaMA-Factory's WebUI with everything of CONFIG filled in.

    CONFIG is the YAML that `lfc launch train` takes, settings saved in the WebUI, or a chat config. With a chat
    config, or with --chat after a training, the Chat tab has its model, adapter, template, thinking and sampling:
    press the button that loads the model. Without a CONFIG the page opens as it is, with --dataset-dir as its
    folder of datasets. Datasets, model, ports and proxies are checked first. Ctrl-C asks a running training to
    save and stop, and then ends the page.

    \b
    Examples:
      lfc launch webui configs/medical.yaml
      lfc launch webui configs/medical.yaml lora_rank=32 --lang zh --port 8000
      lfc launch webui configs/medical.yaml --chat
      lfc launch webui configs/medical.yaml --dry-run
      lfc launch webui --dataset-dir data --lang zh --port 8000
    """
    from launch.llamaboard.files import find_secrets, scrub_secrets
    from launch.webui.chat import make_chat_values
    from launch.webui.serve import serve_webui
    from launch.webui.start import Address, Request, plan_webui, read_request, write_plan

    if scrub and not dry_run:
        for path, keys in find_secrets(Path()).items():
            scrub_secrets(path)
            echo(f"{path}: {', '.join(keys)} emptied", err=True)
    values = read_request(config_path, pairs, dataset_dir)
    if chat:
        if config_path is None:
            raise click.UsageError("--chat needs the CONFIG of what was trained")
        values = make_chat_values(values)
    request = Request(config_path, values, name, lang, force, chat)
    address = Address(host, port, share)
    plan = plan_webui(request, address, find_cli(given_cli), os.environ)
    for note in plan.notes:
        echo(f"Note: {note}", err=True)
    if dry_run:
        print_webui_plan(plan)
        return
    write_plan(plan)
    echo("Starting LLaMA-Factory's WebUI …", err=True)
    with contextlib.suppress(KeyboardInterrupt):
        serve_webui(plan, lambda opened: show_page(opened, plan, browser=not no_browser), tell_stop)
    echo("The WebUI has ended.", err=True)


def print_webui_plan(plan: "Plan") -> None:
    """Print what `lfc launch webui` would write and start."""
    import yaml

    if plan.settings is not None:
        echo(f"# {plan.settings.as_posix()}")
        echo(yaml.safe_dump(plan.page, allow_unicode=True, sort_keys=False))
    echo("# llamaboard_cache/user_config.yaml")
    echo(yaml.safe_dump(plan.user_config, allow_unicode=True, sort_keys=False))
    echo(f"# {plan.url}\n{plan.command.format()}")


def show_page(opened: "Opened", plan: "Plan", *, browser: bool) -> None:
    """Print the address of a page that answers, and open it."""
    import webbrowser

    from launch.webui.serve import can_open_browser

    echo(f"WebUI: {opened.url}")
    if opened.public_url:
        echo(f"Public link: {opened.public_url}")
    if plan.settings is not None and opened.is_filled:
        echo(f"Everything of {plan.settings.as_posix()} is filled in.")
    elif plan.settings is not None:
        button = Language(plan.language).load_button
        echo(f"Choose {plan.settings.name} as its config path and press [{button}]: {opened.reason}.")
    if plan.chat:
        told = f"is filled in: press [{Language(plan.language).load_model_button}]"
        echo(f"The Chat tab {told if opened.is_filled else f'could not be filled in: {opened.reason}'}.")
    echo("Ctrl-C ends it; a running training saves first.", err=True)
    if browser and can_open_browser(os.environ):
        webbrowser.open(opened.url)


def tell_stop() -> None:
    """Say that the WebUI was asked to end."""
    echo("Ending: a running training saves first. Ctrl-C again ends it at once, unsaved.", err=True)
