"""The page of a run and of a batch, as text and in a real browser."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from launch.configs.presets import find_preset
from launch.results.report import write_report
from prep.errors import InputError
from prep.storage.atomic import write_json
from tests.support.browser import open_browser, set_screen
from tests.support.run_folders import write_dataset, write_evaluation, write_run

EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\"'&"
SOURCE = {"path": "raw/r1.jsonl", "sha256": "1" * 64}


class TextReader(HTMLParser):
    """Collects a page's tags and its text, and fails on tags that do not nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.links: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a scored run `medical` whose rows try to be markup, and a batch `sweep` of three."""
    monkeypatch.chdir(tmp_path)
    write_dataset(Path("data"), "medical", SOURCE)
    values: dict[str, Any] = {
        **find_preset("cpu-smoke").values,
        "dataset": "medical",
        "learning_rate": 5e-3,
        "output_dir": "saves/m/medical",
        "run_name": EVIL,
    }
    flags = [f"12 rows were dropped {EVIL}"]
    write_run(Path("runs/medical"), values, [3.2, 2.1, 1.4, 1.1], flags=flags)
    outputs = {"base": [f"no {EVIL}"] * 12, "adapter": ["</pre></main> good"] * 12}
    write_evaluation(Path("runs/medical-eval"), "saves/m/medical", outputs, "</pre></main> good")
    for name, rate, losses in (("lr-1", 1e-4, [3.0, 2.5]), ("lr-2", 2e-4, [3.0, 2.0]), ("lr-3", 3e-4, [])):
        result = {} if losses else {"exit_code": 1}
        run = {**values, "learning_rate": rate, "output_dir": f"saves/m/{name}"}
        write_run(Path("runs/sweep", name), run, losses, **result)
    write_json(Path("runs/sweep/batch.json"), {"runs": [], "slots": ["cpu"], "max_attempts": 1})
    return tmp_path


@pytest.fixture
def page(work_folder: Path) -> TextReader:
    return TextReader(write_report("medical").read_text(encoding="utf-8"))


def test_the_page_tells_the_run_from_data_to_score(page: TextReader) -> None:
    for words in (
        "medical finished models/tiny-qwen3 · lora · train · started 2026-11-22 08:00 UTC",
        "last loss 1.1 best loss 1.1 time 2 min 5 s training rows 1,200 rouge_l 80.00",
        "12 held-out rows of held_out; what follows </think> is scored",
        "base adapter, this run rouge_l ROUGE-L of the answers 11.00 80.00 +69.00* better [+68.58, +69.42]",
        "Config, against the preset cpu-smoke key cpu-smoke this run learning_rate 0.001 0.005",
        "medical 1,200 700 reasoning, 500 chat tagged raw/r1.jsonl 111111111111",
        "llamafactory-cli train config.yaml",
    ):
        assert words in page.text


def test_what_a_model_or_a_row_wrote_is_shown_and_never_becomes_markup(page: TextReader) -> None:
    assert page.tags & {"script", "img", "iframe", "object", "form"} == set()
    assert page.text.count("<script>document.title='owned'</script>") >= 14  # each base answer, the flag, run_name
    assert "</pre></main> good" in page.text


def test_the_page_needs_nothing_but_itself(page: TextReader, work_folder: Path) -> None:
    text = (work_folder / "runs/medical.html").read_text(encoding="utf-8")
    assert page.links == ["data:,"]
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert "url(" not in text
    assert """content="default-src 'none'; img-src data:; style-src 'unsafe-inline'\"""" in text


def test_where_a_tracker_shows_it_is_a_link_and_nothing_else_becomes_one(work_folder: Path) -> None:
    tracking = [
        {"tool": "swanlab", "id": "ab12", "url": "https://swanlab.cn/me/runs/ab12?token=quite-a-secret"},
        {"tool": "wandb", "id": '"><script>', "url": "javascript:alert(1)", "folder": "wandb/offline-run-1"},
        {"tool": "wandb", "folder": "wandb/offline-run-2"},
        "no entry",
    ]
    write_run(Path("runs/tracked"), {"output_dir": "saves/t"}, [2.0], tracking=tracking)
    page = write_report("tracked").read_text(encoding="utf-8")
    assert re.findall("<a [^>]*>", page) == ['<a href="https://swanlab.cn/me/runs/ab12?token=***">']
    assert "<script" not in page
    assert "quite-a-secret" not in page
    assert "<code>wandb/offline-run-1</code>" in page
    assert page.count("<code>wandb/offline-run-2</code>") == 1


def test_a_batch_has_one_table_and_all_its_curves(work_folder: Path) -> None:
    page = TextReader(write_report("sweep", work_folder / "sweep.html").read_text(encoding="utf-8"))
    assert "sweep 2 of 3 runs finished" in page.text
    assert "run state cause best loss last loss time learning_rate lr-1" in page.text
    assert "lr-2 finished 2 best 2 2 min 5 s 0.0002" in page.text
    assert "lr-3 failed config or data 2 min 5 s 0.0003" in page.text
    assert "lr-1 2.5 lr-2 2 lr-3 no loss logged" in page.text


def test_a_scored_batch_shows_each_runs_score(work_folder: Path) -> None:
    outputs = {"base": ["x"] * 12, "adapter": ["good"] * 12}
    write_evaluation(Path("runs/lr-2-eval"), "saves/m/lr-2", outputs, "good")
    text = TextReader(write_report("sweep").read_text(encoding="utf-8")).text
    assert "time learning_rate score lr-1" in text
    assert "lr-2 finished 2 best 2 2 min 5 s 0.0002 rouge_l 80.00 (+69.00*)" in text
    assert "Scores run rouge_l think_format cut_off lr-2 80.00 100.00 0.00" in text


def test_a_run_that_never_logged_or_was_scored_still_has_a_page(work_folder: Path) -> None:
    text = TextReader(write_report("sweep/lr-3").read_text(encoding="utf-8")).text
    assert "failed" in text
    assert "No loss was logged." in text
    assert "Scores" not in text


@pytest.mark.parametrize("name", ["medical", "sweep", "runs/medical", "runs/sweep"])
def test_a_run_or_a_batch_is_called_by_its_name_or_its_folder(work_folder: Path, name: str) -> None:
    assert write_report(name) == Path("runs", f"{Path(name).name}.html")


def test_an_unknown_name_is_refused_with_the_names_there_are(work_folder: Path) -> None:
    with pytest.raises(InputError, match=r"no run is called 'nope' in runs; there are medical, sweep/lr-1"):
        write_report("nope")


def test_a_batch_without_runs_is_refused(work_folder: Path) -> None:
    write_json(Path("runs/empty/batch.json"), {"runs": [], "slots": [], "max_attempts": 1})
    with pytest.raises(InputError, match="holds no run yet"):
        write_report("empty")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as driver:
        yield driver


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
@pytest.mark.parametrize("name", ["medical", "sweep"])
def test_a_real_browser_shows_the_page_whole(work_folder: Path, browser: Any, name: str, width: int) -> None:
    page = write_report(name, work_folder / "page.html")
    set_screen(browser, width, 844)
    browser.get(page.as_uri())
    assert browser.title == f"{name} · lfc"
    complaints = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert complaints == []
    assert browser.execute_script("return document.documentElement.scrollWidth") == width
    shown = browser.execute_script(
        "return [...document.querySelectorAll('svg')].filter(svg => svg.getBoundingClientRect().width > 0)"
        ".map(svg => svg.getAttribute('class'))"
    )
    assert shown == ["chart wide" if width > 640 else "chart narrow"]
    smallest = browser.execute_script(
        "return Math.min(...[...document.querySelectorAll('main *')].filter(e => e.getClientRects().length"
        " && !e.closest('svg')).map(e => parseFloat(getComputedStyle(e).fontSize)))"
    )
    assert smallest >= 12


def test_hovering_a_point_shows_its_loss(work_folder: Path, browser: Any) -> None:
    actions = pytest.importorskip("selenium.webdriver").ActionChains(browser)
    set_screen(browser, 1280, 844)
    browser.get(write_report("medical").absolute().as_uri())
    point = browser.find_elements("css selector", ".chart.wide .point")[1]
    hint = point.find_element("css selector", ".hint")
    assert not hint.is_displayed()
    actions.move_to_element(point.find_element("css selector", ".hit")).perform()
    assert hint.is_displayed()
    assert hint.text == "training loss: 2.1 at step 20"


def test_nothing_is_asked_of_any_network(work_folder: Path, browser: Any) -> None:
    browser.get_log("performance")
    page = write_report("medical").absolute()
    browser.get(page.as_uri())
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]


def test_a_dark_screen_gets_a_dark_page_that_is_readable(work_folder: Path) -> None:
    page = write_report("medical").absolute()
    with open_browser(dark=True) as driver:
        driver.get(page.as_uri())
        colours = driver.execute_script(
            "const style = getComputedStyle(document.body); return [style.backgroundColor, style.color]"
        )
    back, ink = ([int(part) for part in colour[4:-1].split(",")] for colour in colours)
    assert max(back) < 60
    assert min(ink) > 200
