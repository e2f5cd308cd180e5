"""Gates G0 and G3: the instruments do what they say, and find nothing where there is nothing."""

from dataclasses import replace

import numpy as np
import pandas as pd

import adkit as ad
from adkit.probing import erase, fit
from study.corpora import balance, population, sites, split, world

WALKS = (0.015, 0.12), (0.0, 1.0)  # (theta, sigma) of the drift of w: the study's, and a wild one


def checked(
    model: ad.CausalTransformer, histories: ad.Histories, tap: str = "blocks.1.resid"
) -> pd.DataFrame:
    """Measure what G0 names, on the first twelve lifetimes; return a row.

    `self_patch`: largest change of a logit when activations are patched with themselves.
    `leace_covariance`: largest |cov(erased activations, w)|.
    `policy_sum`: largest |sum of the source's probabilities - 1|.
    `empty_day_dependence`: largest change of the source's policy with another drift of w, while the
    jar stays empty.
    """
    histories = histories[:12]
    recorded = ad.record(model, histories, tap, "logits")
    put_back = {tap: lambda x, cut: cut(recorded[tap]).to(x)}
    again = ad.record(model, histories, "logits", changes=put_back).array
    used = sites(histories)["all"]
    labels = balance(histories).astype(float)
    eraser = erase(recorded[tap], labels, where=used)
    x = eraser(recorded[tap][:, :, :-1][used].astype(float))
    y = labels[used] - labels[used].mean()
    source = replace(population(), regimes={"D2": 1}, stock=dict.fromkeys("PSR", 0.0))
    how = {"tasks": split()[0][:20], "episodes": 10, "seed": 5}
    drifts = [replace(source, walk=walk) for walk in WALKS]
    a, b = (ad.collect(world(), agent=drift, **how).arrays for drift in drifts)
    assert np.abs(a["w_cookie"] - b["w_cookie"]).max() > 0.1, "the two drifts must differ"
    found = {
        "self_patch": np.abs(again - recorded["logits"]).max(),
        "leace_covariance": np.abs((x - x.mean(0)).T @ y).max() / len(y),
        "policy_sum": np.abs(histories.arrays["pi"].sum(-1) - 1)[used].max(),
        "empty_day_dependence": np.abs(a["pi"] - b["pi"]).max(),
    }
    return pd.DataFrame([{name: float(value) for name, value in found.items()}])


def false_positives(runs: int) -> pd.DataFrame:
    """Return the p-value of the session permutation for unrelated random walks, a row per run.

    The walks are those of six activations and a label in 40 lifetimes of 24 days.
    """
    rng, p = np.random.default_rng(0), []
    for run in range(runs):
        x, y = (rng.normal(size=(40, 24, size)).cumsum(1) for size in (6, 1))
        how = {"groups": np.arange(40), "permutations": 79, "l2": 1e-2, "seed": run}
        p.append(fit(x, y[..., 0], **how).p)
    return pd.DataFrame({"p": p})
