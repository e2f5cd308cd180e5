"""A real JupyterLab in a real Chromium, for the tests and benchmarks that need eyes. NOTEBOOKS.md section 3 has the reasons."""

from __future__ import annotations

import io
import json
import os
import shutil
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
from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright

PATIENCE = 120_000  # ms: a shared machine is slow, a hang is longer
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-sync", "--no-first-run"]
FLAGS += [
    "--disable-background-networking",
    "--disable-component-update",
]  # Chromium's own calls home
RUNNING = """(() => {
  const panel = window.jupyterapp?.shell.currentWidget;
  return panel?.context?.isReady && panel.context.sessionContext?.session?.kernel?.status === "idle";
})()"""


@contextmanager
def chromium() -> Iterator[Callable[[], Page]]:
    """A function that opens a page; it remembers every host it asked (`page.hosts`) and every error thrown (`page.errors`)."""
    path = os.environ.get("CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    assert path, (
        "The browser tests need Chromium: apt-get install chromium, or say where it is: CHROMIUM=/path/to/chromium"
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)

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
    """Where a request goes: a host, or file, data, blob for what stays in the page."""
    return urlsplit(url).hostname or urlsplit(url).scheme


@contextmanager
def jupyterlab(folder: Path) -> Iterator[str]:
    """A server on `folder`, with nobody's settings but its own: its address."""
    own = folder / ".jupyter"
    (own / "config" / "labconfig").mkdir(parents=True)
    quiet = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (own / "config" / "labconfig" / "page_config.json").write_text(json.dumps(quiet))
    places = {"CONFIG_DIR": "config", "DATA_DIR": "data", "RUNTIME_DIR": "runtime"}
    environment = os.environ | {
        f"JUPYTER_{name}": str(own / place) for name, place in places.items()
    }
    environment |= {
        "JUPYTERLAB_WORKSPACES_DIR": str(own / "workspaces"),
        "JUPYTERLAB_SETTINGS_DIR": str(own / "settings"),
    }
    port = free_port()
    settings = [
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=",
    ]
    settings += ["--no-browser", "--allow-root", "--LabApp.expose_app_in_browser=True"]
    command = [sys.executable, "-m", "jupyterlab", str(folder), *settings]
    with (own / "log").open("w") as log:
        quietly = {
            "stdin": subprocess.DEVNULL,
            "stdout": log,
            "stderr": log,
            "start_new_session": True,
        }
        server = subprocess.Popen(command, env=environment, **quietly)
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


def write_notebook(path: Path, *cells: str) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    nbformat.write(notebook, path)


def run_all(page: Page, address: str, name: str) -> None:
    """Open a notebook and run it; AssertionError if a cell failed."""
    page.goto(f"{address}/lab/workspaces/{name}/tree/{name}.ipynb?reset")
    page.wait_for_function(
        "window.jupyterapp && document.querySelector('.jp-NotebookPanel .jp-Cell')"
    )
    page.wait_for_function(RUNNING)
    page.evaluate(
        "void jupyterapp.commands.execute('notebook:run-all-cells').then(() => { window.__ran = true }); 0"
    )
    page.wait_for_function("window.__ran === true")
    said = page.evaluate("""jupyterapp.shell.currentWidget.content.model.sharedModel.cells.filter(cell => cell.cell_type === "code")
        .flatMap(cell => cell.outputs).filter(output => output.output_type === "error").map(output => output.evalue)""")
    assert not said, said


def in_kernel(page: Page, code: str) -> str:
    """Run code in the open notebook's kernel, and return what it prints."""
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
    """What a view says it shows."""
    page.wait_for_function(f"document.querySelector({view!r})?.dataset.shown")
    return json.loads(page.locator(view).first.get_attribute("data-shown"))


def wait_until(page: Page, condition: str, view: str = ".EpisodeAttention") -> dict:
    """Wait until what a view shows (`v` in the JavaScript condition) is as it should be."""
    read = f"JSON.parse(document.querySelector({view!r})?.dataset.shown ?? null)"
    page.wait_for_function(f"(() => {{ const v = {read}; return v && {condition} }})()")
    return shown(page, view)


def pixels(canvas: Locator) -> np.ndarray:
    """(height, width, 3) what is on the screen there."""
    return np.asarray(Image.open(io.BytesIO(canvas.screenshot())).convert("RGB")).astype(int)


def wait_for_colour(canvas: Locator, colour: str) -> None:
    """Wait until a colour is on the screen: a page may say what it drew some frames before it shows."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not like(pixels(canvas), colour).any():
        assert time.monotonic() < deadline, f"{colour} never showed"
        time.sleep(0.1)


def like(image: np.ndarray, colour: str) -> np.ndarray:
    """(height, width) bool: pixels of a colour such as #0072B2."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return (abs(image - wanted) <= 12).all(-1)
