"""Probing: read something out of activations, always beside the fit that must fail."""

from adkit.probing.attention import (
    AttentionMasses,
    ablate_head,
    after_first_reward,
    attention_masses,
    attention_rollout,
    erase_episode,
)
from adkit.probing.probes import Probe, fit

__all__ = [
    "AttentionMasses", "Probe", "ablate_head", "after_first_reward", "attention_masses", "attention_rollout",
    "erase_episode", "fit",
]  # fmt: skip
