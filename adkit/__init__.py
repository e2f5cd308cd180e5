"""adkit: a workbench for in-context reinforcement learning and value drift.

Public names are loaded when first used.
"""

from importlib import import_module

from adkit.envs.gymnasium import register as _register

__version__ = "0.1.0"

_WHERE = {
    "EnvSpec": "protocols",
    "Tasks": "protocols",
    "Step": "protocols",
    "Transition": "protocols",
    "Rng": "seeds",
    "find": "store",
    "optimal_returns": "tables",
    "Histories": "histories",
    "collect": "rollout",
    "record": "probing.record",
    "edit": "models.taps",
    "ParticleFilter": "cookieworld.observer",
    "CausalTransformer": "models.transformer",
    "distill": "models.distill",
    "Schedule": "models.distill",
    "Validation": "models.distill",
    "distill_recurrent": "models.recurrent",
    "distill_encoder": "models.pretraining",
    "pretrain_encoder": "models.pretraining",
    "InContext": "models.in_context",
    "RECIPES": "recipes",
    "RecurrentPolicy": "models.recurrent",
    "RL2": "models.rl2",
    "train_rl2": "models.rl2",
    "setup_notebook": "notebook",
}
_MODULES = (
    "cookieworld",
    "envs",
    "models",
    "probing",
    "protocols",
    "recipes",
    "seeds",
    "sources",
    "stats",
    "tables",
    "testing",
    "views",
)

__all__ = [*_WHERE, *_MODULES]


def __getattr__(name):
    if name in _WHERE:
        return getattr(import_module(f"adkit.{_WHERE[name]}"), name)
    if name in _MODULES:
        return import_module(f"adkit.{name}")
    raise AttributeError(f"adkit has no {name!r}; it has {', '.join(__all__)}.")


def __dir__():
    return __all__


_register()  # gymnasium.make("adkit/DarkRoom-v0", goal=(3, 4))
