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


STREAMS = {"stdin": subprocess.DEVNULL, "stdout": sys.stderr}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def installed() -> str | None:
    """Return the path of a browser that is there already, or None."""
    named = os.environ.get("CHROMIUM")
    if named:
        if not os.access(named, os.X_OK):
            sys.exit(f"CHROMIUM={named} is not a program. {HELP}")
        return named
    found = next(filter(None, map(shutil.which, INSTALLED)), None)
    return found or (MACOS if Path(MACOS).exists() else None)


def playwrights() -> str | None:
    """Return the path of the browser that Playwright downloaded, or None."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def run(*command: str, seconds: int) -> bool:
    """Run a command with its output on stderr; return whether it succeeded in time."""
    say(f"No browser yet. Trying: {' '.join(command)}")
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(command, **STREAMS, env=quiet, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def get() -> str:
    """Return the path of a browser; install one if need be, and exit if none can be had."""
    if path := installed() or playwrights():
        return path
    run(sys.executable, "-m", "playwright", "install", "chromium", seconds=300)
    if path := playwrights():
        return path
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        run("apt-get", "-qq", "update", seconds=180)
        run("apt-get", "-qq", "install", "-y", "--no-install-recommends", "chromium", seconds=600)
    return installed() or sys.exit(HELP)


if __name__ == "__main__":
    path = get()
    say(f"Browser tests use {path}")
    print(path)
