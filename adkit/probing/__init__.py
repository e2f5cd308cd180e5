"""Probing: read something out of activations, always beside the fit that must fail."""

from adkit.probing.probes import Probe, fit

__all__ = ["Probe", "fit"]
