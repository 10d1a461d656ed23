"""LlamaBoard's page in a headless Chromium, read as a user reads it: by labels."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import find_browser, open_browser

needs_browser = pytest.mark.skipif(
    not (find_browser() and shutil.which("chromedriver")), reason="needs chromium and chromedriver"
)

# The first of several inputs with one label is that of the Train tab, which stands before the others.
_READ = """
const shown = {};
for (const block of document.querySelectorAll('.block')) {
  const title = block.querySelector('[data-testid=block-info], label > span');
  const input = block.querySelector('input, textarea');
  if (!title || !input || title.innerText.trim() in shown) continue;
  const chosen = [...block.querySelectorAll('.token span')].map(token => token.innerText.trim());
  shown[title.innerText.trim()] =
    input.type == 'checkbox' ? input.checked : block.querySelector('.token') ? chosen : input.value;
}
return shown;
"""
_PRESS = """
const button = [...document.querySelectorAll('button')].find(button => button.innerText.trim() == arguments[0]);
if (!button) return false;
button.click();
return true;
"""


class Page:
    """One browser window."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, url: str, *, until: str) -> None:
        """Open LlamaBoard and wait until the labels are in their language; `until` is one of them."""
        self.driver.get(url)
        self.wait(lambda: until in self.read())
        # gradio answers the page's own first events after it has drawn the fields.
        time.sleep(3)

    def read(self) -> dict[str, Any]:
        """Return what every field shows, by its label."""
        shown: dict[str, Any] = self.driver.execute_script(_READ)
        return shown

    def press(self, label: str) -> None:
        """Press a button."""
        assert self.driver.execute_script(_PRESS, label), f"there is no button {label}"

    def preview(self, label: str) -> str:
        """Press the button that previews the command, and return the command."""
        self.press(label)
        self.wait(lambda: "llamafactory-cli train" in self.text)
        time.sleep(1)
        return "\n".join(element.text for element in self.driver.find_elements("css selector", "code"))

    def choose(self, label: str, value: str) -> None:
        """Type a value into a box with a list, and take it."""
        from selenium.webdriver.common.keys import Keys

        block = next(
            block
            for block in self.driver.find_elements("css selector", ".block")
            if block.find_elements("css selector", f"input[aria-label='{label}']")
        )
        box = block.find_element("css selector", "input")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", box)
        box.click()
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(value)
        time.sleep(0.5)
        box.send_keys(Keys.ENTER)

    @property
    def text(self) -> str:
        """Everything that the page shows in words."""
        return str(self.driver.find_element("tag name", "body").text)

    def count_errors(self) -> int:
        """Return how many fields and messages are marked as errors."""
        return len(self.driver.find_elements("css selector", "span.error, .toast-body.error"))

    def wait(self, is_so: Callable[[], bool], timeout_s: float = 120) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + timeout_s
        while not is_so():
            assert time.monotonic() < deadline, f"not so after {timeout_s} s; the page says:\n{self.text[-2000:]}"
            time.sleep(0.5)

    def save_picture(self, path: Path) -> None:
        """Save what the window shows as a PNG."""
        self.driver.save_screenshot(str(path))


@contextmanager
def open_page(width: int = 1400, height: int = 2600) -> Iterator[Page]:
    """Start a headless Chromium with a screen that holds the whole page."""
    with open_browser(width=width, height=height) as driver:
        yield Page(driver)
