"""Make the pictures in docs/ from real runs: `python -m scripts.make_pictures FOLDER`.

FOLDER takes a quickstart and a batch of three learning rates on its data; what stands there already is used as it
is. Needs the training stack, selenium, chromium and chromedriver; about five minutes on a CPU with two cores.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from launch.runs.progress import describe_progress, read_progress
from tests.support.browser import open_browser, save_picture, set_screen

ROOT = Path(__file__).parent.parent
SWEEP = """\
config: configs/hybrid.yaml
set:
  max_steps: 60
grid:
  learning_rate: [1.0e-3, 3.0e-3, 1.0e-2]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the runs are made")
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "img", help="where the pictures go")
    options = parser.parse_args()
    folder: Path = options.folder.absolute()
    options.to.mkdir(exist_ok=True)
    make_runs(folder)
    for name in ("hybrid", "sweep"):
        run_lfc(folder, "launch", "report", name)
    draw_live_view(folder / "saves/tiny-qwen3/lora/hybrid/trainer_log.jsonl", options.to / "live-view.svg")
    for picture, name, width, height, dark in (
        ("report-desktop.png", "hybrid", 1100, 1560, False),
        ("report-phone.png", "hybrid", 390, 844, True),
        ("report-batch.png", "sweep", 1100, 760, False),
    ):
        with open_browser(dark=dark) as driver:
            take_picture(driver, folder / "runs" / f"{name}.html", (width, height), options.to / picture)
        print(options.to / picture)


def make_runs(folder: Path) -> None:
    """Run the quickstart and the batch, unless their runs stand there."""
    if not (folder / "runs/hybrid-eval/comparison.json").is_file():
        run_lfc(Path.cwd(), "quickstart", "--to", str(folder))
    if not (folder / "runs/sweep").is_dir():
        (folder / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
        run_lfc(folder, "launch", "batch", "sweep.yaml")


def run_lfc(folder: Path, *argv: str) -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "launch", *argv], cwd=folder, env=environ, check=True)


def take_picture(driver: Any, page: Path, size: tuple[int, int], picture: Path) -> None:
    """Show a page on a screen of this size, no taller than the page, and keep what is seen."""
    set_screen(driver, *size)
    driver.get(page.as_uri())
    height = min(size[1], driver.execute_script("return document.documentElement.scrollHeight"))
    set_screen(driver, size[0], height)
    save_picture(driver, picture)


def draw_live_view(trainer_log: Path, picture: Path) -> None:
    """Draw the line that a terminal shows while a run goes on, as it stood at two thirds of this one."""
    from rich.console import Console
    from rich.spinner import Spinner

    lines = trainer_log.read_text(encoding="utf-8").splitlines(keepends=True)
    with tempfile.TemporaryDirectory() as folder:
        seen = Path(folder) / trainer_log.name
        seen.write_text("".join(lines[: len(lines) * 2 // 3]), encoding="utf-8")
        progress = read_progress(seen)
    if progress is None:
        raise SystemExit(f"{trainer_log} has too few log steps")
    console = Console(record=True, width=100, file=open(os.devnull, "w", encoding="utf-8"), force_terminal=True)  # noqa: SIM115, PTH123
    console.print("[bold]$[/bold] lfc launch train configs/hybrid.yaml")
    console.print(Spinner("dots", text=describe_progress(progress)))
    drawing = console.export_svg(title="lfc launch train")
    # Rich names fonts on a server and itself: a picture in docs/ is to load nothing.
    drawing = re.sub(r"@font-face \{.*?\}|<!--.*?-->", "", drawing, flags=re.DOTALL)
    picture.write_text("\n".join(filter(str.strip, drawing.splitlines())) + "\n", encoding="utf-8")
    print(picture)


if __name__ == "__main__":
    main()
