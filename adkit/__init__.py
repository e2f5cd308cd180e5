"""adkit: a workbench for in-context reinforcement learning and value drift. Public names, loaded when first used."""

import sys
from importlib import import_module
from types import ModuleType

from adkit.envs.gym import register as _register

__version__ = "0.1.0"

_WHERE = {
    "EnvSpec": "protocols",
    "Tasks": "protocols",
    "Step": "protocols",
    "Transition": "protocols",
    "Rng": "seeds",
    "find": "artefacts",
    "optimal_returns": "tables",
    "Histories": "histories",
    "collect": "collect",
    "record": "taps",
    "edit": "taps",
    "ParticleFilter": "belief",
    "CausalTransformer": "model",
    "distill": "distill",
    "distill_recurrent": "recurrent",
    "distill_encoder": "seeing",
    "pretrain_encoder": "seeing",
    "InContext": "incontext",
    "RECIPES": "recipes",
    "RecurrentPolicy": "recurrent",
    "RL2": "rl2",
    "train_rl2": "rl2",
    "setup_notebook": "notebook",
}
_MODULES = (
    "anatomy",
    "artefacts",
    "cookies",
    "display",
    "edits",
    "endpoints",
    "envs",
    "pixels",
    "probing",
    "protocols",
    "recipes",
    "seeds",
    "sources",
    "stats",
    "tables",
    "taps",
    "testing",
    "tokens",
    "views",
)

__all__ = [*_WHERE, *_MODULES]


class _Package(ModuleType):
    """`ad.collect` and `ad.distill` are the functions, also after their modules of the same name were imported."""

    def __setattr__(self, name, value):
        if not (name in _WHERE and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name):
    if name in _WHERE:
        return getattr(import_module(f"adkit.{_WHERE[name]}"), name)
    if name in _MODULES:
        return import_module(f"adkit.{name}")
    raise AttributeError(f"adkit has no {name!r}; it has {', '.join(__all__)}.")


def __dir__():
    return __all__


_register()  # gymnasium.make("adkit/DarkRoom-v0", goal=(3, 4))
