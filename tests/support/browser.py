"""A headless Chromium for tests, where one is installed: Debian's packages are chromium and chromium-driver."""

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def open_browser(*, width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Any]:
    """Start a browser with a screen of this size; a narrow one is a phone. Skips the test when there is none."""
    webdriver = pytest.importorskip("selenium.webdriver")
    service = pytest.importorskip("selenium.webdriver.chrome.service")
    # Both given by path: selenium would look for them, and on a miss download them.
    driver_path, browser_path = shutil.which("chromedriver"), find_browser()
    if driver_path is None or browser_path is None:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
    for flag in (*flags, "--no-proxy-server", "--lang=en"):
        options.add_argument(flag)
    options.binary_location = browser_path
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=service.Service(driver_path))
    try:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        set_screen(driver, width, height)
        yield driver
    finally:
        driver.quit()


def find_browser() -> str | None:
    """Return the path of Chromium or Chrome."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def set_screen(driver: Any, width: int, height: int) -> None:
    """Give a page another screen."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def save_picture(driver: Any, path: Path) -> None:
    """Write what the screen shows as a PNG."""
    path.write_bytes(base64.b64decode(driver.execute_cdp_cmd("Page.captureScreenshot", {})["data"]))
