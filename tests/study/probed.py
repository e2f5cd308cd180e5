"""Activations that hold known things, and what hypotheses must measure."""

from pathlib import Path

import numpy as np
import pytest
from helpers import scrambled
from study import corpora

import adkit as ad

NOTEBOOKS = Path(ad.__file__).parents[1] / "notebooks"
DAYS, WIDTH = 24, 16


def transformer(spec: ad.EnvSpec, layers: int = 2) -> ad.CausalTransformer:
    how = {"context": 16 * DAYS, "heads": 2, "width": WIDTH}
    return scrambled(ad.CausalTransformer(spec, layers=layers, **how))


def gathered(model, histories, at, *taps, batch=16) -> dict[str, np.ndarray]:
    """Stand in for `gather`: noise, plus what `model(histories)` (N, E, H, D) gives if not None."""
    rng = np.random.default_rng(len(histories))
    noise = rng.normal(size=(*at.shape, WIDTH)) * np.geomspace(2, 0.1, WIDTH)
    stream = noise if model is None else noise + model(histories)
    return {"embed": noise[at], "blocks.0.resid": stream[at], "logits": noise[at][:, :8]}


def along(values: np.ndarray, direction: int = 0) -> np.ndarray:
    """Return activations (N, E, H, D) that hold values (N, E, H) along one direction."""
    return 15 * values[..., None] * np.eye(WIDTH)[direction]


def holds_drift(histories: ad.Histories) -> np.ndarray:
    return along(corpora.balance(histories))


def counts_cookies(histories: ad.Histories) -> np.ndarray:
    day = np.broadcast_to(np.arange(DAYS)[:, None] / 10, histories.arrays["action"].shape)
    return along(corpora.eaten(histories) / 5) + along(day, 1)


def registered(entry: dict) -> set[str]:
    """Return the measures that a hypothesis names."""
    rules = entry["supported"], entry["refuted"], entry["controls"]
    named = {entry["measure"], "p", "null"}.union(*rules, entry.get("reported", ()))
    return named - {"p_holm", "over_episode_shuffled"}  # the latter in the full profile only


def check_measures(found: dict, expected: dict, *entries: dict) -> None:
    """Check some estimates, that all are finite, and that they are what hypotheses name."""
    estimates = {name: np.ravel(found[name])[0] for name in expected}
    assert estimates == pytest.approx(expected)
    assert all(np.isfinite(np.ravel(value)).all() for value in found.values())
    assert all(registered(entry) <= set(found) for entry in entries)
