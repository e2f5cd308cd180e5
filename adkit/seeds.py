"""A seed is an address: randomness is a function of (seed, purpose, task, lifetime, step, draw).

SplitMix64 (Steele, Lea & Flood 2014) read at an index instead of in sequence. Nothing has a state,
so lifetime 3 draws the same numbers alone, among 3,000, on another machine or after a crash. Every
function here runs unchanged on NumPy arrays and inside Numba-compiled code: therefore the batched
and the compiled drivers agree bit for bit.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import shutil
import tempfile
from dataclasses import dataclass

import numba
import numpy as np
from numba.extending import register_jitable

GAMMA = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: the stride between addresses
M1, M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
S30, S27, S31, S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
DRAWS_PER_STEP = np.uint64(16)
TO_UNIT = 2.0**-53


def _ensure_cache() -> None:
    """Let Numba keep compiled code in a temporary folder if it can write neither here nor at home.

    All of adkit's compiled code is made after this module.
    """
    try:
        numba.njit(cache=True)(lambda: None)
    except RuntimeError:
        folder = tempfile.mkdtemp(prefix="adkit-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["NUMBA_CACHE_DIR"] = numba.config.CACHE_DIR = folder
        says = "nothing compiled can be kept; set NUMBA_CACHE_DIR to a folder that can be written"
        logging.getLogger("adkit").warning(says)


_ensure_cache()


@register_jitable
def mix(z):
    """Scramble 64 bits so that neighbours look independent (SplitMix64's finaliser)."""
    z = (z ^ (z >> S30)) * M1
    z = (z ^ (z >> S27)) * M2
    return z ^ (z >> S31)


@register_jitable
def uniform(key, step, draw):
    """Return a float in [0, 1): draw `draw` (0-15) of step `step` (both uint64) under `key`."""
    return (mix(key + GAMMA * (step * DRAWS_PER_STEP + draw)) >> S11) * TO_UNIT


def key(seed: int, *address: str | int | np.ndarray) -> np.ndarray:
    """Return the uint64 key of an address.

    Array parts broadcast: `key(0, "agent", task_ids, lifetimes)` is (N,).
    """
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
        raise ValueError(f"`seed` must be a whole number from 0 to 2^64 - 1, got {seed!r}")
    z = mix(np.atleast_1d(np.uint64(seed)) + GAMMA)
    for part in address:
        if isinstance(part, str):
            part = int.from_bytes(hashlib.blake2b(part.encode(), digest_size=8).digest(), "little")
        part = np.atleast_1d(part)
        if part.dtype.kind not in "iub":
            raise ValueError(f"an address is made of words and whole numbers, got {part[:3]}")
        z = mix((z ^ mix(part.astype(np.uint64))) + GAMMA)
    return z


@dataclass(frozen=True)
class Rng:
    """Addresses of N lifetimes' randomness. A value: asking twice gives the same numbers."""

    keys: np.ndarray
    """(N,) uint64."""
    step: int | np.ndarray = 0
    """Steps that the lifetimes have taken, a number or (N,)."""

    @staticmethod
    def of(seed: int, *address: str | int | np.ndarray) -> Rng:
        """Return the streams at an address, at step 0."""
        return Rng(key(seed, *address))

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, rows) -> Rng:
        step = self.step if np.ndim(self.step) == 0 else np.atleast_1d(self.step[rows])
        return Rng(np.atleast_1d(self.keys[rows]), step)

    def at(self, step: int | np.ndarray) -> Rng:
        """Return the same streams at another step of the lifetimes, a number or (N,)."""
        return Rng(self.keys, step)

    def uniform(self, draw: int = 0) -> np.ndarray:
        """Return (N,) floats in [0, 1): draw number `draw` (0-15) of this step."""
        if not 0 <= draw < DRAWS_PER_STEP:
            raise ValueError(f"`draw` must be 0 to 15, got {draw}; for more, use rng.at(step)")
        return uniform(self.keys, np.atleast_1d(self.step).astype(np.uint64), np.uint64(draw))

    def kept(self, action: np.ndarray, allowed: np.ndarray, draw: int = 0) -> np.ndarray:
        """Return actions (N,); one that is not allowed (N, A) becomes any that is."""
        k = self.integers(allowed.sum(1), draw)
        other = (allowed.cumsum(1) <= k[:, None]).sum(1).astype(action.dtype)
        return np.where(allowed[np.arange(len(action)), action], action, other)

    def integers(self, n: int | np.ndarray, draw: int = 0) -> np.ndarray:
        """Return (N,) whole numbers in [0, n)."""
        return (self.uniform(draw) * n).astype(np.int64)
