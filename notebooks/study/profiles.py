"""How much of everything a run of the study makes: smoke, standard or full."""

from __future__ import annotations

from dataclasses import dataclass, replace

MAIN = "action only"  # the family of models that most hypotheses are about


@dataclass(frozen=True)
class Profile:
    """How much of everything a run of the study makes."""

    seeds: int
    lifetimes: int
    """Training lifetimes of the main model, each met about once."""
    test: int
    probe_train: int
    probe_val: int
    """Labelled lifetimes of each part."""
    edited: int
    """Test lifetimes that are edited, on each of `days`."""
    days: tuple[int, ...]
    rollouts: int
    permutations: int
    """Session permutations, and runs of the planted null of G3."""
    erased: tuple[int, int]
    steered: tuple[int, int]
    """Test lifetimes, and random coordinates or vectors beside the fitted one."""
    shares: dict[str, float]
    """Of the training lifetimes, for each model family."""


SHARES = {
    MAIN: 1,
    "drift free": 0.35,
    "future outcome": 0.15,
    "primitive only": 0.15,
    "confounded": 0.3,
    "tolerance visible": 0.15,
    "drift free, future outcome": 0.15,
}
SMOKE = Profile(
    seeds=1,
    lifetimes=96,
    test=24,
    probe_train=24,
    probe_val=12,
    edited=12,
    days=(30,),
    rollouts=6,
    permutations=8,
    erased=(12, 3),
    steered=(12, 3),
    shares=SHARES,
)
STANDARD = Profile(
    seeds=3,
    lifetimes=40_000,
    test=400,
    probe_train=600,
    probe_val=200,
    edited=200,
    days=(10, 20, 30, 40, 50, 58),
    rollouts=100,
    permutations=200,
    erased=(120, 24),
    steered=(64, 24),
    shares=SHARES,
)
FULL = replace(
    STANDARD,
    seeds=5,
    lifetimes=60_000,
    test=800,
    probe_train=1000,
    probe_val=400,
    edited=400,
    rollouts=200,
    erased=(320, 30),
    steered=(160, 30),
    shares=dict.fromkeys([*SHARES, "episode shuffled"], 1),
)
PROFILES = {"smoke": SMOKE, "standard": STANDARD, "full": FULL}
