"""Find a Chromium for the browser tests, or get one, and say what was done.

`python tests/browser/chromium.py` prints the path on the last line of its output. The order: the
browser that $CHROMIUM names, an installed one, Playwright's own download, Debian's package.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from adkit.views.pictures import HELP, browser


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
    if path := browser():
        return path
    run(sys.executable, "-m", "playwright", "install", "chromium", seconds=300)
    if not browser() and shutil.which("apt-get") and os.geteuid() == 0:
        run("apt-get", "-qq", "update")
        run("apt-get", "-qq", "install", "-y", "--no-install-recommends", "chromium")
    return browser() or sys.exit(HELP)


if __name__ == "__main__":
    path = get()
    print(f"Browser tests use {path}", file=sys.stderr)
    print(path)
