"""Static pictures: any page of ours, as an installed browser draws it."""

from __future__ import annotations

import html
import math
import os
import shutil
import tempfile
from base64 import b64encode
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote
from uuid import uuid4

if TYPE_CHECKING:
    from playwright.sync_api import Page

KINDS = "html", "png", "svg", "pdf"
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


def whole_page(title: str, fragment: str) -> str:
    """Return a page of its own for what a notebook holds of a view or a figure."""
    style = ":root { color-scheme: light dark } body { margin: 1rem }"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>
<style>{style}</style></head>
<body>{fragment}</body></html>
"""


def save(path: str | Path, page: str) -> Path:
    """Write a page, or a picture of it, by the end of the path: .html, .png, .svg or .pdf.

    RuntimeError where there is no browser to draw a picture. A view's .svg holds its pixels.
    """
    path = Path(path)
    kind = path.suffix.removeprefix(".")
    if kind not in KINDS:
        raise ValueError(f"`path` must end in .{', .'.join(KINDS)}, got {path}")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no file: a page does not replace it")
    content = page.encode() if kind == "html" else draw([page], kind)[0]
    new = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        new.write_bytes(content)
        os.replace(new, path)  # at once: another process may save the same page
    finally:
        new.unlink(missing_ok=True)
    return path


def draw(pages: Iterable[str], kind: str = "png") -> list[bytes]:
    """Return a picture of the view or the plotly figure on each HTML page, some .3 s each.

    One browser without a window draws them all. RuntimeError if there is none.
    """
    with ThreadPoolExecutor(1) as apart:  # Playwright refuses a thread that has an event loop
        return apart.submit(_draw, pages, kind).result()


def _draw(pages: Iterable[str], kind: str) -> list[bytes]:
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
            window.add_style_tag(content="@page { margin: 0 } body { margin: 0 !important }")
            window.evaluate(DRAWN)
            drawn.append(_picture(window, kind))
        chromium.close()
    return drawn


def _picture(window: Page, kind: str) -> bytes:
    shown = window.locator(".adkit-view, .plotly-graph-div").first
    box = shown.bounding_box()
    size = {side: math.ceil(box[side]) for side in ("width", "height")}
    if kind == "pdf":
        sides = {side: f"{pixels + 1}px" for side, pixels in size.items()}
        return window.pdf(**sides, print_background=True, page_ranges="1")
    if kind == "svg" and window.evaluate("'Plotly' in window"):
        address = shown.evaluate("it => Plotly.toImage(it, { format: 'svg' })")
        return unquote(address.partition(",")[2]).encode()
    png = shown.screenshot()
    if kind == "png":
        return png
    image = f'<image href="data:image/png;base64,{b64encode(png).decode()}"/>'
    space = 'xmlns="http://www.w3.org/2000/svg"'
    return f'<svg {space} width="{size["width"]}" height="{size["height"]}">{image}</svg>'.encode()
