"""Probing: read something out of activations, take it out, move it; always beside the fit that must fail."""

from adkit.probing.attention import (
    AttentionMasses,
    ablate_head,
    after_first_reward,
    attention_masses,
    attention_rollout,
    erase_episode,
)
from adkit.probing.erasure import ErasureEffect, action_loss, erase, erasure_effect
from adkit.probing.leace import Eraser
from adkit.probing.patching import Patched, patch
from adkit.probing.probes import Probe, fit, pool
from adkit.probing.steering import Steering, difference_of_means, off_unembedding, steer

__all__ = [
    "AttentionMasses",
    "Eraser",
    "ErasureEffect",
    "Patched",
    "Probe",
    "Steering",
    "ablate_head",
    "action_loss",
    "after_first_reward",
    "attention_masses",
    "attention_rollout",
    "difference_of_means",
    "erase",
    "erase_episode",
    "erasure_effect",
    "fit",
    "off_unembedding",
    "patch",
    "pool",
    "steer",
]
