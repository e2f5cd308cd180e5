"""Find a Chromium for the browser tests, or get one, and say what was done.

`python tests/browser/chromium.py` prints the path on the last line of its output. The order: the
browser that $CHROMIUM names, an installed one, Playwright's own download, Debian's package.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

INSTALLED = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MACOS = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
HELP = (
    "No Chromium for the browser tests. Install one with `sudo apt-get install chromium` "
    "(Debian, Ubuntu) or `python -m playwright install chromium`, "
    "or name yours: CHROMIUM=/path/to/chromium make test"
)


def installed() -> str | None:
    """Return the path of a browser that is there already, or None."""
    from playwright.sync_api import sync_playwright

    if named := os.environ.get("CHROMIUM"):
        return named if os.access(named, os.X_OK) else sys.exit(f"{named} is no program. {HELP}")
    if found := next(filter(None, map(shutil.which, INSTALLED)), None):
        return found
    with sync_playwright() as playwright:
        places = MACOS, playwright.chromium.executable_path
    return next((path for path in places if Path(path).exists()), None)


def run(*command: str, seconds: int = 600) -> None:
    """Run a command with its output on stderr; what it leaves says whether it succeeded."""
    print(f"No browser yet. Trying: {' '.join(command)}", file=sys.stderr, flush=True)
    streams = {"stdin": subprocess.DEVNULL, "stdout": sys.stderr}
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(command, **streams, env=quiet, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)


def get() -> str:
    """Return the path of a browser; install one if need be, and exit if none can be had."""
    if path := installed():
        return path
    run(sys.executable, "-m", "playwright", "install", "chromium", seconds=300)
    if not installed() and shutil.which("apt-get") and os.geteuid() == 0:
        run("apt-get", "-qq", "update")
        run("apt-get", "-qq", "install", "-y", "--no-install-recommends", "chromium")
    return installed() or sys.exit(HELP)


if __name__ == "__main__":
    path = get()
    print(f"Browser tests use {path}", file=sys.stderr)
    print(path)
