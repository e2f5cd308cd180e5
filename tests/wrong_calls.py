"""Three wrong calls of each public function: `python tests/wrong_calls.py` prints the table of what they say."""

import re
import traceback
from collections.abc import Callable
from pathlib import Path

from wrong_probes import PROBES
from wrong_studies import STUDIES
from wrong_worlds import WORLDS

import adkit as ad

CALLS = WORLDS | PROBES | STUDIES


def raised(call: Callable) -> Exception | None:
    """What a wrong call raises; None if it goes through."""
    try:
        call()
    except Exception as error:
        return error
    return None


def is_our_own(error: Exception) -> bool:
    """Whether a line of adkit raises it, not a library that was given what it cannot use."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return Path(last.filename).is_relative_to(Path(ad.__file__).parent) and last.line.startswith(("raise ", "assert "))


def has_two_parts(error: Exception) -> bool:
    """Whether it says more than one thing: what was given, and then what is allowed or what to try."""
    first, *others = re.split(r"[;:.] |, (?=give|so|try)", str(error))
    return bool(first) and any(len(other.split()) > 1 for other in others)


if __name__ == "__main__":
    for name, calls in CALLS.items():
        for call in calls:
            error = raised(call)
            print(f"| {name} | {type(error).__name__}: {' '.join(str(error).split())[:400]} |", flush=True)
