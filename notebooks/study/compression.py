"""H0: do three shards compress the model's own behaviour better than one utility or a table does?

The predictors are fitted by maximum likelihood to half of the layout orbits and scored on the other
half. Their parameters are counted.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

import adkit as ad
from study.predictors import PREDICTORS, Utility, decisions
from study.statistics import Measures, against, interval

CODED = ["n", *PREDICTORS]  # columns of `code`


def per_lifetime(histories: ad.Histories, kind: str = "model", seed: int = 0) -> pd.DataFrame:
    """Return the held-out bits per decision of each lifetime under each predictor.

    Half of the orbits are held out, then the other half. `kind` names the lifetimes: "model", its
    own rollouts; "source", labelled lifetimes; "unitary", lifetimes whose actions are drawn anew
    from the one utility that fits them best. `bits_*` leave out the parameters; their number is in
    `parameters_*`, shared by the `coded` decisions of the same half.
    """
    made = decisions(histories)
    if kind == "unitary":
        everything = Utility(made)
        made = replace(made, action=everything.drawn(everything.fit(), seed))
    shuffled = np.random.default_rng(seed).permutation(np.unique(made.orbit))
    half = np.isin(made.orbit, shuffled[::2])
    frames = []
    for held_out in (half, ~half):
        known, new = made[~held_out], made[held_out]
        how = {"return_index": True, "return_inverse": True, "return_counts": True}
        lifetimes, first, row, count = np.unique(new.lifetime, **how)
        columns = {"history": lifetimes, "orbit": new.orbit[first]}
        columns |= {"decisions": count, "coded": len(new)}
        for name, predictor in PREDICTORS.items():
            fitted = predictor(known)
            nats = predictor(new).nats(fitted.fit()).numpy()
            columns[f"bits_{name}"] = np.bincount(row, nats) / count / np.log(2)
            columns[f"parameters_{name}"] = fitted.parameters
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames).assign(kind=kind).sort_values("history", ignore_index=True)


def code(lifetimes: pd.DataFrame) -> np.ndarray:
    """Return (lifetimes, 4): decisions, and their total bits under shards, utility and table.

    Each lifetime carries its share of the (k / 2) log2(n) bits that k parameters cost.
    """
    per_parameter = np.log2(lifetimes["coded"]) / lifetimes["coded"] / 2
    bits = [
        lifetimes[f"bits_{name}"] + lifetimes[f"parameters_{name}"] * per_parameter
        for name in PREDICTORS
    ]
    return np.stack([np.ones(len(lifetimes)), *bits], 1) * lifetimes[["decisions"]].to_numpy()


# the bits per decision that shards save on the better rival, from means of `code`
saved = lambda mean: (mean[..., 2:].min(-1) - mean[..., 1]) / mean[..., 0]


def measured(lifetimes: pd.DataFrame) -> Measures:
    """Measure what H0 names, from `per_lifetime` tables of every kind and seed.

    A seed agrees if the interval of its own saving, over orbits and lifetimes, lies above 0.
    """
    coded = lifetimes.assign(**dict(zip(CODED, code(lifetimes).T, strict=True)))
    model = coded[coded["kind"] == "model"]
    agreeing = [interval(of, CODED, saved).low > 0 for _, of in model.groupby("seed")]
    found = {"saving": interval(model, CODED, saved), "seeds_agreeing": float(np.mean(agreeing))}
    controls = coded[coded["kind"] != "model"]  # the source's stand in the first seed's table only
    found |= {f"{kind}_saving": interval(of, CODED, saved) for kind, of in controls.groupby("kind")}
    return found | against(model, CODED, saved)
