"""Every command, option, preset, recipe, template and finding stands in the documentation, and its links hold."""

import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import click
import pytest

from launch.configs.presets import list_presets
from launch.configs.rules import RULES
from prep.quality.findings import LintRule
from scripts.docs_pages import render_pages, walk_commands

ROOT = Path(__file__).parents[2]
PAGES = render_pages()


def section(page: str, heading: str) -> str:
    """The part of a made page below a heading."""
    parts = re.split(r"^(#{2,3} .*)$", PAGES[page], flags=re.MULTILINE)
    return parts[parts.index(heading) + 1]


@pytest.mark.parametrize("words", [" ".join(words) for words, *_ in walk_commands() if len(words) > 1])
def test_every_command_is_there_with_all_its_options(words: str) -> None:
    command = next(command for path, command, _ in walk_commands() if " ".join(path) == words)
    group = words.split()[1]
    page = f"reference/{group if group in ('prep', 'launch') else 'lfc'}.md"
    told = section(page, f"## {words}")
    options = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    assert [name for one in options for name in one.opts if name not in told] == []


def test_every_preset_and_recipe_is_there() -> None:
    page = PAGES["reference/presets.md"]
    recipes = [one.name.removesuffix(".yaml") for one in (files("llamafactory_configs") / "recipes").iterdir()]
    assert [preset.name for preset in list_presets() if f"## Preset `{preset.name}`" not in page] == []
    assert [name for name in recipes if f"## Recipe `{name}`" not in page] == []
    assert "|  |" not in page.split("\n## Preset `")[0], "one of them does not say what it is for, or what it needs"


@pytest.mark.parametrize("rule", [*map(str, LintRule), *sorted(rule.__name__ for rule in RULES)])
def test_every_rule_has_an_example_a_message_and_a_fix(rule: str) -> None:
    told = section("reference/findings.md", f"### `{rule}`")
    assert re.search(r"^> \S", told, re.MULTILINE)
    assert re.search(r"^Fix: [^.\s]", told, re.MULTILINE)


def test_everything_that_doctor_looks_at_is_there() -> None:
    modules = (ROOT / "launch" / "machine").glob("*.py")
    rules = {name for path in modules for name in re.findall(r'rule="([\w-]+)"', path.read_text(encoding="utf-8"))}
    assert len(rules) > 10
    assert [rule for rule in sorted(rules) if f"| `{rule}` |" not in PAGES["reference/findings.md"]] == []


def test_the_site_is_built_with_every_link_in_it_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert built.returncode == 0, built.stdout + built.stderr
    for page in ("index.html", "zh/index.html", "zh/howto/own-table/index.html", "reference/findings/index.html"):
        text = (tmp_path / "site" / page).read_text(encoding="utf-8")
        assert "<h1" in text
        # Everything that a page loads comes from the site itself.
        assert re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', text) == []
