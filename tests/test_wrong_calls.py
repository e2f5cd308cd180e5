"""Each public function, called wrongly three times: an error of adkit's own that says what was given, and what to give instead."""

import inspect
from collections.abc import Iterator
from fnmatch import fnmatchcase
from importlib import import_module
from pkgutil import iter_modules

import pytest
from wrong_calls import CALLS, has_two_parts, is_our_own, raised

import adkit as ad

EXPECTED = {"ValueError", "ArtefactError", "FileNotFoundError", "FileExistsError", "TraitError", "ImportError"}
LEFT_OUT = {
    "they take nothing that could be wrong": ["anatomy.gates", "cookies.split", "sources.Random"],
    "answers: adkit fills them in": [
        "Step", "Transition", "Rng", "Histories", "stats.Interval", "taps.Recording", "edits.Edit", "endpoints.erasure.Choice",
        "probing.AttentionMasses", "probing.Eraser", "probing.ErasureEffect", "probing.Patched", "probing.Probe",
        "probing.Steering", "probing.Verdict", "probing.Replays*",
    ],
    "users write them; testing.check_env and check_agent say what is wrong": ["protocols.*"],
    "collect asks them, and checks first": ["envs.*.*", "sources.*.*", "InContext.*", "RL2.start"],
    "parts of what is in the table, which checks first": [
        "artefacts.*", "display.*", "pixels.*", "seeds.*", "tables.*", "taps.Tap", "tokens.*", "EnvSpec.*", "CausalTransformer.*",
        "RecurrentPolicy.*",
    ],
    "plotly's own": ["views.Figure*"],
}  # fmt: skip


def public() -> Iterator[str]:
    """Every public function and class of adkit and its modules, by its shortest name, and methods that take arguments."""
    studies = (f"endpoints.{module.name}" for module in iter_modules(ad.endpoints.__path__))
    seen = set()
    for place in ("", *ad._MODULES, "study", *studies):
        module = import_module(f"adkit.{place}".rstrip("."))
        own = [name for name, thing in vars(module).items() if getattr(thing, "__module__", "") == module.__name__]
        for name in getattr(module, "__all__", own):
            thing = getattr(module, name)
            if name.startswith("_") or not callable(thing) or id(thing) in seen:
                continue
            seen.add(id(thing))
            yield (full := f"{place}.{name}".lstrip("."))
            for method, function in vars(thing).items() if inspect.isclass(thing) else ():
                bound, free = inspect.isfunction(function), isinstance(function, staticmethod | classmethod)
                if not method.startswith("_") and (bound or free):
                    takes = len(inspect.signature(getattr(thing, method)).parameters) > bound
                    yield from [f"{full}.{method}"] * takes


def test_every_public_function_is_in_the_table():
    names = set(public())
    left_out = [pattern for patterns in LEFT_OUT.values() for pattern in patterns]
    missing = {name for name in names - set(CALLS) if not any(fnmatchcase(name, pattern) for pattern in left_out)}
    assert not missing, f"three wrong calls each, please: {sorted(missing)}"
    idle = [pattern for pattern in left_out if not any(fnmatchcase(name, pattern) for name in names - set(CALLS))]
    assert not idle, f"nothing is left out by {idle}"


@pytest.mark.parametrize("name", CALLS)
def test_wrong_calls_say_what_is_wrong(name):
    assert len(CALLS[name]) == 3
    for i, call in enumerate(CALLS[name]):
        error = raised(call)
        assert error is not None, f"call {i} goes through"
        kind, says = type(error).__name__, f"call {i}: {error!r}"
        assert kind in EXPECTED or (kind == "AssertionError" and name.startswith("testing.")), says
        assert is_our_own(error) and has_two_parts(error), says
