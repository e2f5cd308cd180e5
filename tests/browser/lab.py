"""A real JupyterLab in a real Chromium, for tests and benchmarks of what is on the screen."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright

from adkit.views import pictures

PATIENCE = 120_000  # ms: a shared machine is slow
RUNNING = """(() => {
  const panel = window.jupyterapp?.shell.currentWidget;
  return panel?.context?.isReady
    && panel.context.sessionContext?.session?.kernel?.status === "idle";
})()"""

OPEN = "window.jupyterapp && document.querySelector('.jp-NotebookPanel .jp-Cell')"
ERRORS = """jupyterapp.shell.currentWidget.content.model.sharedModel.cells
  .filter(cell => cell.cell_type === "code").flatMap(cell => cell.outputs)
  .filter(output => output.output_type === "error").map(output => output.evalue)"""


@contextmanager
def open_browser() -> Iterator[Callable[[], Page]]:
    """Yield a function that opens a page.

    A page remembers every host it asked (`page.hosts`) and every error thrown (`page.errors`).
    """
    path = pictures.browser() or pytest.fail(pictures.HELP)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=pictures.FLAGS)

        def open_page() -> Page:
            page = browser.new_page(viewport={"width": 1400, "height": 1300})
            page.set_default_timeout(PATIENCE)
            page.hosts, page.errors = set(), []
            page.on("request", lambda request: page.hosts.add(host(request.url)))
            page.on("websocket", lambda socket: page.hosts.add(host(socket.url)))
            page.on("pageerror", lambda error: page.errors.append(str(error)))
            return page

        try:
            yield open_page
        finally:
            browser.close()


def host(url: str) -> str:
    """Return where a request goes: a host, or file, data, blob for what stays in the page."""
    return urlsplit(url).hostname or urlsplit(url).scheme


@contextmanager
def jupyterlab(folder: Path) -> Iterator[str]:
    """Yield the address of a server on `folder` that has no settings but its own."""
    own = folder / ".jupyter"
    (own / "config" / "labconfig").mkdir(parents=True)
    quiet = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (own / "config" / "labconfig" / "page_config.json").write_text(json.dumps(quiet))
    places = ("JUPYTER_DATA", "JUPYTER_RUNTIME", "JUPYTERLAB_WORKSPACES", "JUPYTERLAB_SETTINGS")
    environment = os.environ | {f"{name}_DIR": str(own / name) for name in places}
    environment |= {"JUPYTER_CONFIG_DIR": str(own / "config")}
    port = free_port()
    settings = ["ServerApp.ip=127.0.0.1", f"ServerApp.port={port}", "ServerApp.port_retries=0"]
    settings += ["IdentityProvider.token=", "LabApp.expose_app_in_browser=True"]
    settings = [f"--{setting}" for setting in settings] + ["--no-browser", "--allow-root"]
    command = [sys.executable, "-m", "jupyterlab", str(folder), *settings]
    with (own / "log").open("w") as log:
        quietly = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        server = subprocess.Popen(command, env=environment, start_new_session=True, **quietly)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            assert server.poll() is None, (own / "log").read_text()[-3000:]
            try:
                urllib.request.urlopen(f"{address}/api/status", timeout=5).close()
                break
            except OSError:
                time.sleep(0.25)
        yield address
    finally:
        server.terminate()
        server.wait(30)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def made(cell: str) -> dict:
    """Return what a notebook's cell makes, made in this process: what the browser must show."""
    scope: dict = {}
    exec(cell, scope)
    return scope


def write_notebook(path: Path, *cells: str) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["kernelspec"] = kernel
    nbformat.write(notebook, path)


def run_all(page: Page, address: str, name: str) -> None:
    """Open a notebook and run it; AssertionError if a cell failed."""
    page.goto(f"{address}/lab/workspaces/{name}/tree/{name}.ipynb?reset")
    page.wait_for_function(OPEN)
    page.wait_for_function(RUNNING)
    command(page, "notebook:run-all-cells")
    said = page.evaluate(ERRORS)
    assert not said, said


def command(page: Page, name: str, **arguments) -> None:
    """Execute a command of JupyterLab and wait until it is done."""
    page.evaluate(
        """([name, arguments]) => {
          window.__ran = false;
          void jupyterapp.commands.execute(name, arguments).then(() => { window.__ran = true });
        }""",
        [name, arguments],
    )
    page.wait_for_function("window.__ran === true")


def in_kernel(page: Page, code: str) -> str:
    """Run code in the open notebook's kernel and return what it prints."""
    page.evaluate(
        """code => {
          const kernel = jupyterapp.shell.currentWidget.context.sessionContext.session.kernel;
          const future = kernel.requestExecute({ code });
          window.__said = ""; window.__done = null;
          future.onIOPub = ({ header, content }) => {
            if (header.msg_type === "stream") window.__said += content.text;
            if (header.msg_type === "error") window.__said += content.evalue;
          };
          void future.done.then(reply => { window.__done = reply.content.status });
        }""",
        code,
    )
    page.wait_for_function("window.__done !== null")
    said = page.evaluate("window.__said")
    assert page.evaluate("window.__done") == "ok", said
    return said


def shown(page: Page, view: str = ".EpisodeAttention") -> dict:
    """Return what a view says it shows."""
    page.wait_for_function(f"document.querySelector({view!r})?.dataset.shown")
    return json.loads(page.locator(view).first.get_attribute("data-shown"))


def wait_until(page: Page, condition: str, view: str = ".EpisodeAttention") -> dict:
    """Wait until what a view shows (`v` in the JavaScript condition) is as it should be."""
    read = f"JSON.parse(document.querySelector({view!r})?.dataset.shown ?? null)"
    page.wait_for_function(f"(() => {{ const v = {read}; return v && {condition} }})()")
    return shown(page, view)


def pixels(canvas: Locator) -> np.ndarray:
    """Return (height, width, 3) what is on the screen there."""
    return bitmap(canvas.screenshot())


def bitmap(png: bytes) -> np.ndarray:
    """Return (height, width, 3) the pixels of a PNG."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def wait_for_colour(canvas: Locator, colour: str) -> None:
    """Wait until a colour is on the screen, some frames after the page says that it drew it."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not like(pixels(canvas), colour).any():
        assert time.monotonic() < deadline, f"{colour} never showed"
        time.sleep(0.1)


def like(image: np.ndarray, colour: str) -> np.ndarray:
    """Return (height, width) whether each pixel has a colour such as #0072B2."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return (abs(image - wanted) <= 12).all(-1)
