"""Gates G0 and G3: do the instruments do what they say, and find nothing where there is nothing?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from adkit import checks
from adkit.histories import Histories
from adkit.models.taps import record
from adkit.models.transformer import CausalTransformer
from adkit.probing import erase, fit
from adkit.rollout import collect
from study.corpora import balance, population, split, world


def checked(
    model: CausalTransformer, histories: Histories, tap: str = "blocks.1.resid"
) -> dict[str, float]:
    """What G0 names, on a few judged lives.

    `self_patch` puts a life's own activations in its place, `leace_covariance` is the largest |cov(erased activations, w)|,
    `policy_sum` the largest |sum pi - 1|, `empty_day_dependence` what a wholly different walk of w changes in the source's policy
    while the jar stays empty.
    """
    checks.creatures(histories, "pi", "w_cookie", "w_food")
    read = record(model, histories, tap, "logits")
    put_back = {tap: lambda x, cut: cut(read[tap]).to(x)}
    again = record(model, histories, "logits", changes=put_back).array
    used = np.arange(histories.spec.horizon) < histories.length[..., None]
    labels = balance(histories).astype(float)
    eraser = erase(read[tap], labels, where=used)
    x, y = read[tap][:, :, :-1][used].astype(float), labels[used] - labels[used].mean()
    x = eraser(x)
    return {
        "self_patch": float(np.abs(again - read["logits"]).max()),
        "leace_covariance": float(np.abs((x - x.mean(0)).T @ y).max() / len(y)),
        "policy_sum": float(np.abs(histories.arrays["pi"].sum(-1) - 1)[used].max()),
        "empty_day_dependence": _dependence(),
    }


def _dependence(n: int = 20, days: int = 10) -> float:
    source = replace(population(labelled=True), regimes={"D2": 1}, stock=dict.fromkeys("PSR", 0.0))
    lives = [
        collect(world(), split()[0][:n], replace(source, walk=walk), episodes=days, seed=5)
        for walk in ((0.015, 0.12), (0.0, 1.0))
    ]
    assert (
        np.abs(lives[0].arrays["w_cookie"] - lives[1].arrays["w_cookie"]).max() > 0.1
    )  # they differ in w
    return float(np.abs(lives[0].arrays["pi"] - lives[1].arrays["pi"]).max())


def false_positives(
    runs: int = 200, lives: int = 40, days: int = 24, width: int = 6, permutations: int = 79
) -> np.ndarray:
    """(runs,) p-values of the session permutation for labels and activations that are random walks without any relation."""
    if min(runs, days, width) < 1:
        raise ValueError(f"runs={runs}, days={days}, width={width}; give at least 1 of each.")
    rng, p = np.random.default_rng(0), []
    for run in range(runs):
        x, y = (rng.normal(size=(lives, days, size)).cumsum(1) for size in (width, 1))
        probe = fit(
            x, y[..., 0], groups=np.arange(lives), permutations=permutations, l2=1e-2, seed=run
        )
        p.append(probe.p)
    return np.array(p)
