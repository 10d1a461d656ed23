"""The figures that the documentation tells are those that the benchmarks kept."""

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("page", ["figures.md", "figures.zh.md"])
def test_the_figures_of_tokenize_are_those_that_were_kept(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    kept = read("tokenize")
    assert f"{kept['rows']:,}" in text
    for own in kept["figures"].values():
        assert own["identical"] is True
        assert f"{own['lfc prep tokenize']['cpu_s']}" in text
        assert f"{own['LLaMA-Factory']['cpu_s']}" in text
    assert f"{kept['figures']['each row by itself']['times_faster_cpu_s']}" in text


@pytest.mark.parametrize("page", ["figures.md", "figures.zh.md"])
def test_the_figures_of_near_copies_are_those_that_were_kept(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    kept = read("near_copies")
    judged, timed = kept["judged"], kept["timed"]
    assert judged["precision"] == 1.0
    assert judged["recall"] >= 0.95
    told = [f"{judged['rows']:,}", f"{judged['copies']:,}", f"{judged['recall']}", f"{timed['rows']:,}"]
    told += [f"{own['cpu_s']}" for own in timed["figures"].values()]
    assert [figure for figure in told if figure not in text] == []


@pytest.mark.parametrize("page", ["figures.md", "figures.zh.md"])
def test_the_figures_of_combining_are_those_that_were_kept(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for name, own in read("combining")["figures"].items():
        assert f"| {name} | {own['cpu_s']} | {own.get('times_copying', '')} | {own['peak_mib']:,} |" in text


def test_every_result_names_its_machine() -> None:
    for name in ("tokenize", "combining", "near_copies", "growth"):
        assert {"cpu", "cores", "memory_mib"} <= read(name)["machine"].keys()


@pytest.mark.parametrize("page", ["figures.md", "figures.zh.md"])
def test_the_figures_of_conversion_are_those_that_were_kept(page: str) -> None:
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    kept = read("shapes")
    assert f"--rows {kept['rows']} --rounds {kept['rounds']}" in "\n".join(lines)
    for name, figures in kept["figures"].items():
        assert f"| {name} | {' | '.join(map(str, figures.values()))} |" in lines


@pytest.mark.parametrize("page", ["README.md", "README_zh.md"])
def test_the_readme_shows_some_of_them(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    figures = read("shapes")["figures"]
    for name in ("ShareGPT JSONL", "messages JSONL", "medical JSONL with metrics", "FineTome parquet"):
        own = figures[name]
        shown = f"| {own['cpu_s']:.2f} | {own['compared_cpu_s']:.2f} | {own['ratio']:.2f} | {own['peak_mib']} |"
        assert shown in text
