"""Which coordinates of the stream H2b erases."""

from dataclasses import dataclass

import numpy as np

import adkit as ad
from adkit.cookieworld.world import VISIBLE
from adkit.models.taps import matching
from adkit.probing import Eraser, gather
from adkit.probing.erasure import leace
from adkit.probing.probes import PENALTIES, ridge_errors
from study.corpora import balance, sites
from study.readouts import Lifetimes

CONCEPTS = ("w", "rho", "decoys", "garden from jar", "jar from home")  # w, and possible controls
TOKENS = 15_000  # on which probes of what erasing leaves are fitted


@dataclass(frozen=True, eq=False)
class Choice:
    """Where w is erased, and beside which control concept; chosen on validation lifetimes by R2."""

    tap: str
    control: str
    r2: dict[str, float]
    """On validation lifetimes: of w by tap, and of every concept at the chosen tap."""
    erasers: dict[str, Eraser]
    """At the tap: of "w", of the "control" concept and of the "cue"."""
    everywhere: dict[str, Eraser]
    """Of w, by tap."""
    train: tuple[np.ndarray, np.ndarray, np.ndarray]
    """Activations (n, D) at the tap, w (n,) and "val" or "train" (n,), for probes of what is left.

    Such probes train on probe val, which the erasers were not fitted on.
    """


def choose(model: ad.CausalTransformer, lifetimes: Lifetimes) -> Choice:
    """Choose the block, of all but the last, where w is read best, and the concept most like it."""
    taps = matching(model, "blocks.*.resid")[:-1]  # after the last only the head reads
    x, seen, y = [], [], []
    for histories in (lifetimes["probe train"], lifetimes["probe val"]):
        near = sites(histories)["jar in view"]
        seen.append(histories.arrays["obs"][near][:, VISIBLE] > 0)
        y.append(np.stack([c[near] for c in _concepts(histories)], 1)[seen[-1]])
        x.append({tap: v.astype(float) for tap, v in gather(model, histories, near, *taps).items()})
    visible = lambda part, tap: x[part][tap][seen[part]]
    r2 = {tap: _r2(visible(0, tap), y[0], visible(1, tap), y[1]) for tap in taps}
    tap = max(taps, key=lambda name: r2[name][0])
    control = 1 + int(np.abs(r2[tap][1:] - r2[tap][0]).argmin())
    everywhere = {name: leace(visible(0, name), y[0][:, :1]) for name in taps}
    erasers = {
        "w": everywhere[tap],
        "control": leace(visible(0, tap), y[0][:, [control]]),
        "cue": leace(x[0][tap], seen[0][:, None].astype(float)),
    }
    thin = [slice(None, None, -(-len(values) // TOKENS)) for values in y]
    train = (
        np.concatenate([visible(i, tap)[thin[i]] for i in range(2)]),
        np.concatenate([y[i][thin[i], 0] for i in range(2)]),
        np.repeat(["val", "train"], [len(y[i][thin[i]]) for i in range(2)]),
    )
    found = {f"r2 of w: {name}": values[0] for name, values in r2.items()}
    found |= {f"r2: {name}": value for name, value in zip(CONCEPTS, r2[tap], strict=True)}
    return Choice(tap, CONCEPTS[control], found, erasers, everywhere, train)


def _concepts(histories: ad.Histories) -> list[np.ndarray]:
    """Return each of `CONCEPTS` (N, E, H). Nobody's drift depends on any but w."""
    tasks, w = histories.task_values[histories.task], balance(histories)
    apart = lambda a, b: np.abs(tasks[a].astype(int) - tasks[b]).sum(1)[:, None, None]
    decoys = histories.arrays["decoy"].cumsum(1)[..., None]
    others = tasks["rho"][:, None, None], decoys, apart("jar", "garden"), apart("home", "jar")
    return [w, *(np.broadcast_to(x.astype(float), w.shape) for x in others)]


def _r2(x: np.ndarray, y: np.ndarray, x_val: np.ndarray, y_val: np.ndarray) -> np.ndarray:
    """Return the validation R2 (Q,) of the best ridge for each label (n, Q)."""
    joined = (np.concatenate([x, x_val]) - x.mean(0)) / np.maximum(x.std(0), 1e-9)
    part = np.repeat([0, 1], [len(x), len(x_val)])
    errors = ridge_errors(joined, np.concatenate([y, y_val]), part, PENALTIES)
    return 1 - errors[:, 0].min(0) / ((y_val - y.mean(0)) ** 2).sum(0)
