"""What tests of several folders share."""

import numpy as np
import pandas as pd
import torch

import adkit as ad
from adkit import folders
from adkit.cookieworld import population

KINDS, REGIMES = population.TYPES, population.REGIMES
EVERYONE = population.Shards(types=dict.fromkeys(KINDS, 1), regimes=dict.fromkeys(REGIMES, 1))


def scrambled(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def started(agent, spec, n: int):
    """Return the n learners of an agent, in lock step."""
    return agent.start(spec, ad.Rng.of(0, "x", np.arange(n)), episodes=10)


def same(a, b) -> bool:
    """Bit-identical histories, labels and all."""
    what = lambda h: {
        name: (values.shape, values.dtype, values.tobytes()) for name, values in h.arrays.items()
    }
    return np.array_equal(a.task, b.task) and what(a) == what(b)


def sliding(env, lifetimes: int):
    """Return a random model, and lifetimes of nine episodes: its window of four is cut twice."""
    model = ad.CausalTransformer(env.spec, context=32, layers=2, heads=2, width=16)
    how = {"episodes": 9, "lifetimes": lifetimes, "seed": 1}
    source = ad.sources.PosteriorSampling()
    return scrambled(model), ad.collect(env, env.tasks()[:1], source, **how)


def seeded(frame: pd.DataFrame, seeds: int = 1) -> pd.DataFrame:
    """Return a table as if models of several training seeds had given the same."""
    return pd.concat([frame.assign(seed=seed) for seed in range(seeds)])


def listed(folder) -> list[str]:
    """Return the names in a folder, without the lock that saving leaves there."""
    return sorted(file.name for file in folder.iterdir() if file.name != folders.LOCK)


def scattered(env, n: int):
    """Return n tasks from all over a family."""
    tasks = env.tasks()
    return tasks[np.random.default_rng(0).permutation(len(tasks))[:n]]


def real(histories) -> np.ndarray:
    """Return which steps (N, E, H) exist."""
    return np.arange(histories.spec.horizon) < histories.length[..., None]


def looked_at(view) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the attention at the cursor of an EpisodeAttention, computed anew and exact.

    The first episode of the window; which of its tokens (w, H + 1) the decision can see; its
    attention on each (w, H + 1).
    """
    lengths = view.shown.length[0]
    e, t = view.episode, min(view.step, lengths[view.episode] - 1)
    start, per = int(view.starts[e]), view.shown.spec.horizon + 1
    attention, _ = view._window(view.shown, start)
    last = np.append(lengths[start:e], t)  # earlier episodes in full
    row = attention[e - start, t, view.layer, view.head].reshape(-1, per)[: len(last)]
    return start, np.arange(per) <= last[:, None], row
