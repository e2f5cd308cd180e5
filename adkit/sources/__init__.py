"""Source algorithms: learners whose histories are worth distilling, and reference agents. Loaded when first used."""

from importlib import import_module

_WHERE = {
    "QLearning": "q_learning",
    "PosteriorSampling": "posterior_sampling",
    "SystematicExplorer": "posterior_sampling",
    "Optimal": "optimal",
    "Random": "optimal",
}
__all__ = [*_WHERE]


def __getattr__(name):
    if name not in _WHERE:
        raise AttributeError(f"adkit.sources has no {name!r}; it has {', '.join(__all__)}.")
    return getattr(import_module(f"adkit.sources.{_WHERE[name]}"), name)


def __dir__():
    return __all__
