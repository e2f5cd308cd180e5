"""What a stranger may do to a folder, and limits for code that reads it."""

import copy
import json
import resource
import signal
from contextlib import contextmanager
from pathlib import Path

from adkit import store

DEEP = "as deep as it gets"
HOSTILE = [None, True, -1, 0, 1, 2, 1.5, -0.0, 1e308, float("nan"), 10**12, 2**63, 10**30]
HOSTILE += ["", "5", "é☃", "\ud800", "\0", "x" * 5000, "object", "<img src=x onerror=alert(1)>"]
HOSTILE += ["../../etc/passwd", "/etc/passwd", "..", ".", "manifest.json"]
HOSTILE += [[], {}, [[1]], [10**12] * 2, [1] * 2000, {"a": 1}, DEEP]
NAMES = ["x", "../x.npy", "a\0b", "\ud800", "x" * 300, "", "tasks..npy", "action"]


def text_of(tree) -> bytes:
    nested = "[" * 50_000 + "]" * 50_000
    return json.dumps(tree, indent=1).replace(f'"{DEEP}"', nested).encode()


def resealed(folder: Path, change=lambda manifest: None) -> None:
    """Change a manifest as a stranger may: its own hash is right again afterwards."""
    manifest = json.loads((folder / store.MANIFEST).read_bytes())
    change(manifest)
    (folder / store.MANIFEST).write_bytes(text_of(store.seal(manifest)))


def places(tree):
    """Yield every (container, key) of a JSON tree."""
    for key in tree if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from places(tree[key])


def mutated(rng, tree):
    """Return the tree with one value replaced, moved, renamed or gone."""
    tree = copy.deepcopy(tree)
    every = list(places(tree))
    (container, key), (other, name) = rng.choice(every), rng.choice(every)
    old, how = container[key], rng.choice(["gone", "renamed", "replaced", "replaced", "replaced"])
    near = [old + 1, old - 1, old + 0.5] if isinstance(old, int | float) else [[old]]
    if how == "replaced":
        container[key] = copy.deepcopy(
            rng.choice([rng.choice(HOSTILE), rng.choice(near), other[name]])
        )
    else:
        del container[key]
        if how == "renamed" and isinstance(container, dict):
            container[rng.choice([*NAMES, f"{key} "])] = old
    return tree


class Hang(Exception):
    """It took too long; no OSError, which might be caught."""


@contextmanager
def no_longer_than(seconds: int):
    def stop(*_):
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def no_more_than(size: int):
    """Refuse memory beyond so many bytes more than the process has now, touched or not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
