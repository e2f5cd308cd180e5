"""Labelled lifetimes whose filter estimates are made up, and activations that hold known things."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from study import corpora

import adkit as ad

NOTEBOOKS = Path(ad.__file__).parents[1] / "notebooks"
DAYS, WIDTH = 24, 16
SIZES = {"probe train": 90, "probe val": 40, "test": 70}


def parts() -> dict[str, ad.Histories]:
    """Return the parts that probes need; the filter's estimate is w seen through noise."""
    rng, found = np.random.default_rng(0), {}
    source = replace(corpora.population(), regimes=corpora.TEST_REGIMES)
    for i, (part, n) in enumerate(SIZES.items()):
        tasks = corpora.split()[part == "test"]
        tasks = tasks[np.sort(rng.choice(len(tasks), n, replace=False))]
        histories = ad.collect(corpora.world(), tasks, source, episodes=DAYS, seed=i)
        pi = histories.arrays["pi"]
        labels = {
            "belief_rel": corpora.balance(histories) + 0.3 * rng.normal(size=(n, DAYS, 1)),
            "belief_pi": 0.9 * pi + 0.0125,
            "prior_pi": np.full_like(pi, 0.125),
            "orbit": tasks["orbit"][histories.task],
        }
        found[part] = replace(histories, arrays=histories.arrays | labels)
    return found


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
