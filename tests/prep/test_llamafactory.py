"""What an installed version told of itself is kept in the project, and judged by like what is shipped."""

import json
from pathlib import Path
from typing import Any

import pytest

from launch.cli import options
from launch.configs import schema
from prep import llamafactory
from prep.errors import StackError, UserError
from prep.llamafactory import KEPT, find_unknown_release, find_version_facts, list_shipped, list_versions
from prep.tokens.templates import list_templates
from prep.tokens.turns import TemplateOptions

FIELD = {"group": "data", "infer": True, "types": ["string"], "choices": [], "default": None, "help": ""}


def describe(release: str) -> dict[str, Any]:
    """Return what guest/describe_arguments.py prints of a small LLaMA-Factory."""
    template = {"kind": "ReasoningTemplate", "user": ["Q {{content}} A "], "assistant": ["{{content}}."]}
    return {
        "versions": {"llamafactory": f"{release}.dev0", "transformers": "5"},
        "templates": {"small": {**template, "thought_words": ["<think>\n", "\n</think>\n\n"]}},
        "models": [{"name": "Small", "hubs": ["Own/Small"], "template": "small", "group": None}],
        "tool_prompts": {},
        "strips_lone_tools": False,
        "discards_thoughts": False,
        "fields": [{"name": "template", **FIELD}, {"name": "odd_key", **FIELD}],
    }


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Another version is installed; the list holds whom it was asked of."""
    asked: list[Path] = []

    def introspect(python: Path, unpacked: Path | None = None) -> dict[str, Any]:
        asked.append(python)
        return describe("0.7.1")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(llamafactory.VERSION_VARIABLE, raising=False)
    monkeypatch.setattr(llamafactory, "_find_installed", lambda: "0.7.1.dev0")
    monkeypatch.setattr(schema, "introspect_stack", introspect)
    llamafactory._read_file.cache_clear()
    return asked


def test_an_unknown_version_is_asked_once_and_then_judged_by_its_own_words(installed: list[Path]) -> None:
    assert find_unknown_release() == "0.7.1" and find_version_facts().version == "0.9.5"
    options.learn_version("0.7.1")
    assert len(installed) == 1 and find_unknown_release() == ""
    facts = find_version_facts()
    assert (facts.version, list(facts.templates), facts.models[0]["hubs"]) == ("0.7.1", ["small"], ["Own/Small"])
    assert list(json.loads(facts.read_schema_text("train"))["properties"]) == ["template", "odd_key"]
    assert schema.read_schema("infer")["properties"].keys() == {"template", "odd_key"}
    assert list_versions() == ["0.7.1", *list_shipped()]
    assert list_templates() == ["small"]
    assert not TemplateOptions("small", mask_history=True).discards_thoughts


def test_a_version_that_does_not_tell_is_judged_by_the_oldest_shipped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(python: Path, unpacked: Path | None = None) -> dict[str, Any]:
        raise StackError("cannot import LLaMA-Factory: no torch")

    monkeypatch.setattr(schema, "introspect_stack", fail)
    options.learn_version("0.7.1")
    assert capsys.readouterr().err.splitlines() == [
        "LLaMA-Factory 0.7.1 is not known here: asking it once, which takes some seconds",
        "Note: it does not tell: cannot import LLaMA-Factory: no torch; judged is by 0.9.5",
    ]
    assert not KEPT.exists() and find_version_facts().version == "0.9.5"


@pytest.mark.parametrize("name", ["templates", "models"])
@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"templates": {"a": 1}}', "[" * 9999, '[{"hubs": 1}]'])
def test_what_is_not_what_was_kept_is_one_error_with_the_folder_to_delete(name: str, content: str) -> None:
    options.learn_version("0.7.1")
    (KEPT / "0.7.1" / f"{name}.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r".lfc/llamafactory/0.7.1 does not hold what") as caught:
        getattr(find_version_facts(), name)
    assert caught.value.hint == "delete the folder .lfc/llamafactory/0.7.1"
