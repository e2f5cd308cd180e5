"""How much of everything a run of the study makes: smoke, standard or full."""

from dataclasses import dataclass

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
WHOLE = dict.fromkeys([*SHARES, "episode shuffled"], 1)
DAYS = (10, 20, 30, 40, 50, 58)
SIZES = {  # in the profiles smoke, standard and full
    "seeds": (1, 3, 5),
    "lifetimes": (96, 40_000, 60_000),
    "test": (24, 400, 800),
    "probe_train": (24, 600, 1000),
    "probe_val": (12, 200, 400),
    "edited": (12, 200, 400),
    "days": ((30,), DAYS, DAYS),
    "rollouts": (6, 100, 200),
    "permutations": (8, 200, 200),
    "erased": ((12, 3), (120, 24), (320, 30)),
    "steered": ((12, 3), (64, 24), (160, 30)),
    "shares": (SHARES, SHARES, WHOLE),
}
PROFILES = {
    profile: Profile(**{name: sizes[i] for name, sizes in SIZES.items()})
    for i, profile in enumerate(("smoke", "standard", "full"))
}
