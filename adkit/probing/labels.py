"""Labels of the tokens that a probe reads, their split, and their exchange between sessions.

A session is the unit that a label belongs to: a task if labels are given by task, else a lifetime.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from adkit.probing.record import Recording

PARTS = ("train", "val", "test")
SHARE = 0.3  # of the groups are held out, and of the others chosen on


def taps_of(stream: Recording | np.ndarray) -> dict[str, np.ndarray]:
    """Return the activations of a stream by tap; those of an array are called "activations"."""
    recorded = isinstance(stream, Recording)
    return stream.values if recorded else {"activations": np.asarray(stream)}


@dataclass(frozen=True, eq=False)
class Sessions:
    """The n chosen tokens of N lifetimes, and the labels that stand at them."""

    shape: tuple[int, ...]
    """(N, ...) of all tokens, M per lifetime."""
    history: np.ndarray
    """(n,) the lifetime of each chosen token."""
    time: np.ndarray
    """(n,) the token's place in its lifetime, 0 to M - 1."""
    part: np.ndarray
    """(n,) 0 for training, 1 for validation, 2 for test."""
    curve: np.ndarray
    """(sessions, M or 1, labels) the label of every session at any time; where it has none, that of
    its nearest token."""
    session: np.ndarray
    """(N,) the session of each lifetime."""
    groups: np.ndarray
    """(N,) the group of each lifetime: groups are split, and bootstrapped."""

    @staticmethod
    def of(stream: Recording | np.ndarray, labels, where=None, groups=None) -> Sessions:
        """Return the sessions of a stream, all for training; arguments are as in `probes.fit`."""
        shape = next(iter(taps_of(stream).values())).shape[:-1]
        recorded = isinstance(stream, Recording)
        own = stream.task if recorded else np.arange(shape[0])
        groups = own if groups is None else np.asarray(groups)
        labels = np.asarray(labels, float)
        decisions = (*shape[:-1], shape[-1] - 1) if len(shape) == 3 else shape
        if len(shape) == 3 and labels.shape == (shape[0], math.prod(decisions[1:])):
            labels = labels.reshape(decisions)  # histories.x is flat
        leading = labels.shape[: len(shape)]
        per_token = len(shape) > 1 and leading in (shape, decisions)
        if decisions in (np.shape(where), leading if per_token else None):
            shape = decisions
        used = np.ones(shape, bool) if where is None else where[tuple(map(slice, shape))]
        history, time = np.nonzero(used.reshape(shape[0], -1))
        if per_token:
            curve = labels[tuple(map(slice, shape))].reshape(shape[0], used[0].size, -1)
            curve = np.take_along_axis(curve, _nearest(used)[..., None], axis=1)
            session = np.arange(shape[0])
        else:
            curve, session = labels.reshape(len(labels), 1, -1), own if recorded else groups
        if len(curve) != session.max() + 1:
            raise ValueError(
                f"labels must have one row per {'task' if recorded else 'group'}, "
                f"{session.max() + 1}, or per token, {shape}; got {labels.shape}"
            )
        found = Sessions(shape, history, time, np.zeros(len(history), int), curve, session, groups)
        if not np.isfinite(found.labels()).all():
            raise ValueError(
                "labels must be finite at every token that is read; choose tokens with `where`"
            )
        return found

    def labels(self, session: np.ndarray | None = None) -> np.ndarray:
        """Return (..., n, labels) at the chosen tokens: of their sessions, or others (..., N)."""
        session = self.session if session is None else session
        return self.curve[session[..., self.history], self.time % self.curve.shape[1]]

    def tokens(self, values: np.ndarray) -> np.ndarray:
        """Return (n, D) float64 of values (*shape, D) or (*shape); closing tokens may be there."""
        values = values[tuple(map(slice, self.shape))]
        values = values[..., None] if values.ndim == len(self.shape) else values
        values = values.reshape(self.shape[0], -1, values.shape[-1])
        return values[self.history, self.time].astype(float)

    def split(self, holdout: str | Sequence[str], seed: int) -> Sessions:
        """Return the sessions with a training, validation and test part; see `fit`."""
        if isinstance(holdout, str):
            units_of = {"task": self.groups, "lifetime": np.arange(self.shape[0])}
            unit = units_of[holdout][self.history]
            units = np.random.default_rng(seed).permutation(np.unique(unit))
            cut = round(len(units) * SHARE)
            val = cut + max(1, round((len(units) - cut) * SHARE))
            part = np.where(np.isin(unit, units[:cut]), 2, np.isin(unit, units[cut:val]))
        else:
            part = np.array([PARTS.index(name) for name in holdout])[self.history]
        if missing := [name for p, name in enumerate(PARTS) if not (part == p).any()]:
            raise ValueError(
                f"`holdout` must leave tokens for train, val and test, got none for "
                f"{', '.join(missing)}; give more groups, or look at `where`"
            )
        return replace(self, part=part)

    def exchanged(self, stratum: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
        """Draw (N,) whose labels each lifetime gets: a session of the same stratum and part."""
        alike = np.zeros((len(self.curve), 4), int)
        alike[self.session[self.history], self.part] = 1
        if stratum is not None:
            alike[self.session, 3] = np.unique(stratum, return_inverse=True)[1]
        alike = np.unique(alike, axis=0, return_inverse=True)[1].ravel()
        order, drawn = np.lexsort((rng.random(len(alike)), alike)), np.empty(len(alike), int)
        drawn[np.argsort(alike, kind="stable")] = order
        return drawn[self.session]

    def of_kinds(self, kinds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw (N,) a session of another kind, one per kind of lifetime: as smooth a label."""
        _, kind = np.unique(kinds, return_inverse=True)
        order, drawn = rng.permutation(kind.max() + 1), rng.permutation(np.unique(self.history))
        donor = self.session[rng.choice(drawn, len(order))]  # of any kind, if none of it is read
        donor[kind[drawn]] = self.session[drawn]
        other = np.empty(len(order), int)
        other[order] = np.roll(order, 1)
        return donor[other[kind]]

    def halves(self, kinds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw (n,) 0 or 2, each for half of a kind's lifetimes; -1 for one alone of its kind."""
        _, kind, size = np.unique(kinds, return_inverse=True, return_counts=True)
        order = np.lexsort((rng.random(len(kind)), kind))
        place = np.empty(len(kind), int)
        place[order] = np.arange(len(kind)) - np.repeat(np.cumsum(size) - size, size)
        return np.where(size[kind] > 1, 2 * (place % 2), -1)[self.history]


def _nearest(used: np.ndarray) -> np.ndarray:
    """Return (N, M) the nearest token of `used` (N, ..., steps), in its episode if it can be."""
    steps, nearest = used.shape[-1], np.zeros((len(used), used[0].size), int)
    episode, step = np.divmod(np.arange(used[0].size), steps)
    place = 3 * steps * episode + step  # another episode is farther than any token of this one
    for n, there in enumerate(used.reshape(nearest.shape)):
        if there.any():
            chosen = np.flatnonzero(there)
            middle = (place[chosen[1:]] + place[chosen[:-1]]) / 2
            nearest[n] = chosen[np.searchsorted(middle, place)]
    return nearest
