"""Static pictures: any page of ours, as an installed browser draws it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

INSTALLED = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MACOS = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
HELP = (
    "A static picture needs Playwright (pip install playwright) and a Chromium or Chrome: "
    "`sudo apt-get install chromium` (Debian, Ubuntu) or `python -m playwright install chromium` "
    "gets one; CHROMIUM=/path/to/chromium names yours."
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-sync", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]  # no calls home
DRAWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def browser() -> str | None:
    """Return the path of a Chromium: the one that $CHROMIUM names, or one that is installed."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if named := os.environ.get("CHROMIUM"):
        if not os.access(named, os.X_OK):
            raise ValueError(f"CHROMIUM must be the path of a program, got {named}")
        return named
    if found := next(filter(None, map(shutil.which, INSTALLED)), None):
        return found
    with sync_playwright() as playwright:
        places = MACOS, playwright.chromium.executable_path
    return next((path for path in places if Path(path).exists()), None)


def draw(pages: Iterable[str]) -> list[bytes]:
    """Return a PNG of the view or the plotly figure on each HTML page, some .3 s each.

    One browser without a window draws them all. RuntimeError if there is none.
    """
    with ThreadPoolExecutor(1) as apart:  # Playwright refuses a thread that has an event loop
        return apart.submit(_draw, pages).result()


def _draw(pages: Iterable[str]) -> list[bytes]:
    path = browser()
    if path is None:
        raise RuntimeError(HELP)
    from playwright.sync_api import sync_playwright

    drawn = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        window = chromium.new_page(viewport={"width": 1100, "height": 900})
        file = Path(folder, "page.html")
        for page in pages:
            file.write_text(page, encoding="utf-8")
            window.goto(file.as_uri())
            window.evaluate(DRAWN)
            drawn.append(window.locator(".adkit-view, .plotly-graph-div").first.screenshot())
        chromium.close()
    return drawn
