"""Probes of a label in activations, scored on groups held out from the fit, beside controls.

The controls are those of Hewitt & Liang (2019) and Elber-Dorozko & Loewenstein (2018):
- permutation: the same fit to labels of other sessions (see `labels`), at the same episode, drawn
  within a stratum such as the regime; its scores are `Probe.null`;
- control task: the same fit to the label curve of another kind of lifetime, on new lifetimes of the
  same kinds; "selectivity" is the score of the true labels on these lifetimes minus that;
- comparisons: the same fit to other activations or features, such as those of an untrained model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import Ridge
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler

from adkit.probing.labels import Sessions, taps_of
from adkit.probing.record import Recording
from adkit.stats import Interval, bootstrap

PENALTIES = tuple(float(10.0**power) for power in range(-5, 2))
CONTROL_LABELS = 10  # draws of control labels, of which the mean score is used
CURVES = 300  # random Fourier features of a probe that is not linear


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over the tokens of each held-out lifetime, (histories,) each, of which scores are made.

    `missed` and `spread` are squared errors of the read-out and of the training mean;
    `level_missed` and `level_spread` those of the lifetime's mean label, times its tokens.
    `within_product`, `within_read` and `within_label` are products and squares of read-out and
    label, minus their means over the lifetime.
    """

    missed: np.ndarray
    spread: np.ndarray
    level_missed: np.ndarray
    level_spread: np.ndarray
    within_product: np.ndarray
    within_read: np.ndarray
    within_label: np.ndarray

    @property
    def score(self) -> float:
        """R2: 1 minus squared errors over those of the training mean."""
        return float(1 - self.missed.mean() / self.spread.mean())

    def interval(self, groups: np.ndarray) -> Interval:
        """Return the score's bootstrap interval over groups (histories,) and their lifetimes."""
        errors = np.stack([self.missed, self.spread], axis=1)
        return bootstrap(errors, [groups], lambda mean: 1 - mean[..., 0] / mean[..., 1])


@dataclass(frozen=True, eq=False, repr=False)
class Probe:
    """A read-out of a label, its score on held-out groups, and the scores of its controls."""

    interval: Interval
    """The 95% bootstrap interval of the score over held-out groups and the lifetimes in them."""
    tap: str
    """The tap that is read: of several, the one with the best score on the validation groups."""
    taps: dict[str, float]
    """The held-out score of each tap."""
    l2: float
    """The penalty with the best score on the validation groups."""
    controls: dict[str, float]
    """"shuffled", the 95th percentile of `null`; "control task" and "selectivity", NaN if they
    cannot be fitted; and every comparison."""
    null: np.ndarray
    """(permutations,) scores with exchanged labels, each the highest over taps."""
    read: Callable[[np.ndarray], np.ndarray]
    """Returns the labels (..., labels) read in activations (..., D)."""
    sums: dict[str, Sums]
    """Of the "probe" and every comparison."""
    history: np.ndarray
    """(histories,) the held-out lifetimes."""

    @property
    def score(self) -> float:
        """R2 over labels and tokens, 0 being the training mean."""
        return self.sums["probe"].score

    def __repr__(self) -> str:
        """Say which tap is read, how well, and how well the controls do."""
        lines = {
            f"{tap}, on held-out groups": f"R2 {score:.3f}" for tap, score in self.taps.items()
        }
        lines[f"{self.tap}, on held-out groups"] = f"R2 {self.interval}, with its 95% interval"
        lines |= {name: f"{score:.3f}" for name, score in self.controls.items()}
        if len(self.null):
            lines["shuffled"] += f", 95th percentile of {len(self.null)}; p = {self.p:.2g}"
        wide = max(map(len, lines))
        table = "\n".join(f"  {name:{wide}}  {score}" for name, score in lines.items())
        return f"Probe of {self.tap}, which reads best on the validation groups\n{table}"

    @property
    def p(self) -> float:
        """The share of permutations that score as high: (1 + how many) / (1 + permutations).

        NaN where a score is.
        """
        if not np.isfinite([self.score, *self.null]).all():
            return float("nan")
        return float((1 + (self.null >= self.score).sum()) / (1 + len(self.null)))


def fit(
    stream: Recording | np.ndarray,
    labels,
    *,
    curved: bool = False,
    holdout: str | Sequence[str] = "task",
    groups: np.ndarray | None = None,
    where: np.ndarray | None = None,
    l2: float | Sequence[float] = PENALTIES,
    compare: Mapping[str, Recording | np.ndarray] | None = None,
    permutations: int = 200,
    stratum: np.ndarray | None = None,
    kinds: np.ndarray | None = None,
    seed: int = 0,
) -> Probe:
    """Fit a ridge probe of `labels`; return its score and its controls on held-out groups.

    `stream` is a recording or an array (N, ..., D). `labels` has a row per task, or per token:
    (N, E, H) or (N, E, H + 1); `where`, bool of that shape, chooses tokens. Classes are read as
    labels of 0 and 1, a column each. A `curved` probe reads random Fourier features, too. `holdout`
    is "task" to hold out `groups` (N,), tasks by default; "lifetime"; or (N,) names of "train",
    "val", "test". Penalties `l2` are per token. `compare` names other streams to read; `stratum`
    and `kinds` (N,) are for the controls above, which `permutations=0` leaves out.
    """
    sessions = Sessions.of(stream, labels, where, groups).split(holdout, seed)
    found = sessions.labels()
    if (found == found[0]).all():
        raise ValueError(f"`labels` are {found[0]} at every token that is read; they must vary")
    read = lambda values: _fit(sessions, values, np.atleast_1d(l2), curved, seed)
    fits = {tap: read(values) for tap, values in taps_of(stream).items()}
    tap = max(fits, key=lambda name: fits[name].validation)
    null, controls, sums = np.zeros(0), {}, {"probe": fits[tap].sums}
    if permutations:
        rng = np.random.default_rng(seed + 1)
        null = _null(sessions, fits.values(), np.atleast_1d(l2), permutations, stratum, rng)
        controls = _control_task(sessions, fits[tap], kinds, rng)
        controls["shuffled"] = float(np.quantile(null, 0.95))
    for name, other in (compare or {}).items():
        theirs = map(read, taps_of(other).values())
        sums[name] = max(theirs, key=lambda fit: fit.validation).sums
        controls[name] = sums[name].score
    held_out = np.unique(sessions.history[sessions.part == 2])
    return Probe(
        interval=sums["probe"].interval(sessions.groups[held_out]),
        tap=tap,
        taps={name: fit.sums.score for name, fit in fits.items()},
        l2=fits[tap].l2,
        controls=controls,
        null=null,
        read=fits[tap].read,
        sums=sums,
        history=held_out,
    )


def ridge_errors(
    x: np.ndarray, y: np.ndarray, part: np.ndarray, penalties: Sequence[float]
) -> np.ndarray:
    """Return (penalties, 2, Q) squared errors of ridge fits, summed over two sets of tokens.

    One fit to x (n, D) for each column of `y` (n, Q), on tokens whose `part` (n,) is 0; the sets
    are validation, part 1, and test, part 2. A penalty is per training token.
    """
    train = part == 0
    errors = np.zeros((len(penalties), 2, y.shape[1]))
    for i, penalty in enumerate(penalties):
        model = Ridge(alpha=penalty * train.sum()).fit(x[train], y[train])
        for p in np.unique(part[part > 0]):
            guess = model.predict(x[part == p]).reshape(-1, y.shape[1])
            errors[i, p - 1] = ((y[part == p] - guess) ** 2).sum(0)
    return errors


class _Fit(NamedTuple):
    """The best read-out of some activations."""

    x: np.ndarray
    """(n, D) the standardised features."""
    l2: float
    validation: float
    sums: Sums
    read: Callable


def _fit(
    sessions: Sessions, values: np.ndarray, penalties: np.ndarray, curved: bool, seed: int
) -> _Fit:
    """Fit ridges to activations (N, ..., D), and return the one that validates best."""
    raw, y = sessions.tokens(values), sessions.labels()
    train, val, test = (sessions.part == p for p in range(3))
    features = _features(raw.shape[1], curved, seed).fit(raw[train])
    x, mean = features.transform(raw), y[train].mean(0)
    errors = ridge_errors(x, y, sessions.part, penalties)[:, 0].sum(-1)
    l2 = float(penalties[errors.argmin()])
    model = Ridge(alpha=l2 * train.sum()).fit(x[train], y[train])
    guess = model.predict(x[test]).reshape(-1, y.shape[1])

    def read(activations: np.ndarray) -> np.ndarray:
        found = features.transform(activations.reshape(-1, activations.shape[-1]))
        return model.predict(found).reshape(*activations.shape[:-1], -1)

    validation = 1 - errors.min() / ((y[val] - mean) ** 2).sum()
    return _Fit(x, l2, validation, _sums(y[test], guess, mean, sessions.history[test]), read)


def _features(width: int, curved: bool, seed: int):
    """Return scikit-learn's transformer of activations (n, width) to a probe's features."""
    if not curved:
        return StandardScaler()
    curves = RBFSampler(gamma=1 / width, n_components=CURVES, random_state=seed)
    return make_pipeline(
        StandardScaler(), FeatureUnion([("linear", "passthrough"), ("curved", curves)])
    )


def _null(
    sessions: Sessions, fits: Iterable[_Fit], penalties, permutations: int, stratum, rng
) -> np.ndarray:
    """Return (permutations,) scores with exchanged labels, each the highest over fits."""
    dealt = np.stack([sessions.exchanged(stratum, rng) for _ in range(permutations)])
    return np.max([_scores(sessions, fit.x, sessions.part, dealt, penalties) for fit in fits], 0)


def _control_task(sessions: Sessions, best: _Fit, kinds, rng) -> dict[str, float]:
    """Return the score of the control task, and the selectivity; a group is a kind by default."""
    kinds = sessions.groups if kinds is None else np.asarray(kinds)
    halves = sessions.halves(kinds, rng)
    if not (halves >= 0).any() or len(np.unique(kinds)) < 2:
        return {"control task": np.nan, "selectivity": np.nan}
    drawn = [sessions.of_kinds(kinds, rng) for _ in range(CONTROL_LABELS)]
    dealt = np.stack([sessions.session, *drawn])
    own, *control = _scores(sessions, best.x, halves, dealt, [best.l2])
    control = float(np.mean(control))
    return {"control task": control, "selectivity": float(own) - control}


def _scores(
    sessions: Sessions, x: np.ndarray, part: np.ndarray, dealt: np.ndarray, penalties
) -> np.ndarray:
    """Return (P,) test scores of fits of x (n, D) to the labels of other sessions, `dealt` (P, N).

    Each has the penalty with the smallest validation error.
    """
    scores, parts = [], -(-len(dealt) * len(x) // 2**22)  # labels of about 32 MB at once
    for some in np.array_split(dealt, parts):
        y = np.moveaxis(sessions.labels(some), 0, 1)  # (n, P, labels)
        errors = ridge_errors(x, y.reshape(len(x), -1), part, penalties)
        errors = errors.reshape(*errors.shape[:2], *y.shape[1:]).sum(-1)  # (l2, 2, P)
        best = errors[:, 0].argmin(0)
        spread = ((y[part == 2] - y[part == 0].mean(0)) ** 2).sum((0, 2))
        scores.append(1 - errors[best, 1, np.arange(len(some))] / spread)
    return np.concatenate(scores)


def _sums(y: np.ndarray, guess: np.ndarray, mean: np.ndarray, history: np.ndarray) -> Sums:
    """Return the sums of labels and guesses (n, k), with the mean (k,) of training labels."""
    _, row, count = np.unique(history, return_inverse=True, return_counts=True)
    by = lambda values: np.stack([np.bincount(row, one) for one in values.T], 1)  # (histories, k)
    total = lambda values: by(values).sum(1)
    level = lambda values: (by(values) ** 2).sum(1) / count
    missed, spread = y - guess, y - mean
    label, read = (values - (by(values) / count[:, None])[row] for values in (y, guess))
    within = total(label * read), total(read**2), total(label**2)
    return Sums(total(missed**2), total(spread**2), level(missed), level(spread), *within)
