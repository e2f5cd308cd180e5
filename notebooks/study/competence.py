"""G1 and H1: does the model predict shard agents as well as their observable past allows, and for
the same reasons?

The ceiling is the particle filter, which sees what the model sees and knows the population. The
floor is the same filter when it learns nothing of the individual.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

import adkit as ad
from adkit.stats import Interval
from study.corpora import DAYS, cross_entropy, directed, sites, split, table, world
from study.interventions import LOGS
from study.statistics import Measures, against, interval, magnitude, pick, ratio, share

SITES = ("decision", "home late", "cookie visible", "all")
BINS = 10  # of predicted probability, for the calibration error
PARTS = 12  # of a lifetime, in which returns are averaged


def predictions(model: ad.CausalTransformer, histories: ad.Histories) -> np.ndarray:
    """Return the model's action probabilities (N, E, H, 8) float32, given the lifetime so far."""
    logits = ad.record(model, histories, "logits", batch=4).array[:, :, :-1]
    return torch.as_tensor(logits).softmax(-1).numpy()


def per_lifetime(histories: ad.Histories, p: np.ndarray) -> pd.DataFrame:
    """Return per lifetime the cross-entropies of the exact source policy under each predictor.

    `p` (N, E, H, 8) are the model's action probabilities. Columns: "site: n" decisions, and nats
    summed over them, "site: model", "filter", "prior". For calibration at cookie-visible steps, by
    bins of the predicted probability of going for the jar: "bin i: n", "bin i: model", "bin i:
    source"; and the sums of products "sum mm", "sum ms".
    """
    labels, where = histories.arrays, sites(histories)
    pi = labels["pi"]
    total = lambda values, where: np.where(where, values, 0).sum((1, 2))
    predicted = {"model": p, "filter": labels["belief_pi"], "prior": labels["prior_pi"]}
    values = {name: cross_entropy(pi, q) for name, q in predicted.items()} | {"n": 1}
    columns = {
        f"{site}: {name}": total(x, where[site]) for site in SITES for name, x in values.items()
    }
    here, jar = where["cookie visible"], directed(histories)
    model, source = (np.where(jar, q, 0).sum(-1) for q in (p, pi))
    bins = np.minimum((model * BINS).astype(int), BINS - 1)
    for i in range(BINS):
        inside = here & (bins == i)
        for name, x in {"n": 1, "model": model, "source": source}.items():
            columns[f"bin {i}: {name}"] = total(x, inside)
    products = {"sum mm": total(model * model, here), "sum ms": total(model * source, here)}
    return table(histories, **columns, **products)


def rollouts(model: ad.CausalTransformer, n: int, seed: int) -> ad.Histories:
    """Roll the model out in held-out layouts: weights frozen, actions sampled."""
    tasks, agent = split()[1].drawn(n, 99), ad.InContext(model)
    return ad.collect(world(), tasks, agent, episodes=DAYS, seed=10_000 + seed)


def returns_per_lifetime(rollouts: ad.Histories) -> pd.DataFrame:
    """Return the mean daily return in each twelfth of the model's rollouts, "part 0" on."""
    parts = np.array_split(rollouts.episode_returns, PARTS, axis=1)
    columns = {"history": np.arange(len(rollouts))}
    columns["orbit"] = rollouts.task_values["orbit"][rollouts.task]
    return pd.DataFrame(columns | {f"part {i}": part.mean(1) for i, part in enumerate(parts)})


def compared(model: pd.DataFrame, ceiling: pd.DataFrame) -> pd.DataFrame:
    """Compare the model's effects of edits with the filter's: one row per lifetime and edit.

    Columns are means over days: `effect` of the model, `filter` of the filter; `dot` and `square`,
    products of the model's and of the filter's change of log probabilities with the filter's; and
    `days`, how many.
    """
    keys = ["kind", "day", "history"]
    right = ceiling[[*keys, "effect", *LOGS]]
    both = model.merge(right, on=keys, suffixes=("", "_filter"), validate="one_to_one")
    mine, theirs = both[LOGS].to_numpy(), both[[f"{name}_filter" for name in LOGS]].to_numpy()
    products = {"dot": (mine * theirs).sum(1), "square": (theirs * theirs).sum(1)}
    both = both.assign(filter=both["effect_filter"], days=1, **products)
    means = dict.fromkeys(("effect", "filter", "dot", "square"), "mean") | {"days": "sum"}
    return both.groupby(["kind", "history", "orbit", "type", "regime"]).agg(means).reset_index()


# ---- measures, from tables of all seeds ----


def gap_closed(frame: pd.DataFrame, site: str = "decision") -> Interval:
    """Return the share of what the filter learns of individuals, in nats, that the model learns."""
    columns = [f"{site}: {name}" for name in ("prior", "model", "filter")]
    return interval(frame, columns, share)


def improvement(returns: pd.DataFrame) -> Interval:
    """Return the mean daily return in the last sixth of a lifetime minus that in the first."""
    columns = [f"part {i}" for i in (0, 1, PARTS - 2, PARTS - 1)]
    return interval(returns, columns, lambda m: (m[..., 2:].sum(-1) - m[..., :2].sum(-1)) / 2)


def effect(edits: pd.DataFrame, kind: str, types: str = "PSR") -> Interval:
    """Return the mean effect of an edit on the model, over some types."""
    return interval(pick(edits, kind=kind, type=tuple(types)), ["effect"])


def effect_ratio(edits: pd.DataFrame, kind: str, types: str = "PSR") -> Interval:
    """Return the ratio of the model's mean effect to the particle filter's."""
    return interval(pick(edits, kind=kind, type=tuple(types)), ["effect", "filter"], ratio)


def change_ratio(
    edits: pd.DataFrame, kind: str, make: Callable = interval, **how
) -> Interval | dict:
    """Return how far log probabilities move along the filter's change, over the filter's change."""
    return make(pick(edits, kind=kind), ["dot", "square"], ratio, **how)


def measured_competence(
    frame: pd.DataFrame, returns: pd.DataFrame, edits: pd.DataFrame
) -> Measures:
    """Measure what gate G1 names."""
    return {
        "gap_closed": gap_closed(frame),
        "improvement": improvement(returns),
        "type_ratio": effect_ratio(edits, "stock", "S"),
        "random_hider_flip": magnitude(effect(edits, "stock", "R")),
    }


def measured_activation(
    frame: pd.DataFrame, edits: pd.DataFrame, untrained: pd.DataFrame
) -> Measures:
    """Measure what H1 names; `untrained` are the edits' effects on an untrained twin."""
    hunger = pick(edits, kind="delay").assign(size=lambda rows: np.sqrt(rows["square"]))
    return {
        "hunger_ratio": change_ratio(edits, "delay"),
        **change_ratio(edits, "delay", against, null=0.25),
        "cue_ratio": change_ratio(edits, "cue"),
        "decoy_effect": effect(edits, "decoy seen"),
        **_calibration(frame),
        "filter_hunger_effect": interval(hunger, ["size"]),
        "untrained_cue_ratio": change_ratio(untrained, "cue"),
    }


def _calibration(frame: pd.DataFrame) -> dict[str, Interval]:
    """Return the slope of the source's probability on the model's, and the calibration error."""
    bins = [f"bin {i}: {name}" for name in ("n", "model", "source") for i in range(BINS)]
    of = lambda m: np.moveaxis(m[..., : 3 * BINS].reshape(*m.shape[:-1], 3, BINS), -2, 0)
    error = lambda m: np.abs(of(m)[1] - of(m)[2]).sum(-1) / of(m)[0].sum(-1)

    def slope(m: np.ndarray) -> np.ndarray:
        n, x, y = of(m).sum(-1)
        return (m[..., -1] - x * y / n) / (m[..., -2] - x * x / n)

    calibration = interval(frame, [*bins, "sum mm", "sum ms"], slope)
    return {"calibration_slope": calibration, "ece": interval(frame, bins, error)}
