"""Probing: read a label in activations, erase, steer and patch it, beside controls."""

from adkit.probing.attention import (
    AttentionMasses,
    ablate_head,
    after_first_reward,
    attention_masses,
    attention_rollout,
)
from adkit.probing.erasure import ErasureEffect, erase, erasure_effect
from adkit.probing.leace import Eraser
from adkit.probing.outcomes import action_loss, action_probability
from adkit.probing.patching import Patched, patch
from adkit.probing.probes import Probe, fit
from adkit.probing.record import Recording, gather
from adkit.probing.steering import (
    DoseResponse,
    Steering,
    difference_of_means,
    off_unembedding,
    steer,
)

__all__ = [
    "AttentionMasses",
    "DoseResponse",
    "Eraser",
    "ErasureEffect",
    "Patched",
    "Probe",
    "Recording",
    "Steering",
    "ablate_head",
    "action_loss",
    "action_probability",
    "after_first_reward",
    "attention_masses",
    "attention_rollout",
    "difference_of_means",
    "erase",
    "erasure_effect",
    "fit",
    "gather",
    "off_unembedding",
    "patch",
    "steer",
]
