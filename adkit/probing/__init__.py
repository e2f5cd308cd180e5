"""Probing: read something out of activations, take it out, move it; always beside the fit that must fail."""

from adkit.linear import Eraser
from adkit.probing.attention import (
    AttentionMasses,
    ablate_head,
    after_first_reward,
    attention_masses,
    attention_rollout,
    erase_episode,
)
from adkit.probing.counterfactuals import Replays, counterfactual, possible
from adkit.probing.erasure import ErasureEffect, action_loss, erase, erasure_effect
from adkit.probing.patching import Patched, patch
from adkit.probing.probes import Probe, fit, pool
from adkit.probing.steering import Steering, difference_of_means, off_unembedding, steer
from adkit.probing.verdicts import (
    Verdict,
    check_hypotheses,
    flips,
    gate,
    load_hypotheses,
    verdict,
    verdict_table,
    verdicts,
)

__all__ = [
    "AttentionMasses", "Eraser", "ErasureEffect", "Patched", "Probe", "Replays", "Steering", "Verdict", "ablate_head",
    "action_loss", "after_first_reward", "attention_masses", "attention_rollout", "check_hypotheses", "counterfactual",
    "difference_of_means", "erase", "erase_episode", "erasure_effect", "fit", "flips", "gate", "load_hypotheses",
    "off_unembedding", "patch", "pool", "possible", "steer", "verdict", "verdict_table", "verdicts",
]  # fmt: skip
