"""Make docs/img/webui.png: LlamaBoard as `lfc launch webui` opens it, on the sample and a tiny Qwen3.

Needs chromium and chromedriver. Run from the repository's root: python -m scripts.make_webui_picture
"""

import argparse
import tempfile
from pathlib import Path

from tests.cli.test_webui import prepare_folder, start_webui
from tests.support.llamaboard_page import open_page

PICTURE = Path(__file__).parent.parent / "docs" / "img" / "webui.png"


def make_picture() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare_folder(folder)
        with (
            start_webui(folder, "tagged", lang="en") as (_, url),
            open_page(1280, 1500) as page,
        ):
            page.open(url, until="Model name")
            page.save_picture(PICTURE)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    make_picture()
