"""A small network of its own for every lifetime: forward, backward and Adam as plain compiled loops.

Thousands of independent learners need thousands of tiny products. A batched product (`torch.bmm`) rounds differently in batches of
another size, and then a lifetime would depend on its neighbours; these loops add in one order whoever else is learning.
Parameters are one flat row per network, `shape` = (inputs, layers, width, outputs). An input is the few of its entries that
are not zero, as (row, value): a one-hot per coordinate for discrete observations, all entries for real vectors.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from adkit.protocols import EnvSpec
from adkit.seeds import mix, uniform

BETA1, BETA2, EPS = (
    np.float32(0.9),
    np.float32(0.999),
    np.float32(1e-6),
)  # Adam's, as in the paper's Tables 4 and 5
MOST_INPUTS = 4096  # pixels want a convolution, not this
WEIGHTS = np.uint64(
    0xD1B54A32D192ED03
)  # sets the stream of initial weights apart from that of actions
ZERO, ONE = np.float32(0), np.float32(1)
GOES_ON, TERMINATED, TRUNCATED = 0, 1, 2  # what an episode did after a step


def check(config, *counts: str) -> None:
    """ValueError unless a learner's layers, width and `counts` are whole numbers of at least 1, and lr and gamma make sense."""
    for name in ("layers", "width", *counts):
        if not (isinstance(value := getattr(config, name), int) and value >= 1):
            raise ValueError(f"{name}={value!r}; give a whole number of at least 1.")
    if not 0 <= config.lr < math.inf:
        raise ValueError(f"lr={config.lr}; a step size is at least 0. Try lr=3e-3.")
    if not 0 <= config.gamma < 1:
        raise ValueError(f"gamma={config.gamma}; the discount lies in [0, 1). Try gamma=0.9.")


def inputs(spec: EnvSpec, agent: str) -> int:
    """How many inputs a network for `spec` has; ValueError where a perceptron is the wrong tool."""
    n = sum(spec.cardinality) if spec.cardinality else features(spec, np.zeros(spec.obs_shape)).size
    if n > MOST_INPUTS:
        raise ValueError(
            f"{spec.name} shows {n} numbers (cardinality={spec.cardinality}, shape={spec.shape}) and {agent} reads at most "
            f"{MOST_INPUTS} with its perceptron; give it coordinates, such as the pose an image is drawn from."
        )
    return n


def features(spec: EnvSpec, obs: np.ndarray) -> np.ndarray:
    """Real observations (..., *obs_shape) as (..., F) float32: as they are, but a pose's heading by its cosine and sine."""
    obs = np.asarray(obs, np.float32)
    if spec.view is not None:  # whatever a model is shown, a source knows the pose
        x, y, heading = np.moveaxis(obs, -1, 0)
        return np.stack([x, y, np.cos(heading), np.sin(heading)], axis=-1)
    return np.ascontiguousarray(obs.reshape(*obs.shape[: obs.ndim - len(spec.obs_shape)], -1))


def encode(spec: EnvSpec, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Observations (..., *obs_shape) as (row, value): (..., C) int32 and float32."""
    if spec.cardinality:
        row = np.ascontiguousarray(
            np.asarray(obs, np.int32) + np.cumsum((0, *spec.cardinality[:-1]), dtype=np.int32)
        )
        return row, np.ones(row.shape, np.float32)
    value = features(spec, obs)
    return np.ascontiguousarray(
        np.broadcast_to(np.arange(value.shape[-1], dtype=np.int32), value.shape)
    ), value


def count(shape: tuple[int, int, int, int]) -> int:
    """Parameters of one network."""
    inputs, layers, width, outputs = shape
    return (inputs + 1) * width + (layers - 1) * (width + 1) * width + (width + 1) * outputs


@njit(cache=True)
def parts(flat, shape):
    """Views of a network's parameters: embed (inputs + 1, W), hidden (layers - 1, W + 1, W), head (W + 1, outputs); biases last."""
    inputs, layers, width, outputs = shape
    a = (inputs + 1) * width
    b = a + (layers - 1) * (width + 1) * width
    return (
        flat[:a].reshape(inputs + 1, width),
        flat[a:b].reshape(layers - 1, width + 1, width),
        flat[b : b + (width + 1) * outputs].reshape(width + 1, outputs),
    )


@njit(cache=True)
def initialise(flat, shape, active, key):
    """He et al. (2015), uniform, for `active` inputs that are not zero; biases and head 0: at first all actions are alike."""
    _, _, width, _ = shape
    embed, hidden, _ = parts(flat, shape)
    flat[:] = ZERO
    key, draw = mix(key ^ WEIGHTS), np.uint64(0)
    for i in range(len(embed) - 1):
        for j in range(width):
            embed[i, j] = (2 * uniform(key, draw, np.uint64(0)) - 1) * math.sqrt(6 / active)
            draw += np.uint64(1)
    for layer in range(len(hidden)):
        for i in range(width):
            for j in range(width):
                hidden[layer, i, j] = (2 * uniform(key, draw, np.uint64(0)) - 1) * math.sqrt(
                    6 / width
                )
                draw += np.uint64(1)


@njit(cache=True)
def forward(embed, hidden, head, row, value, h, y):
    """One input (C,) through one network: activations h (layers, W) after each ReLU, and outputs y."""
    layers, width = h.shape
    outputs = len(y)
    for j in range(width):
        h[0, j] = embed[-1, j]
    for c in range(len(row)):
        i, x = row[c], value[c]
        for j in range(width):
            h[0, j] += x * embed[i, j]
    for layer in range(1, layers):
        for j in range(width):
            h[layer - 1, j] = max(h[layer - 1, j], ZERO)
            h[layer, j] = hidden[layer - 1, width, j]
        for i in range(width):
            x = h[layer - 1, i]
            if x > 0:
                for j in range(width):
                    h[layer, j] += x * hidden[layer - 1, i, j]
    for j in range(width):
        h[layers - 1, j] = max(h[layers - 1, j], ZERO)
    for k in range(outputs):
        y[k] = head[width, k]
    for i in range(width):
        x = h[layers - 1, i]
        if x > 0:
            for k in range(outputs):
                y[k] += x * head[i, k]


@njit(cache=True)
def backward(flat, shape, row, value, h, dy, gradient):
    """Add up over a batch the gradient of a loss whose derivative by the outputs is dy (B, outputs)."""
    _, layers, width, outputs = shape
    _, hidden, head = parts(flat, shape)
    g_embed, g_hidden, g_head = parts(gradient, shape)
    gradient[:] = ZERO
    head_t = np.ascontiguousarray(
        head[:width].T
    )  # products run along rows: sums keep their order, and loops vectorise
    hidden_t = np.empty((layers - 1, width, width), np.float32)
    for layer in range(layers - 1):
        for i in range(width):
            for j in range(width):
                hidden_t[layer, j, i] = hidden[layer, i, j]
    d, d_below = np.empty(width, np.float32), np.empty(width, np.float32)
    for b in range(len(dy)):
        for i in range(width):
            d[i] = ZERO
            x = h[b, layers - 1, i]
            if x > 0:
                for k in range(outputs):
                    g_head[i, k] += x * dy[b, k]
        for k in range(outputs):
            g_head[width, k] += dy[b, k]
            slope = dy[b, k]
            for i in range(width):
                d[i] += slope * head_t[k, i]
        for layer in range(layers - 1, -1, -1):
            for i in range(width):
                d[i] = d[i] if h[b, layer, i] > 0 else ZERO
            if layer == 0:
                break
            for i in range(width):
                d_below[i] = ZERO
                g_hidden[layer - 1, width, i] += d[i]
                x = h[b, layer - 1, i]
                if x > 0:
                    for j in range(width):
                        g_hidden[layer - 1, i, j] += x * d[j]
            for j in range(width):
                slope = d[j]
                if slope != 0:
                    for i in range(width):
                        d_below[i] += slope * hidden_t[layer - 1, j, i]
            d, d_below = d_below, d
        for j in range(width):
            g_embed[-1, j] += d[j]
        for c in range(row.shape[1]):
            i, x = row[b, c], value[b, c]
            for j in range(width):
                g_embed[i, j] += x * d[j]


@njit(cache=True)
def adam(flat, gradient, m, v, lr, step, clip):
    """Update number `step` (from 1) of Kingma & Ba (2015), the gradient's norm first cut to `clip` (0: not at all)."""
    scale = ONE
    if clip > 0:
        square = 0.0
        for i in range(len(gradient)):
            square += gradient[i] * gradient[i]
        scale = np.float32(min(1.0, clip / (math.sqrt(square) + 1e-12)))
    rate = np.float32(lr / (1 - 0.9**step))
    correction = np.float32(1 / (1 - 0.999**step))
    for i in range(len(flat)):
        g = gradient[i] * scale
        m[i] = BETA1 * m[i] + (ONE - BETA1) * g
        v[i] = BETA2 * v[i] + (ONE - BETA2) * g * g
        flat[i] -= rate * m[i] / (np.sqrt(v[i] * correction) + EPS)
