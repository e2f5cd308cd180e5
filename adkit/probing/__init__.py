"""Probing: read a label in activations, erase, steer and patch it, beside controls."""

from adkit._lazy import lazily

_WHERE = {
    "gather": "record",
    "fit": "probes",
    "Probe": "probes",
    "erase": "erasure",
    "erasure_effect": "erasure",
    "Eraser": "erasure",
    "action_probability": "outcomes",
    "Steering": "steering",
    "difference_of_means": "steering",
    "off_unembedding": "steering",
    "patch": "patching",
    "attention_masses": "attention",
    "attention_rollout": "attention",
    "after_first_reward": "attention",
    "ablate_head": "attention",
}
__getattr__, __dir__, __all__ = lazily(__name__, _WHERE)
