"""Probes: is a label written in the activations? Judged on groups the probe never saw, beside five controls that may explain it.

The controls are those of Hewitt & Liang (2019), Elber-Dorozko & Loewenstein (2018) and the shards design, section 2.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from adkit.probing.labels import Sessions
from adkit.probing.leace import Eraser, Ridges, leace
from adkit.probing.record import Recording
from adkit.stats import Interval, bootstrap

if TYPE_CHECKING:
    import pandas as pd

PENALTIES = tuple(float(10.0**power) for power in range(-5, 2))
CONTROL_LABELS = 10  # control tasks are averaged over so many deals of labels


@dataclass(frozen=True, eq=False)
class Probe:
    """A read-out, how well it reads held-out groups, and what else reads as well. Scores are R2, or accuracy for classes."""

    score: float
    """On held-out groups: R2 over labels and tokens, 0 being the training mean; for classes the share that is right."""
    interval: Interval
    """The score's 95% bootstrap over models, held-out groups and the histories in them."""
    tap: str
    """Which activations are read: of several taps, the one that reads the validation groups best."""
    taps: dict[str, float]
    """The held-out score of each tap."""
    l2: float
    """The penalty that reads the validation groups best."""
    controls: dict[str, float]
    """The same fit where it must fail, or to be compared with: `shuffled` (95th percentile of `null`), `control task` and
    `selectivity`, `untrained`, every twin and every baseline that was given. NaN marks a control that was not or cannot be run."""
    null: np.ndarray
    """(permutations,) the score with sessions' labels dealt to other sessions, the highest over taps."""
    weights: np.ndarray
    """(D, labels) of the read-out on centred activations, in their own units; with a kernel, its features follow."""
    erase: Eraser
    """Removes all that is linearly readable of the label (LEACE), fitted on what is not held out: put it in `ad.edit`."""
    read: Callable[[np.ndarray], np.ndarray] = field(repr=False)
    """The label it reads in activations (n, D): (n, labels), or (n,) classes."""
    sums: dict[str, np.ndarray] = field(repr=False)
    """Per read-out - "probe", twins, baselines - the (histories, 7) sums that all scores are made of; see `to_frame`."""
    history: np.ndarray = field(repr=False)
    """(histories,) the held-out lifetimes."""
    group: np.ndarray = field(repr=False)
    """(histories,) their groups."""
    seed: np.ndarray = field(repr=False)
    """(histories,) which of the pooled models: 0 for one alone, see `pool`."""

    @property
    def p(self) -> float:
        """Share of permutations that score as high: (1 + how many) / (1 + permutations)."""
        return float((1 + (self.null >= self.score).sum()) / (1 + len(self.null)))

    def level(self, name: str = "probe") -> Interval:
        """R2 of the histories' mean labels: whether who has much is told from who has little."""
        return self._interval(lambda s: 1 - s[..., 2] / s[..., 3], name)

    def within(self, name: str = "probe") -> Interval:
        """Squared correlation within histories, signed: whether a history's ups and downs are followed."""
        return self._interval(
            lambda s: s[..., 4] * np.abs(s[..., 4]) / (s[..., 5] * s[..., 6]), name
        )

    def over(self, name: str) -> Interval:
        """The probe's score minus that of a twin or baseline, on the same histories."""
        return self._interval(lambda s: (s[..., 7] - s[..., 0]) / s[..., 1], "probe", name)

    def phi(self, low: str = "B1", high: str = "B4") -> Interval:
        """The share it gains of what lies between a weak baseline and the ceiling: (R2 - R2_low) / (R2_high - R2_low)."""
        return self._interval(
            lambda s: (s[..., 7] - s[..., 0]) / (s[..., 7] - s[..., 14]), "probe", low, high
        )

    def headroom(self, low: str = "B1", high: str = "B4") -> Interval:
        """R2_high - R2_low: where it is small, `phi` means nothing."""
        return self._interval(lambda s: (s[..., 0] - s[..., 7]) / s[..., 1], low, high)

    def table(self) -> pd.DataFrame:
        """One row per read-out: its score, level and within-history part, and how far the probe is above it, with intervals."""
        import pandas as pd

        score = lambda name: self._interval(_score, name)
        rows = {
            name: [score(name), self.level(name), self.within(name), self.over(name)]
            for name in self.sums
        }
        return pd.DataFrame.from_dict(
            rows, orient="index", columns=["score", "level", "within", "probe above it"]
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per read-out and held-out history: everything needed to score them otherwise."""
        import pandas as pd

        names = [
            "squared_error",
            "of_mean",
            "level_error",
            "level_of_mean",
            "within_product",
            "within_read",
            "within_label",
        ]
        who = {"seed": self.seed, "group": self.group, "history": self.history}
        rows = [
            pd.DataFrame(s, columns=names).assign(read_out=name, **who)
            for name, s in self.sums.items()
        ]
        return pd.concat(rows)[["read_out", *who, *names]].reset_index(drop=True)

    def _interval(self, statistic: Callable[[np.ndarray], np.ndarray], *names: str) -> Interval:
        if missing := [name for name in names if name not in self.sums]:
            raise ValueError(
                f"{missing[0]!r} was not read out; there are {', '.join(self.sums)}. Give it to fit."
            )
        with np.errstate(invalid="ignore", divide="ignore"):
            values = np.concatenate([self.sums[n] for n in names], axis=1)
            return bootstrap(values, [self.group, self.history], statistic, crossed=self.seed)


def fit(
    stream: Recording | np.ndarray,
    labels,
    *,
    holdout: str | Sequence[str] = "task",
    share: float = 0.3,
    l2: float | Sequence[float] = PENALTIES,
    seed: int = 0,
    groups=None,
    where: np.ndarray | None = None,
    classes: bool = False,
    kernel: int = 0,
    stratum=None,
    kinds=None,
    untrained: Recording | np.ndarray | None = None,
    twins: Mapping[str, Recording | np.ndarray] | None = None,
    baselines: Mapping[str, np.ndarray] | None = None,
    leftover: int = 0,
    permutations: int = 200,
) -> Probe:
    """Fit a ridge (numbers) or logistic (`classes`) probe, and score it and its controls on groups held out from the fit.

    `stream` is a recording of one tap or more, (N, E, H + 1, D) each, or an array (N, ..., D). `labels` has a row per task,
    numbers or tuples, or one per token: (N, E, H + 1), (N, E, H) for decisions alone, labels last if there are several.
    `where`, of the same shape, chooses tokens; padding must not be among them. Activations are standardised on the
    training tokens; of the penalties `l2` (see `Ridges`) and of the taps, those that read the validation groups best are
    taken. `kernel` adds so many random Fourier features (Rahimi & Recht 2007): what a non-linear probe reads.

    `groups` (N,) are split: tasks by default, layout orbits where a symmetry would leak. `holdout` is "task" to hold out a
    `share` of groups, "lifetime" to hold out lifetimes, whose groups may recur, or (N,) of "train", "val" and "test".

    Controls. Permutation: each session's activations with another session's labels at the same episode (of its nearest
    token there), within a `stratum` (N,) such as regime and type; sessions are tasks for labels by task, else lifetimes.
    Control task: each of the `kinds` (N,), groups by default, gets the label curve of another kind, the lifetimes of a kind
    are split in halves, and selectivity is the score of the true labels on such halves minus that. `untrained` and `twins`
    are what other models make of the same histories; `baselines` (N, E, H + 1 or H, features) are read the same way,
    B0 to B4 by custom, see `Probe.phi`. `leftover` is the `kernel` of a probe of what is left after erasing.
    """
    streams = _streams(stream)
    shape = next(iter(streams.values())).shape[:-1]
    task = np.asarray(stream.task if isinstance(stream, Recording) else groups)
    groups = task if groups is None else np.asarray(groups)
    for what, names in {
        "groups": groups,
        "tasks": task,
        "stratum": stratum,
        "kinds": kinds,
    }.items():
        if names is not None and np.shape(names) != shape[:1]:
            raise ValueError(
                f"{shape[0]} lifetimes and {what} {np.shape(names)} do not belong together; name that of each."
            )
    sessions = Sessions.of(shape, task, labels, where)
    sessions = replace(
        sessions,
        part=sessions.split(holdout, groups, share, seed),
        curve=_numbers(sessions, classes),
    )
    how = {
        "l2": np.atleast_1d(l2).astype(float),
        "classes": classes,
        "kernel": kernel,
        "seed": seed,
    }

    fits = {name: _fit(sessions, values, **how) for name, values in streams.items()}
    tap = max(fits, key=lambda name: fits[name].val)
    best, rng = fits[tap], np.random.default_rng(seed + 1)
    sums, controls, null = (
        {"probe": best.sums},
        {"shuffled": np.nan, "untrained": np.nan},
        np.zeros(0),
    )
    if permutations:
        dealt = np.stack([sessions.exchanged(stratum, rng) for _ in range(permutations)])
        path = (lambda fit: [fit.l2]) if classes else (lambda fit: how["l2"])
        null = np.max(
            [
                _scores(sessions, fit.x, sessions.part, dealt, path(fit), classes)
                for fit in fits.values()
            ],
            axis=0,
        )
        controls["shuffled"] = float(np.quantile(null, 0.95))
    controls |= _control_task(
        sessions, best, groups if kinds is None else np.asarray(kinds), classes, rng
    )
    for name, other in (
        ({} if untrained is None else {"untrained": untrained}) | dict(twins or {})
    ).items():
        theirs = [_fit(sessions, values, **how) for values in _streams(other).values()]
        sums[name] = max(theirs, key=lambda fit: fit.val).sums
    for name, features in (baselines or {}).items():
        features = np.asarray(features)
        sums[name] = _fit(
            sessions, features[..., None] if features.ndim == len(shape) else features, **how
        ).sums

    controls |= {name: float(_score(s.mean(0))) for name, s in sums.items() if name != "probe"}
    history = np.unique(sessions.history[sessions.part == 2])
    interval = bootstrap(best.sums, [groups[history]], _score)
    kept, y = sessions.part < 2, sessions.labels(sessions.session)
    eraser = leace(
        sessions.tokens(streams[tap])[kept], (np.eye(y.max() + 1)[y[:, 0]] if classes else y)[kept]
    )
    if leftover:
        rest = _fit(sessions, eraser(streams[tap].astype(float)), **how | {"kernel": leftover})
        controls["leftover"] = float(_score(rest.sums.mean(0)))
    taps = {name: float(_score(fit.sums.mean(0))) for name, fit in fits.items()}
    found = taps[tap], interval, tap, taps, best.l2, controls, null, best.weights, eraser, best.read
    return Probe(*found, sums, history, groups[history], np.zeros(len(history), int))


def pool(probes: Sequence[Probe]) -> Probe:
    """The same fit to several models, such as seeds, as one: scores over all, bootstrapped over models, groups and histories.

    Permutation i is averaged over the models: fit them with one `seed` and the same histories, and it is the same in each.
    `weights`, `erase` and `read` stay those of the first. ValueError if the probes differ in what was read out.
    """
    if isinstance(probes, Probe) or not probes:
        raise ValueError(
            f"{'one probe' if probes else 'no probe'} given; give a list of them, such as one for each seed."
        )
    first = probes[0]
    if any(p.sums.keys() != first.sums.keys() or p.null.shape != first.null.shape for p in probes):
        raise ValueError(
            "these probes have other read-outs or permutations; fit them with the same twins, baselines and permutations."
        )
    joined = lambda name: np.concatenate([getattr(probe, name) for probe in probes])
    sums = {name: np.concatenate([probe.sums[name] for probe in probes]) for name in first.sums}
    mean = lambda values: {
        name: float(np.mean([value[name] for value in values])) for name in values[0]
    }
    pooled = replace(
        first, sums=sums, history=joined("history"), group=joined("group"), null=np.mean([probe.null for probe in probes], axis=0),
        seed=np.repeat(np.arange(len(probes)), [len(p.history) for p in probes]), score=float(_score(sums["probe"].mean(0))),
        controls=mean([probe.controls for probe in probes]), taps=mean([probe.taps for probe in probes]),
    )  # fmt: skip
    return replace(pooled, interval=pooled._interval(_score, "probe"))


def _streams(stream: Recording | np.ndarray) -> dict[str, np.ndarray]:
    return stream.values if isinstance(stream, Recording) else {"activations": np.asarray(stream)}


def _score(sums: np.ndarray) -> np.ndarray:
    return 1 - sums[..., 0] / sums[..., 1]


def _numbers(sessions: Sessions, classes: bool) -> np.ndarray:
    """The label curves as finite numbers, or as classes 0, 1, ..."""
    curve = sessions.curve
    if not classes:
        curve = curve.astype(float)
        if not np.isfinite(
            curve[sessions.session[sessions.history], sessions.time % curve.shape[1]]
        ).all():
            raise ValueError(
                "labels hold NaN or infinity at tokens that are read; leave those out with where=."
            )
        return curve
    if curve.shape[-1] != 1:
        raise ValueError(
            f"labels have {curve.shape[-1]} columns; with classes=True give one class per task or token."
        )
    return np.unique(curve, return_inverse=True)[1].reshape(curve.shape)


class _Fit(NamedTuple):
    x: np.ndarray
    """(n, D) the standardised features."""
    l2: float
    val: float
    sums: np.ndarray
    weights: np.ndarray
    read: Callable


def _fit(
    sessions: Sessions, values: np.ndarray, l2: np.ndarray, classes: bool, kernel: int, seed: int
) -> _Fit:
    """Standardise, choose the penalty on the validation part, fit with scikit-learn, and sum up the test part by history."""
    from sklearn.kernel_approximation import RBFSampler
    from sklearn.linear_model import LogisticRegression, Ridge

    raw, part, y = sessions.tokens(values), sessions.part, sessions.labels(sessions.session)
    mean, scale = raw[part == 0].mean(0), raw[part == 0].std(0)
    scale[scale < 1e-12] = 1.0
    bend = (
        RBFSampler(gamma=1 / raw.shape[1], n_components=kernel, random_state=seed).fit(raw)
        if kernel
        else None
    )

    def features(activations: np.ndarray) -> np.ndarray:
        x = (activations - mean) / scale
        return x if bend is None else np.concatenate([x, bend.transform(x)], axis=1)

    x, n = features(raw), (part == 0).sum()
    if classes:
        models = [
            LogisticRegression(C=1 / (a * n), max_iter=5000).fit(x[part == 0], y[part == 0, 0])
            for a in l2
        ]
        vals = [model.score(x[part == 1], y[part == 1, 0]) for model in models]
        model = models[i := int(np.argmax(vals))]
        guess = model.predict(x[part == 2])[:, None]
    else:
        errors, base = Ridges(x, part).errors(y, l2)
        vals = 1 - errors[:, 1].sum(-1) / base[1].sum()
        model = Ridge(alpha=l2[i := int(np.argmax(vals))] * n).fit(x[part == 0], y[part == 0])
        guess = model.predict(x[part == 2]).reshape(-1, y.shape[1])
    sums = _sums(
        y[part == 2], guess, None if classes else y[part == 0].mean(0), sessions.history[part == 2]
    )
    weights = (
        np.atleast_2d(model.coef_).T / np.pad(scale, (0, kernel), constant_values=1.0)[:, None]
    )
    shape = (-1,) if classes else (-1, y.shape[1])
    read = lambda activations: model.predict(features(activations)).reshape(shape)
    return _Fit(x, float(l2[i]), float(vals[i]), sums, weights, read)


def _sums(
    y: np.ndarray, guess: np.ndarray, base: np.ndarray | None, history: np.ndarray
) -> np.ndarray:
    """(histories, 7) for labels and guesses (n, k) and the training mean (k,); for classes only what is wrong, and the number."""
    _, row, count = np.unique(history, return_inverse=True, return_counts=True)
    by = lambda values: np.stack(
        [np.bincount(row, column) for column in values.T], axis=1
    )  # (histories, k)
    if base is None:
        return np.concatenate(
            [by((guess != y).astype(float)), count[:, None], np.zeros((len(count), 5))], axis=1
        )
    missed, spread = y - guess, y - base
    centred = lambda values: values - (by(values) / count[:, None])[row]
    inner, read = centred(y), centred(guess)
    levels = [(by(values) ** 2).sum(1) / count for values in (missed, spread)]
    total = [by(values).sum(1) for values in (missed**2, spread**2)]
    return np.stack(
        total + levels + [by(values).sum(1) for values in (inner * read, read**2, inner**2)], axis=1
    )


def _scores(
    sessions: Sessions, x, part, dealt: np.ndarray, l2: Sequence[float], classes: bool
) -> np.ndarray:
    """(P,) test scores of fits to the labels of other sessions, `dealt` (P, N); ridges choose their own penalties again."""
    if classes:
        from sklearn.linear_model import LogisticRegression

        model, fit, test = (
            LogisticRegression(C=1 / (l2[0] * (part == 0).sum()), max_iter=5000),
            part == 0,
            part == 2,
        )
        labels = (sessions.labels(session)[:, 0] for session in dealt)
        return np.array([model.fit(x[fit], y[fit]).score(x[test], y[test]) for y in labels])
    ridges, scores = Ridges(x, part), []
    for some in np.array_split(
        dealt, -(-len(dealt) * len(x) // 2**22)
    ):  # not too much memory at once
        y = np.moveaxis(sessions.labels(some), 0, 1)  # (n, P, labels)
        errors, base = ridges.errors(y.reshape(len(x), -1), l2)
        errors, base = (
            errors.reshape(len(l2), 3, *y.shape[1:]).sum(-1),
            base.reshape(3, *y.shape[1:]).sum(-1),
        )
        best = errors[:, 1].argmin(0)
        scores.append(1 - errors[best, 2, np.arange(len(some))] / base[2])
    return np.concatenate(scores)


def _control_task(
    sessions: Sessions, best: _Fit, kinds: np.ndarray, classes: bool, rng
) -> dict[str, float]:
    """How well random labels of kinds are read on other lifetimes of the same kinds, and how much better the true ones."""
    halves = sessions.halves(kinds, rng)
    if not (halves >= 0).any() or len(np.unique(kinds)) < 2:
        return {"control task": np.nan, "selectivity": np.nan}
    drawn = np.stack(
        [sessions.session] + [sessions.of_kinds(kinds, rng) for _ in range(CONTROL_LABELS)]
    )
    scores = _scores(sessions, best.x, halves, drawn, [best.l2], classes)
    control = float(scores[1:].mean())
    return {"control task": control, "selectivity": float(scores[0]) - control}
