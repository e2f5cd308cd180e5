"""Sessions: which tokens of which lifetimes are read, what label stands there, and what would if sessions were exchanged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PARTS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Sessions:
    """The n tokens of N lifetimes that are read. A session is what a label belongs to: a task, or one lifetime."""

    shape: tuple[int, ...]
    """(N, ...) of all tokens, M a lifetime."""
    history: np.ndarray
    """(n,) the lifetime of each token that is read,"""
    time: np.ndarray
    """(n,) and its place there, 0 to M - 1."""
    part: np.ndarray
    """(n,) 0 to fit on, 1 to choose on, 2 to score on."""
    curve: np.ndarray
    """(sessions, M or 1, labels) every session's label at any time; where it has none, that of its nearest token."""
    session: np.ndarray
    """(N,) the session of each lifetime."""

    @staticmethod
    def of(shape: tuple[int, ...], task: np.ndarray, labels, where: np.ndarray | None) -> Sessions:
        """Sessions of activations (*shape, D), N lifetimes on tasks (N,): all still to be fitted on. See `probing.fit`."""
        labels = labels.to_numpy() if hasattr(labels, "to_numpy") else labels
        decisions = (
            (*shape[:-1], shape[-1] - 1) if len(shape) == 3 else shape
        )  # the token that closes an episode decides nothing
        per_token = len(shape) > 1 and np.shape(labels)[: len(shape)] in (shape, decisions)
        for given in (where, labels if per_token else None):
            if given is not None and np.shape(given)[: len(shape)] == decisions:
                shape = decisions
        used = np.ones(shape, bool) if where is None else np.asarray(where)
        if used.shape != shape or used.dtype != bool:
            raise ValueError(
                f"where is {used.dtype} {used.shape}; choose tokens with bool {shape}."
            )
        history, time = np.nonzero(used.reshape(shape[0], -1))
        if per_token:
            labels = np.asarray(labels)[tuple(map(slice, shape))]
            curve, session = labels.reshape(shape[0], used[0].size, -1), np.arange(shape[0])
            curve = np.take_along_axis(curve, _nearest(used)[..., None], axis=1)
        else:
            curve, session = np.array([np.ravel(row) for row in labels])[:, None], task
            if (
                task.dtype.kind not in "iu"
                or task.min(initial=0) < 0
                or task.max(initial=0) >= len(curve)
            ):
                raise ValueError(
                    f"labels of shape {np.shape(labels)} do not fit {len(np.unique(task))} tasks up to {task.max()} and tokens "
                    f"{shape}; give one per task, in their order, or one per token."
                )
        return Sessions(shape, history, time, np.zeros(len(history), int), curve, session)

    def labels(self, session: np.ndarray) -> np.ndarray:
        """(..., n, labels) at the tokens that are read, if the lifetimes had the sessions (..., N)."""
        return self.curve[session[..., self.history], self.time % self.curve.shape[1]]

    def tokens(self, values: np.ndarray) -> np.ndarray:
        """(n, D) float64 of activations (*shape, D); a token more per episode than there are decisions is left out."""
        if values.shape[:-1] not in (self.shape, (*self.shape[:-1], self.shape[-1] + 1)):
            raise ValueError(
                f"activations or features of shape {values.shape}; these tokens need ({self.shape}, D) or one more each."
            )
        values = values[tuple(map(slice, self.shape))]
        return values.reshape(self.shape[0], -1, values.shape[-1])[self.history, self.time].astype(
            float
        )

    def split(
        self, holdout: str | Sequence[str], groups: np.ndarray, share: float, seed: int
    ) -> np.ndarray:
        """The `part` (n,) of each token: whole groups ("task"), whole lifetimes ("lifetime"), or as named for each lifetime."""
        if not isinstance(holdout, str):
            if len(holdout) != self.shape[0] or set(holdout) - set(PARTS):
                raise ValueError(
                    f"holdout names {sorted(set(holdout))}, {len(holdout)} in all; name {self.shape[0]} of {PARTS}."
                )
            part = np.array([PARTS.index(name) for name in holdout])[self.history]
        elif holdout not in ("task", "lifetime"):
            raise ValueError(
                f'holdout={holdout!r}; choose "task" or "lifetime", or name train, val or test for each lifetime.'
            )
        else:
            unit = (groups if holdout == "task" else np.arange(self.shape[0]))[self.history]
            units = np.random.default_rng(seed).permutation(np.unique(unit))
            cut = round(len(units) * share)
            if not 2 <= cut <= len(units) - 2:
                raise ValueError(
                    f"{len(units)} {holdout}s with share={share} leave {cut} held out; both sides need at least 2."
                )
            val = cut + max(1, round((len(units) - cut) * share))
            part = np.where(np.isin(unit, units[:cut]), 2, np.isin(unit, units[cut:val]))
        if missing := [name for p, name in enumerate(PARTS) if not (part == p).any()]:
            raise ValueError(
                f"no token to read is in {', '.join(missing)}; look at where= and holdout=."
            )
        return part

    def exchanged(self, stratum, rng: np.random.Generator) -> np.ndarray:
        """(N,) the session whose labels each lifetime gets: drawn among those of its stratum and its part of the split."""
        alike = np.zeros((len(self.curve), 4), int)
        for p in range(3):
            alike[self.session[self.history[self.part == p]], p] = 1
        if stratum is not None:
            alike[self.session, 3] = np.unique(stratum, return_inverse=True)[1]
        _, alike = np.unique(alike, axis=0, return_inverse=True)
        order, drawn = (
            np.lexsort((rng.random(len(alike)), alike.ravel())),
            np.empty(len(alike), int),
        )
        drawn[np.argsort(alike.ravel(), kind="stable")] = order
        return drawn[self.session]

    def of_kinds(self, kinds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(N,) a session per kind of lifetime, of another kind: a random label with the same marginal and smoothness."""
        _, kind = np.unique(kinds, return_inverse=True)
        order, drawn = rng.permutation(kind.max() + 1), rng.permutation(np.unique(self.history))
        donor = self.session[rng.choice(drawn, len(order))]
        donor[kind[drawn]] = self.session[
            drawn
        ]  # a random lifetime's of each kind, or of any if none of that kind is read
        other = np.empty(len(order), int)
        other[order] = np.roll(order, 1)
        return donor[other[kind]]

    def halves(self, kinds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(n,) 0 or 2, half of each kind's lifetimes each; -1 for lifetimes that are the only ones of their kind."""
        _, kind, size = np.unique(kinds, return_inverse=True, return_counts=True)
        order = np.lexsort((rng.random(len(kind)), kind))
        place = np.empty(len(kind), int)
        place[order] = np.arange(len(kind)) - np.repeat(np.cumsum(size) - size, size)
        return np.where(size[kind] > 1, 2 * (place % 2), -1)[self.history]


def _nearest(used: np.ndarray) -> np.ndarray:
    """(N, M) for each token of `used` (N, ..., steps) the nearest that is used, in its own episode if there is one."""
    steps = used.shape[-1]
    episode, step = np.divmod(np.arange(used[0].size), steps)
    place = 3 * steps * episode + step  # another episode is farther than any token of this one
    used = used.reshape(len(used), -1)
    index = np.arange(used.shape[1])
    before = np.maximum.accumulate(np.where(used, index, -1), axis=1)
    after = np.minimum.accumulate(np.where(used, index, used.shape[1])[:, ::-1], axis=1)[:, ::-1]
    gap = lambda to, there: np.where(
        there, np.abs(place - place[to.clip(0, used.shape[1] - 1)]), np.inf
    )
    closer = gap(before, before >= 0) <= gap(after, after < used.shape[1])
    return np.where(closer, before, after).clip(0, used.shape[1] - 1)
