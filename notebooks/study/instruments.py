"""Gates G0 and G3: the instruments do what they say, and find nothing where there is nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from adkit.histories import Histories
from adkit.models.transformer import CausalTransformer
from adkit.probing import erase, fit
from adkit.probing.record import record
from adkit.rollout import collect
from study.corpora import balance, population, split, world

WALKS = (0.015, 0.12), (0.0, 1.0)  # (theta, sigma) of the drift of w: the study's, and a wild one


def checked(
    model: CausalTransformer, histories: Histories, tap: str = "blocks.1.resid"
) -> dict[str, float]:
    """Measure what G0 names, on a few labelled lifetimes.

    `self_patch`: largest change of a logit when activations are patched with themselves.
    `leace_covariance`: largest |cov(erased activations, w)|.
    `policy_sum`: largest |sum of the source's probabilities - 1|.
    `empty_day_dependence`: largest change of the source's policy with another drift of w, while the
    jar stays empty.
    """
    recorded = record(model, histories, tap, "logits")
    put_back = {tap: lambda x, cut: cut(recorded[tap]).to(x)}
    again = record(model, histories, "logits", changes=put_back).array
    used = np.arange(histories.spec.horizon) < histories.length[..., None]
    labels = balance(histories).astype(float)
    eraser = erase(recorded[tap], labels, where=used)
    x = eraser(recorded[tap][:, :, :-1][used].astype(float))
    y = labels[used] - labels[used].mean()
    return {
        "self_patch": float(np.abs(again - recorded["logits"]).max()),
        "leace_covariance": float(np.abs((x - x.mean(0)).T @ y).max() / len(y)),
        "policy_sum": float(np.abs(histories.arrays["pi"].sum(-1) - 1)[used].max()),
        "empty_day_dependence": _dependence(),
    }


def _dependence(n: int = 20, days: int = 10) -> float:
    source = replace(population(labelled=True), regimes={"D2": 1}, stock=dict.fromkeys("PSR", 0.0))
    tasks = split()[0][:n]
    a, b = (
        collect(world(), tasks, replace(source, walk=walk), episodes=days, seed=5).arrays
        for walk in WALKS
    )
    assert np.abs(a["w_cookie"] - b["w_cookie"]).max() > 0.1, "the two drifts must differ"
    return float(np.abs(a["pi"] - b["pi"]).max())


def false_positives(
    runs: int = 200, lifetimes: int = 40, days: int = 24, width: int = 6, permutations: int = 79
) -> np.ndarray:
    """Return p-values (runs,) of the session permutation for unrelated random walks."""
    rng, p = np.random.default_rng(0), []
    for run in range(runs):
        x, y = (rng.normal(size=(lifetimes, days, size)).cumsum(1) for size in (width, 1))
        groups = np.arange(lifetimes)
        probe = fit(x, y[..., 0], groups=groups, permutations=permutations, l2=1e-2, seed=run)
        p.append(probe.p)
    return np.array(p)
