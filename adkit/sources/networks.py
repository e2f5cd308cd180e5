"""Small networks, one per lifetime: forward, backward and Adam as plain compiled loops.

Thousands of independent learners need thousands of tiny products. A batched product (`torch.bmm`)
rounds differently in batches of another size, so that a lifetime would depend on its neighbours.
These loops add in one order, whatever else is learning. Parameters are one flat row per network,
`shape` = (inputs, layers, width, outputs). An input is given by its entries that are not zero, as
(row, value): a one-hot per coordinate for discrete observations, all entries for real vectors.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from adkit.protocols import EnvSpec, Transition
from adkit.seeds import mix, uniform
from adkit.sources.settings import MOST_INPUTS, cannot_learn, inputs

BETA1, BETA2, EPS = map(np.float32, (0.9, 0.999, 1e-6))  # Adam's, as in the paper
WEIGHTS = np.uint64(0xD1B54A32D192ED03)  # sets initial weights' stream apart from the actions'
ZERO, ONE = np.float32(0), np.float32(1)
GOES_ON, TERMINATED, TRUNCATED = 0, 1, 2  # how an episode went on after a step


def shape_of(config, spec: EnvSpec, outputs: int) -> tuple[int, int, int, int]:
    """Return the `shape` of a source's networks; ValueError if there are too many inputs."""
    if (n := inputs(spec)) > MOST_INPUTS:
        why = f"its observations are {n} numbers, more than the {MOST_INPUTS} that are read"
        raise cannot_learn(type(config).__name__, spec, why)
    return n, config.layers, config.width, outputs


def features(spec: EnvSpec, obs: np.ndarray) -> np.ndarray:
    """Return real observations (..., F) float32; headings as cosine and sine, bytes as 0 to 1."""
    obs = np.asarray(obs, np.float32)
    if spec.dtype == "uint8":
        obs = obs / np.float32(255)
    if spec.view is not None:  # a source knows the pose, whatever a model is shown
        x, y, heading = np.moveaxis(obs, -1, 0)
        return np.stack([x, y, np.cos(heading), np.sin(heading)], axis=-1)
    return np.ascontiguousarray(obs.reshape(*obs.shape[: obs.ndim - len(spec.obs_shape)], -1))


def encode(spec: EnvSpec, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return observations (..., *obs_shape) as (row, value): (..., C) int32 and float32."""
    if spec.cardinality:
        offsets = np.cumsum((0, *spec.cardinality[:-1]), dtype=np.int32)
        row = np.ascontiguousarray(np.asarray(obs, np.int32) + offsets)
        return row, np.ones(row.shape, np.float32)
    value = features(spec, obs)
    row = np.broadcast_to(np.arange(value.shape[-1], dtype=np.int32), value.shape)
    return np.ascontiguousarray(row), value


def ends(transition: Transition) -> np.ndarray:
    """Return (N,) GOES_ON, TERMINATED or TRUNCATED."""
    return np.where(transition.terminated, TERMINATED, TRUNCATED * transition.truncated)


@njit(cache=True)
def parts(flat, shape):
    """Return views of a network's parameters, biases last.

    embed (inputs + 1, W), hidden (layers - 1, W + 1, W), head (W + 1, outputs).
    """
    inputs, layers, width, outputs = shape
    a = (inputs + 1) * width
    b = a + (layers - 1) * (width + 1) * width
    return (
        flat[:a].reshape(inputs + 1, width),
        flat[a:b].reshape(layers - 1, width + 1, width),
        flat[b : b + (width + 1) * outputs].reshape(width + 1, outputs),
    )


def initial(shape: tuple[int, int, int, int], active: int, keys: np.ndarray) -> np.ndarray:
    """Draw the weights (N, parameters) as He et al. (2015), for `active` inputs that are not zero.

    Biases and head are 0: at first all actions are alike.
    """
    inputs, layers, width, outputs = shape
    first, square, n = inputs * width, width * width, len(keys)
    draw = np.arange(first + (layers - 1) * square, dtype=np.uint64)
    u = 2 * uniform(mix(keys ^ WEIGHTS)[:, None], draw, np.uint64(0)) - 1
    embed = u[:, :first] * math.sqrt(6 / active)
    hidden = (u[:, first:] * math.sqrt(6 / width)).reshape(n, layers - 1, width, width)
    hidden = np.pad(hidden, ((0, 0), (0, 0), (0, 1), (0, 0))).reshape(n, -1)  # with biases
    blocks = embed, np.zeros((n, width)), hidden, np.zeros((n, (width + 1) * outputs))
    return np.concatenate(blocks, axis=1).astype(np.float32)


@njit(cache=True)
def forward(network, row, value, h, y):
    """Fill activations h (layers, W), each after its ReLU, and outputs y, for one input (C,).

    `network` is its `parts`.
    """
    (embed, hidden, head), (layers, width), outputs = network, h.shape, len(y)
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
    """Fill the gradient of a loss whose derivative by the outputs is dy (B, outputs)."""
    _, layers, width, outputs = shape
    _, hidden, head = parts(flat, shape)
    g_embed, g_hidden, g_head = parts(gradient, shape)
    gradient[:] = ZERO
    # transposed, so that products run along rows: sums keep their order, and loops vectorise
    head_t = np.ascontiguousarray(head[:width].T)
    hidden_t = np.ascontiguousarray(hidden[:, :width].transpose(0, 2, 1))
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
    """Take step number `step` (from 1) of Adam (Kingma & Ba 2015).

    The gradient's norm is first cut to `clip`; 0 leaves it.
    """
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
