"""What the probes of H2a read, and what else could explain it: labels and baselines per day."""

from collections.abc import Callable

import numpy as np

import adkit as ad
from adkit.cookieworld.world import EAT, GIFT, HIDE, STOCK, VISIBLE
from adkit.probing import gather
from adkit.probing.record import Recording
from study.corpora import PARTS, Lifetimes, ate_cookie, directed, eaten, exposure, sites

Label = Callable[[ad.Histories], np.ndarray]


def _first(at: np.ndarray) -> np.ndarray:
    return at & (at.cumsum(2) == 1)


def features(lifetimes: Lifetimes, site: str, label: Label) -> dict[str, np.ndarray]:
    """Return labels and baselines at the site's decision of each day, all parts joined.

    Entries are (N, E, ...), or (N,) for what a lifetime has once.
    """
    parts = [_features_of(lifetimes[part], site, label) for part in PARTS]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    names = [part.removeprefix("probe ") for part in PARTS]  # the test lifetimes last
    joined["part"] = np.repeat(names, [len(lifetimes[part]) for part in PARTS])
    return joined | {name: _quadratic(joined[name]) for name in ("B1", "B3")}


def _features_of(histories: ad.Histories, site: str, label: Label) -> dict[str, np.ndarray]:
    labels, at = histories.arrays, _first(sites(histories)[site])
    at_site = lambda values: np.take_along_axis(values, at.argmax(2)[..., None], 2)[..., 0]
    day = np.broadcast_to(np.arange(at.shape[1]), at.shape[:2])
    jar = histories.task_values["jar"][histories.task] @ (5, 1)
    return {
        "used": at.any(2),
        "label": at_site(label(histories)),
        "exposure": at_site(exposure(histories)),
        "B1": np.stack([at_site(eaten(histories)), day], -1),
        "B3": _observed(histories),
        "B4": at_site(labels["belief_rel"]),
        "gifts": (labels["obs"][:, :, 0, GIFT] > 1).cumsum(1),
        "orbit": labels["orbit"],
        "type": labels["type"],
        "regime": labels["regime"],
        "kind": 100 * labels["type"].astype(int) + jar,
    }


def _observed(histories: ad.Histories) -> np.ndarray:
    """Return what a patient observer would have counted by each morning (N, E, 27).

    Counts over all days before and over the last five; shares of sights followed and of cookies
    eaten; and the day.
    """
    arrays = histories.arrays
    seen = sites(histories)["all"] & (arrays["obs"][..., VISIBLE] > 0)
    seen[:, :, 0] = False
    action = arrays["action"].astype(int)
    towards = seen & np.take_along_axis(directed(histories), action[..., None], -1)[..., 0]
    ate, morning = ate_cookie(histories), arrays["obs"][:, :, 0]
    counts = [seen.any(2), ate.any(2), ate.sum(2), towards.sum(2), seen.sum(2)]
    counts += [action[:, :, 0] == HIDE, histories.length, arrays["terminated"].any(2)]
    counts += [(action == EAT).sum(2), morning[..., STOCK] == 2, morning[..., GIFT]]
    today = np.stack(counts, -1).astype(float)
    total = today.cumsum(1) - today
    recent = total - np.pad(total, [(0, 0), (5, 0), (0, 0)])[:, :-5]
    shares = [(part[..., [1, 3]] + 1) / (part[..., [0, 4]] + 2) for part in (total, recent)]
    day = np.broadcast_to(np.arange(today.shape[1])[:, None], (*today.shape[:2], 1))
    return np.concatenate([total, recent, *shares, day], axis=-1)


def _quadratic(x: np.ndarray) -> np.ndarray:
    """Return standardised features (..., k) and their products."""
    x = (x - x.mean((0, 1))) / np.maximum(x.std((0, 1)), 1e-9)
    i, j = np.triu_indices(x.shape[-1])
    return np.concatenate([x, x[..., i] * x[..., j]], axis=-1)


def streams(model, lifetimes: Lifetimes, site: str, *taps: str) -> dict[str, np.ndarray]:
    """Return per tap the activations (N, E, D) at the site's decision of each day, else 0.

    All parts are joined.
    """
    joined: dict[str, list] = {}
    for histories in (lifetimes[part] for part in PARTS):
        at = _first(sites(histories)[site])
        for tap, values in gather(model, histories, at, *taps).items():
            placed = np.zeros((*at.shape[:2], values.shape[1]), np.float32)
            placed[at.any(2)] = values
            joined.setdefault(tap, []).append(placed)
    return {tap: np.concatenate(parts) for tap, parts in joined.items()}


def of_regime(lifetimes: Lifetimes, regime: int) -> dict[str, ad.Histories]:
    """Return the parts with the lifetimes of one regime."""
    return {part: of[of.arrays["regime"] == regime] for part, of in lifetimes.items()}


def recording(streams: dict[str, np.ndarray]) -> Recording:
    n = len(next(iter(streams.values())))
    return Recording(streams, np.arange(n), np.zeros(0, int))
