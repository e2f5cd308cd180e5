"""G1 and H1: does the model predict creatures about as well as what can be known of them allows, and for the same reasons?

The ceiling is the particle filter, which sees what the model sees and knows the population; the floor is the same filter with
nothing learned of the individual: it knows the map, the population and what was eaten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from adkit import checks
from adkit.histories import Histories
from adkit.models.in_context import InContext
from adkit.models.taps import record
from adkit.models.transformer import CausalTransformer
from adkit.rollout import collect
from adkit.stats import Interval
from study.corpora import DAYS, against, directed, interval, sites, split, table, world
from study.interventions import LOGS

if TYPE_CHECKING:
    import pandas as pd

SITES = ("decision", "home late", "cookie visible", "all")
BINS = 10  # of predicted probability, for the calibration error
WEEKS = 12  # parts of a life in which returns are averaged
COMPARED = "competence.compared, with a column seed"


def predictions(model: CausalTransformer, histories: Histories) -> np.ndarray:
    """(N, E, H, 8) float32: the model's action probabilities, each with the whole life up to it in view."""
    logits = record(model, histories, "logits", batch=4).array[:, :, :-1]
    return torch.as_tensor(logits).softmax(-1).numpy()


def per_life(histories: Histories, p: np.ndarray) -> pd.DataFrame:
    """Judged lives with the cross-entropies of the exact source policy, in nats summed over the decisions of each site.

    Columns "site: n" and "site: model", "filter", "prior", "source"; for calibration at cookie-visible tokens, by bins of the
    predicted probability to go for the jar: "bin i: n", "bin i: model", "bin i: source"; and sums of both, for the slope.
    """
    a, where = checks.creatures(histories, "pi", "belief_pi", "prior_pi").arrays, sites(histories)
    predicted = {
        "model": checks.probabilities(p, histories),
        "filter": a["belief_pi"],
        "prior": a["prior_pi"],
        "source": a["pi"],
    }
    nats = {name: -(a["pi"] * np.log(np.maximum(q, 1e-9))).sum(-1) for name, q in predicted.items()}
    columns = {}
    for site in SITES:
        columns[f"{site}: n"] = where[site].sum((1, 2))
        columns |= {
            f"{site}: {name}": np.where(where[site], values, 0).sum((1, 2))
            for name, values in nats.items()
        }
    here, jar = where["cookie visible"], directed(histories)
    mine, theirs = (np.where(jar, q, 0).sum(-1) for q in (p, a["pi"]))
    bins = np.minimum((mine * BINS).astype(int), BINS - 1)
    for i in range(BINS):
        of = here & (bins == i)
        columns[f"bin {i}: n"] = of.sum((1, 2))
        columns |= {
            f"bin {i}: {name}": np.where(of, q, 0).sum((1, 2))
            for name, q in (("model", mine), ("source", theirs))
        }
    for name, q in {"mm": mine * mine, "ms": mine * theirs}.items():
        columns[f"sum {name}"] = np.where(here, q, 0).sum((1, 2))
    return table(histories, **columns)


def rollouts(model: CausalTransformer, n: int = 100, days: int = DAYS, seed: int = 0) -> Histories:
    """Lives that the model itself leads in held-out layouts, weights frozen, actions sampled."""
    return collect(
        world(), split()[1].drawn(n, 99), InContext(model), episodes=days, seed=10_000 + seed
    )


def returns_per_life(lived: Histories) -> pd.DataFrame:
    """The mean daily return in each twelfth of the model's own lives, "part 0" on."""
    import pandas as pd

    if checks.creatures(lived).n_episodes < WEEKS:
        raise ValueError(
            f"lives of {lived.n_episodes} days; a mean for each twelfth of a life needs at least {WEEKS}."
        )
    parts = np.array_split(lived.episode_returns, WEEKS, axis=1)
    who = {"history": np.arange(len(lived)), "orbit": lived.task_values["orbit"][lived.task]}
    return pd.DataFrame(who | {f"part {i}": part.mean(1) for i, part in enumerate(parts)})


def compared(mine: pd.DataFrame, ceiling: pd.DataFrame) -> pd.DataFrame:
    """Per life and edit, the mean over days of: `effect` of the model, `filter` that of the filter; `dot` and `square`, products
    of the model's and the filter's change of log probabilities with the filter's own; `days`, how many."""
    keys = ["kind", "day", "history"]
    mine, ceiling = (
        checks.columns(edits, *keys, "effect", *LOGS, made_by="edits.effects")
        for edits in (mine, ceiling)
    )
    both = mine.merge(
        ceiling[[*keys, "effect", *LOGS]], on=keys, suffixes=("", "_filter"), validate="one_to_one"
    )
    model, bound = both[LOGS].to_numpy(), both[[f"{name}_filter" for name in LOGS]].to_numpy()
    both = both.assign(
        filter=both["effect_filter"],
        dot=(model * bound).sum(1),
        square=(bound * bound).sum(1),
        days=1,
    )
    by = both.groupby(["kind", "history", "orbit", "type", "regime"])
    return by.agg(
        {"effect": "mean", "filter": "mean", "dot": "mean", "square": "mean", "days": "sum"}
    ).reset_index()


# ---- from frames of all seeds, with a column `seed` ----


def gap_closed(lives: pd.DataFrame, site: str = "decision") -> Interval:
    """The share of what a filter learns of individuals, in nats, that the model has learned too."""
    columns = [f"{site}: {name}" for name in ("prior", "model", "filter")]
    return interval(lives, columns, lambda m: (m[..., 0] - m[..., 1]) / (m[..., 0] - m[..., 2]))


def improvement(returns: pd.DataFrame) -> Interval:
    """Mean daily return in the last sixth of a life less that in the first."""
    columns = ["part 0", "part 1", f"part {WEEKS - 2}", f"part {WEEKS - 1}"]
    return interval(returns, columns, lambda m: (m[..., 2:].sum(-1) - m[..., :2].sum(-1)) / 2)


def effect(edits: pd.DataFrame, kind: str, types: str = "PSR", less: str | None = None) -> Interval:
    """Mean effect of an edit on lives of some types; `less` another column, such as "filter"."""
    of = checks.rows(edits, COMPARED, kind=[kind], type=types)
    if less is None:
        return interval(of, ["effect"])
    return interval(of, ["effect", less], lambda m: m[..., 0] - m[..., 1])


def effect_ratio(edits: pd.DataFrame, kind: str, types: str = "PSR") -> Interval:
    """Mean effect over the filter's."""
    of = checks.rows(edits, COMPARED, kind=[kind], type=types)
    return interval(of, ["effect", "filter"], lambda m: m[..., 0] / m[..., 1])


def change_ratio(
    edits: pd.DataFrame, kind: str, make: Callable = interval, **how
) -> Interval | dict:
    """How far log probabilities move along the way the filter's move, as a share of how far those do."""
    return make(
        checks.rows(edits, COMPARED, kind=[kind]),
        ["dot", "square"],
        lambda m: m[..., 0] / m[..., 1],
        **how,
    )


def measured_competence(
    lives: pd.DataFrame, returns: pd.DataFrame, edits: pd.DataFrame
) -> dict[str, Interval | float]:
    """What gate G1 names."""
    return {
        "gap_closed": gap_closed(lives),
        "improvement": improvement(returns),
        "type_ratio": effect_ratio(edits, "stock", "S"),
        "random_hider_flip": effect(edits, "stock", "R").size,
    }


def measured_activation(
    lives: pd.DataFrame, edits: pd.DataFrame, untrained: pd.DataFrame
) -> dict[str, Interval | float]:
    """What H1 names; `untrained` are edits as an untrained twin sees them."""
    bins = [f"bin {i}: {name}" for name in ("n", "model", "source") for i in range(BINS)]
    n, model, source = (slice(i * BINS, (i + 1) * BINS) for i in range(3))

    def slope(m):
        count, x, y = (m[..., part].sum(-1) for part in (n, model, source))
        return (m[..., -1] - x * y / count) / (m[..., -2] - x * x / count)

    error = lambda m: np.abs(m[..., model] - m[..., source]).sum(-1) / m[..., n].sum(-1)
    checks.columns(edits, "square", made_by=COMPARED)
    size = checks.rows(edits, COMPARED, kind=["delay"]).assign(size=lambda f: np.sqrt(f["square"]))
    nats = lambda a, b: interval(
        lives,
        [f"cookie visible: {x}" for x in (a, b, "n")],
        lambda m: (m[..., 0] - m[..., 1]) / m[..., 2],
    )
    return {
        "hunger_ratio": change_ratio(edits, "delay"),
        **change_ratio(edits, "delay", against, null=0.25),
        "cue_ratio": change_ratio(edits, "cue"),
        "decoy_effect": effect(edits, "decoy seen"),
        "calibration_slope": interval(lives, [*bins, "sum mm", "sum ms"], slope),
        "ece": interval(lives, bins, error),
        "kl_to_source": nats("model", "source"),
        "kl_of_filter": nats("filter", "source"),
        "kl_of_prior": nats("prior", "source"),
        "filter_hunger_effect": interval(size, ["size"]),
        "untrained_cue_ratio": change_ratio(untrained, "cue"),
    }
