"""Probes of a label in activations, scored on groups held out from the fit, beside controls.

The controls are those of Hewitt & Liang (2019) and Elber-Dorozko & Loewenstein (2018):
- permutation: the same fit to labels of other sessions (see `labels`), at the same episode, drawn
  within a stratum such as the regime; its scores are `Probe.null`;
- control task: the same fit to the label curve of another kind of lifetime, on new lifetimes of the
  same kinds; "selectivity" is the score of the true labels on these lifetimes minus that;
- comparisons: the same fit to other activations or features, such as those of an untrained model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

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
    label, minus their means over the lifetime. For classes, `missed` counts wrong tokens, `spread`
    all, and the others are 0.
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
        """R2, or the share of tokens that is right for classes."""
        return float(1 - self.missed.mean() / self.spread.mean())

    def interval(self, groups: np.ndarray) -> Interval:
        """Return the score's bootstrap interval over groups (histories,) and their lifetimes."""
        both = np.stack([self.missed, self.spread], axis=1)
        return bootstrap(both, [groups], lambda mean: 1 - mean[..., 0] / mean[..., 1])


@dataclass(frozen=True, eq=False)
class Probe:
    """A read-out of a label, its score on held-out groups, and the scores of its controls."""

    score: float
    """R2 over labels and tokens, 0 being the training mean; for classes the accuracy."""
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
    read: Callable[[np.ndarray], np.ndarray] = field(repr=False)
    """Returns the labels (..., labels), or classes (...,), read in activations (..., D)."""
    sums: dict[str, Sums] = field(repr=False)
    """Of the "probe" and every comparison."""
    history: np.ndarray = field(repr=False)
    """(histories,) the held-out lifetimes."""

    @property
    def p(self) -> float:
        """The share of permutations that score as high: (1 + how many) / (1 + permutations)."""
        return float((1 + (self.null >= self.score).sum()) / (1 + len(self.null)))


def fit(
    stream: Recording | np.ndarray,
    labels,
    *,
    read: str = "linear",
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
    """Fit a probe of `labels`, and return its score and its controls on held-out groups.

    `stream` is a recording or an array (N, ..., D). `labels` has a row per task, or per token:
    (N, E, H) or (N, E, H + 1); `where`, bool of that shape, chooses tokens. `read` is "linear"
    (ridge), "classes" (logistic) or "curved" (ridge on random Fourier features, too). `holdout` is
    "task" to hold out `groups` (N,), tasks by default; "lifetime"; or (N,) names of "train",
    "val", "test". Penalties `l2` are per token. `compare` names other streams to read; `stratum`
    and `kinds` (N,) are for the controls above, which `permutations=0` leaves out.
    """
    sessions = Sessions.of(stream, labels, where, groups, read == "classes")
    sessions = sessions.split(holdout, seed)
    reader = _Reader(sessions, read, np.atleast_1d(l2), seed)
    fits = {tap: reader.fit(values) for tap, values in taps_of(stream).items()}
    tap = max(fits, key=lambda name: fits[name].validation)
    null, controls, sums = np.zeros(0), {}, {"probe": fits[tap].sums}
    if permutations:
        kinds = sessions.groups if kinds is None else np.asarray(kinds)
        null, controls = reader.controls(fits, tap, permutations, stratum, kinds)
    for name, other in (compare or {}).items():
        theirs = map(reader.fit, taps_of(other).values())
        sums[name] = max(theirs, key=lambda fit: fit.validation).sums
        controls[name] = sums[name].score
    return Probe(
        score=sums["probe"].score,
        interval=sums["probe"].interval(sessions.groups[sessions.held_out]),
        tap=tap,
        taps={name: fit.sums.score for name, fit in fits.items()},
        l2=fits[tap].l2,
        controls=controls,
        null=null,
        read=fits[tap].read,
        sums=sums,
        history=sessions.held_out,
    )


def ridge_errors(
    x: np.ndarray, y: np.ndarray, part: np.ndarray, penalties: Sequence[float]
) -> np.ndarray:
    """Return (penalties, 2, Q) squared errors of ridge fits, summed over two sets of tokens.

    One fit to x (n, D) for each column of `y` (n, Q), on tokens whose `part` (n,) is 0; the sets
    are validation, part 1, and test, part 2. A penalty is per training token.
    """
    from sklearn.linear_model import Ridge

    train, held_out = part == 0, [part == 1, part == 2]
    errors = np.zeros((len(penalties), 2, y.shape[1]))
    for i, penalty in enumerate(penalties):
        model = Ridge(alpha=penalty * train.sum()).fit(x[train], y[train])
        for p, rows in enumerate(held_out):
            if rows.any():
                guess = model.predict(x[rows]).reshape(-1, y.shape[1])
                errors[i, p] = ((y[rows] - guess) ** 2).sum(0)
    return errors


class _Fit(NamedTuple):
    """The best read-out of some activations."""

    x: np.ndarray
    """(n, D) the standardised features."""
    l2: float
    validation: float
    sums: Sums
    read: Callable


class _Reader:
    """Fits of one kind to the labels of some sessions."""

    def __init__(self, sessions: Sessions, kind: str, penalties: np.ndarray, seed: int):
        kinds = "linear", "classes", "curved"
        if kind not in kinds:
            raise ValueError(f"`read` must be one of {', '.join(kinds)}, got {kind!r}")
        self.sessions, self.kind, self.penalties, self.seed = sessions, kind, penalties, seed

    def fit(self, values: np.ndarray) -> _Fit:
        """Fit every penalty to activations (N, ..., D), and return the one that validates best."""
        raw, y = self.sessions.tokens(values), self.sessions.own()
        train, val, test = (self.sessions.part == p for p in range(3))
        features = self._features(raw.shape[1]).fit(raw[train])
        x, target = features.transform(raw), y[:, 0] if self.kind == "classes" else y

        def sums(model, rows: np.ndarray) -> Sums:
            guess = model.predict(x[rows]).reshape(-1, y.shape[1])
            mean = None if self.kind == "classes" else y[train].mean(0)
            return _sums(y[rows], guess, mean, self.sessions.history[rows])

        models = [
            self._model(l2, train.sum()).fit(x[train], target[train]) for l2 in self.penalties
        ]
        validation = [sums(model, val).score for model in models]
        best = int(np.argmax(validation))

        def read(activations: np.ndarray) -> np.ndarray:
            lead = activations.shape[:-1]
            found = features.transform(activations.reshape(-1, activations.shape[-1]))
            found = models[best].predict(found)
            return found.reshape(lead if self.kind == "classes" else (*lead, -1))

        l2 = float(self.penalties[best])
        return _Fit(x, l2, validation[best], sums(models[best], test), read)

    def controls(
        self, fits: Mapping[str, _Fit], tap: str, permutations: int, stratum, kinds: np.ndarray
    ) -> tuple[np.ndarray, dict[str, float]]:
        """Return the scores of permutations (permutations,), and of the control task."""
        sessions, rng = self.sessions, np.random.default_rng(self.seed + 1)
        dealt = np.stack([sessions.exchanged(stratum, rng) for _ in range(permutations)])
        null = [self._scores(fit, sessions.part, dealt) for fit in fits.values()]
        null = np.max(null, axis=0)
        controls = {"shuffled": float(np.quantile(null, 0.95))}
        halves, best = sessions.halves(kinds, rng), fits[tap]
        if not (halves >= 0).any() or len(np.unique(kinds)) < 2:
            return null, controls | {"control task": np.nan, "selectivity": np.nan}
        drawn = [sessions.of_kinds(kinds, rng) for _ in range(CONTROL_LABELS)]
        scores = self._scores(best, halves, np.stack([sessions.session, *drawn]), best.l2)
        control = float(scores[1:].mean())
        return null, controls | {"control task": control, "selectivity": float(scores[0]) - control}

    def _scores(self, fit: _Fit, part: np.ndarray, dealt: np.ndarray, l2=None) -> np.ndarray:
        """Return (P,) test scores of fits to the labels of other sessions, `dealt` (P, N).

        Ridges choose among all penalties again unless `l2` is given.
        """
        x, train, test = fit.x, part == 0, part == 2
        if self.kind == "classes":
            model = self._model(fit.l2, train.sum())
            labels = (self.sessions.labels(session)[:, 0] for session in dealt)
            return np.array([model.fit(x[train], y[train]).score(x[test], y[test]) for y in labels])
        scores, parts = [], -(-len(dealt) * len(x) // 2**22)  # labels of about 32 MB at once
        for some in np.array_split(dealt, parts):
            y = np.moveaxis(self.sessions.labels(some), 0, 1)  # (n, P, labels)
            flat = y.reshape(len(x), -1)
            errors = ridge_errors(x, flat, part, self.penalties if l2 is None else [l2])
            errors = errors.reshape(*errors.shape[:2], *y.shape[1:]).sum(-1)  # (l2, 2, P)
            best = errors[:, 0].argmin(0)
            spread = ((y[test] - y[train].mean(0)) ** 2).sum((0, 2))
            scores.append(1 - errors[best, 1, np.arange(len(some))] / spread)
        return np.concatenate(scores)

    def _features(self, width: int):
        """Return scikit-learn's transformer of activations (n, width) to the fit's features."""
        from sklearn.kernel_approximation import RBFSampler
        from sklearn.pipeline import FeatureUnion, make_pipeline
        from sklearn.preprocessing import StandardScaler

        if self.kind != "curved":
            return StandardScaler()
        curves = RBFSampler(gamma=1 / width, n_components=CURVES, random_state=self.seed)
        both = FeatureUnion([("linear", "passthrough"), ("curved", curves)])
        return make_pipeline(StandardScaler(), both)

    def _model(self, l2: float, n: int):
        """Return scikit-learn's model with a penalty per training token."""
        from sklearn.linear_model import LogisticRegression, Ridge

        if self.kind == "classes":
            return LogisticRegression(C=1 / (l2 * n), max_iter=5000)
        return Ridge(alpha=l2 * n)


def _sums(y: np.ndarray, guess: np.ndarray, mean: np.ndarray | None, history: np.ndarray) -> Sums:
    """Return the sums of labels and guesses (n, k); `mean` (k,) of training labels, or None."""
    _, row, count = np.unique(history, return_inverse=True, return_counts=True)
    by = lambda values: np.stack([np.bincount(row, one) for one in values.T], 1)  # (histories, k)
    total = lambda values: by(values).sum(1)
    if mean is None:
        zeros = np.zeros(len(count))
        return Sums(total((guess != y).astype(float)), count.astype(float), *5 * [zeros])
    missed, spread = y - guess, y - mean
    level = lambda values: (by(values) ** 2).sum(1) / count
    label, read = (values - (by(values) / count[:, None])[row] for values in (y, guess))
    within = total(label * read), total(read**2), total(label**2)
    return Sums(total(missed**2), total(spread**2), level(missed), level(spread), *within)
