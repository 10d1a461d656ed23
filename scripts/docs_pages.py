"""The pages of the documentation that follow from the code: commands, presets, templates, findings, changelog.

MkDocs calls `on_pre_build` at every build (mkdocs.yml, `hooks:`); `render_pages` is what the tests ask. Git keeps
none of it, so no page can fall behind the code.
"""

import contextlib
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

ROOT = Path(__file__).resolve().parents[1]
# MkDocs loads this file by its path, from whatever environment it runs in.
sys.path.insert(0, str(ROOT))

from launch.cli.root import lfc  # noqa: E402
from launch.configs.config import check_values  # noqa: E402
from launch.configs.presets import list_presets  # noqa: E402
from launch.configs.rules import RULES  # noqa: E402
from prep.quality.findings import Finding, LintRule  # noqa: E402
from prep.quality.lint import lint_dataset  # noqa: E402
from prep.quality.lint_fixes import FIXES  # noqa: E402
from prep.quality.lint_registry import lint_registry  # noqa: E402
from prep.registry.dataset import find_dataset  # noqa: E402
from tests.support import rule_cases  # noqa: E402

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

EXAMPLES = ROOT / "scripts" / "finding_examples.yaml"
_WIDTH = 88
_SHOWN_HUBS = 3


def on_pre_build(config: "MkDocsConfig") -> None:
    """MkDocs' event: write the pages into docs/, where git ignores them."""
    for path, text in render_pages().items():
        page = Path(config.docs_dir, path)
        page.parent.mkdir(exist_ok=True)
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def render_pages() -> dict[str, str]:
    """Return every made page, Markdown by its path below docs/."""
    return {
        "reference/lfc.md": render_commands("Commands of lfc", ["lfc"], lambda path: len(path) <= 2),
        "reference/prep.md": render_commands("Commands of lfc prep", ["lfc", "prep"]),
        "reference/launch.md": render_commands("Commands of lfc launch", ["lfc", "launch"]),
        "reference/presets.md": render_presets(),
        "reference/templates.md": render_templates(),
        "reference/findings.md": render_findings(),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("](docs/", "]("),
    }


# --- Commands ---


def walk_commands() -> Iterator[tuple[list[str], click.Command, click.Context]]:
    """Yield every command with the words that call it, groups before their members."""

    def walk(
        words: list[str], command: click.Command, parent: click.Context | None
    ) -> Iterator[tuple[list[str], click.Command, click.Context]]:
        context = click.Context(command, info_name=words[-1], parent=parent)
        context.terminal_width = context.max_content_width = _WIDTH
        yield words, command, context
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                member = command.get_command(context, name)
                assert member is not None
                yield from walk([*words, name], member, context)

    yield from walk(["lfc"], lfc, None)


def render_commands(title: str, start: list[str], wanted: Callable[[list[str]], bool] = lambda _: True) -> str:
    """Return the help of the commands below `start`, each as `--help` prints it."""
    parts = [f"# {title}\n"]
    for words, command, context in walk_commands():
        if words[: len(start)] == start and wanted(words) and (start != ["lfc"] or not _is_group(words, command)):
            parts.append(f"## {' '.join(words)}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def _is_group(words: list[str], command: click.Command) -> bool:
    return len(words) > 1 and isinstance(command, click.Group)


# --- Presets and recipes ---


def render_presets() -> str:
    """Return the page of presets and recipes: what each needs, and its text."""
    parts = ["# Presets and recipes\n", "## Presets\n"]
    parts.append("`lfc launch config new NAME` writes a config from one.\n")
    parts.append("| preset | what for | needs |\n| --- | --- | --- |")
    presets = list(list_presets())
    parts += [f"| [{one.name}](#preset-{one.name}) | {one.title} | {one.needs} |" for one in presets]
    parts.append("\n## Recipes\n\n`lfc run NAME` goes the whole way that one describes.\n")
    parts.append("| recipe | what for | needs |\n| --- | --- | --- |")
    recipes = sorted((files("llamafactory_configs") / "recipes").iterdir(), key=lambda one: one.name)
    texts = {one.name.removesuffix(".yaml"): one.read_text("utf-8") for one in recipes}
    for name, text in texts.items():
        opening = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")]
        needs = next((line.removeprefix("Needs: ") for line in opening if line.startswith("Needs: ")), "")
        parts.append(f"| [{name}](#recipe-{name}) | {opening[0]} | {needs} |")
    parts.append("")
    for one in presets:
        parts.append(f"## Preset `{one.name}` {{ #preset-{one.name} }}\n\n```yaml\n{one.text.rstrip()}\n```\n")
    for name, text in texts.items():
        parts.append(f"## Recipe `{name}` {{ #recipe-{name} }}\n\n```yaml\n{text.rstrip()}\n```\n")
    return "\n".join(parts)


# --- Templates ---


def render_templates() -> str:
    """Return the table of LLaMA-Factory's templates, for every version that we know."""
    versions = files("llamafactory_configs") / "versions"
    parts = [
        "# Templates\n",
        "LLaMA-Factory's own templates and the models that it names for each, as the data files of the supported\n"
        "versions tell. `lfc launch config new` and `check` choose by the model's name or by its folder;\n"
        "`lfc launch prove` compares a template with the model's own.\n",
    ]
    for version in sorted(one.name for one in versions.iterdir() if one.name[0].isdigit()):
        parts.append(f"## LLaMA-Factory {version}\n")
        parts.append("| template | thoughts | tool calls | models | for example |\n| --- | --- | --- | --- | --- |")
        folder = versions / version
        templates = json.loads((folder / "templates.json").read_text("utf-8"))["templates"]
        models = json.loads((folder / "models.json").read_text("utf-8"))
        for name, template in sorted(templates.items()):
            its = [model for model in models if model["template"] == name]
            hubs = ", ".join(f"`{model['hubs'][0]}`" for model in its[:_SHOWN_HUBS])
            parts.append(
                f"| `{name}` | {_describe_thoughts(template)} | {_tool_format(template)} | {len(its)} | {hubs} |"
            )
        parts.append("")
    return "\n".join(parts)


def _describe_thoughts(template: dict[str, Any]) -> str:
    if "Reasoning" not in str(template["kind"]):
        return ""
    opening, closing = template["thought_words"]
    return f"`{opening.strip()}` … `{closing.strip()}`"


def _tool_format(template: dict[str, Any]) -> str:
    return f"`{template['tool_format']}`" if template.get("tool_format") else ""


# --- Findings ---


def render_findings() -> str:
    """Return the page of everything that lint, check and doctor can find, each with an example and its fix."""
    examples = yaml.safe_load(EXAMPLES.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        parts = [
            "# Findings\n",
            "What `lint`, `config check` and `doctor` can say, by the name in brackets behind a finding.\n"
            "Each example was run when this page was made.\n",
            "## Rows: `lfc prep lint FILE` { #rows }\n",
            "`--ignore RULE` leaves one out.\n",
            *_render_lint(examples["rows"], examples["registry"]),
            "## Configs: `lfc launch config check FILE` { #configs }\n",
            "The same is checked before `train`, `batch`, `eval` and the other actions start.\n",
            *_render_rules(examples["configs"]),
            "## The machine: `lfc doctor` { #machine }\n",
            "| rule | what it looks at | what helps |\n| --- | --- | --- |",
            *(f"| `{rule}` | {one['looks']} | {one['fix']} |" for rule, one in examples["machine"].items()),
        ]
    return "\n".join(parts) + "\n"


def _render_lint(rows: dict[str, Any], registry: dict[str, Any]) -> Iterator[str]:
    for rule in LintRule:
        yield f"### `{rule}`\n"
        text = (rows | registry)[rule]
        name = "dataset_info.json" if rule in registry else text.get("file", "rows.jsonl")
        findings = run_lint(name, text)
        found = next(one for one in findings if one.rule == rule)
        shown = text["text"].rstrip("\n")
        shown = re.sub(r"[\ufeff\r]", lambda sign: ascii(sign[0])[1:-1], shown)
        yield f'```json title="{name}"\n{shown}\n```\n'
        yield f"> {found.message}\n"
        yield f"Fix: {_escape(found.fix or FIXES.get(rule, ''))}.\n"


def run_lint(name: str, example: dict[str, Any]) -> list[Finding]:
    """Write an example into the working folder and return what lint finds in it.

    `text` is the file's content, in `encoding` or UTF-8; `entry` registers it; `before` is another file, by name.
    """
    findings: list[Finding] = []
    for other, text in example.get("before", {}).items():
        Path(other).write_text(text, encoding="utf-8")
    path = Path(name)
    path.write_bytes(example["text"].encode(example.get("encoding", "utf-8")))
    if name == "dataset_info.json":
        return lint_registry(path)
    wanted = str(path)
    if "entry" in example:
        Path("dataset_info.json").write_text(json.dumps({"set": {"file_name": name, **example["entry"]}}))
        wanted = "set"
    if "policy" in example:
        from prep.storage.fingerprints import hash_file
        from prep.storage.manifests import Manifest, write_manifest

        output = {"bytes": path.stat().st_size, "sha256": hash_file(path)}
        inputs = example.get("inputs", [])
        write_manifest(path, Manifest("convert", {}, example["policy"], inputs, {}, output))
    lint_dataset(find_dataset(wanted, Path()), findings.append)
    Path("dataset_info.json").unlink(missing_ok=True)
    for left in Path().glob("rows*"):
        left.unlink()
    return findings


def _render_rules(more: dict[str, Any]) -> Iterator[str]:
    rule_cases.make_workplace(Path())
    cases = {case.rule: case for case in reversed(rule_cases.CASES)}
    for rule in sorted(RULES, key=lambda one: one.__name__):
        name = rule.__name__
        yield f"### `{name}`\n"
        if name in more:
            yield f"```yaml\n{more[name]['breaks'].rstrip()}\n```\n\n> {more[name]['says']}\n"
            yield f"Fix: {more[name]['fix']}.\n"
        elif name in cases:
            case = cases[name]
            broken = {**rule_cases.base_values(), **case.breaks}
            values = {key: value for key, value in broken.items() if value is not ...}
            machine = rule_cases.case_machine(case)
            path = Path("a b.yaml") if not case.breaks else None
            found = next(one for one in check_values(values, "train", machine, path) if one.rule == name)
            if case.breaks:
                yield f"```yaml\n{_as_yaml(case.breaks)}\n```\n"
            yield f"> {_escape(found.describe())}\n"
            yield f"Fix: {_escape(found.fix)}.\n"
        yield f"Rests on: {_escape(' '.join((rule.__doc__ or '').split()))}\n"


def _as_yaml(values: dict[str, Any]) -> str:
    kept = {key: value for key, value in values.items() if value is not ...}
    gone = [f"# without {key}" for key, value in values.items() if value is ...]
    text = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True).rstrip() if kept else ""
    return "\n".join(filter(None, [text, *gone]))


def _escape(text: str) -> str:
    """Return a message as Markdown that shows it as it is."""
    return re.sub(r"(?<!`)([<>*_\[\]|])(?!`)", r"\\\1", text.rstrip(".")) if "`" not in text else text.rstrip(".")
