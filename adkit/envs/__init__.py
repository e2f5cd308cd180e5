"""Environments: families of tasks. Loaded when first used."""

from importlib import import_module

_WHERE = {"DarkRoom": "dark_room", "from_gymnasium": "gym"}
__all__ = [*_WHERE]


def __getattr__(name):
    if name not in _WHERE:
        raise AttributeError(f"adkit.envs has no {name!r}; it has {', '.join(__all__)}.")
    return getattr(import_module(f"adkit.envs.{_WHERE[name]}"), name)


def __dir__():
    return __all__
