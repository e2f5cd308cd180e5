"""adkit: a workbench for in-context reinforcement learning and value drift.

Public names are loaded when first used.
"""

from adkit._lazy import lazily
from adkit.envs import register as _register

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
    "diagnose": "views.diagnosis",
    "setup_notebook": "notebook",
}
_MODULES = (
    "cookieworld",
    "envs",
    "interchange",
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

__getattr__, __dir__, __all__ = lazily("adkit", _WHERE | dict.fromkeys(_MODULES))

_register()  # gymnasium.make("adkit/DarkRoom-v0", goal=(3, 4))
