"""Why does my AD not learn? Common faults of histories, tasks, models and rollouts, and signs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from adkit.histories import Histories
from adkit.tasks import Tasks
from adkit.views.figure import GREY, Figure, add_curve, lay_out, styles

if TYPE_CHECKING:
    from adkit.models import CausalTransformer

SURE = 3.0  # standard errors: once in 700 times by chance
RISING = 0.06  # of the whole rise, in the last quarter; a straight line rises 0.14
FEW_TASKS = 12  # a dozen can be told apart and remembered without learning to learn
IN_WINDOW = 0.12  # of the whole rise, from half to half; ten times a straight line over 40 windows
FALL = 0.7  # of the rise was there before an episode and is gone after: no learner forgets so
SHIFTED = 0.1  # more of the change explained by a neighbour's action than by the step's own
ALIKE = 0.98  # of actions after equal pasts; sampled ones agree as often as they are predictable
PLACES = 100_000  # observations at most that are told apart
TRAINED = 1.0  # of the loss without a memory; a model that has learned to learn is below
CAUGHT_UP = 0.5  # of the source's rise, in context
PAST = "obs", "action", "reward"
ROWS = 400  # lifetimes looked at where every step counts

SAYS = {  # name: what it usually means; what to try
    "rewards are constant": "no action is better than another; "
    "check that rewards are stored, and that the source ever finds one",
    "the source does not improve": "there is no learning to distil; tune the source until it rises",
    "the source is cut off": "the histories end before it has learned; "
    "collect more episodes, and fit any schedule of exploration to them",
    "too few tasks": "the model can remember them all; collect on more tasks",
    "the window is too short": "all episodes in a window look alike, so the past helps little; "
    "keep fewer episodes with .subsample(k), or give the model a longer context",
    "lifetimes are joined": "a row holds two learners; give each learner a row of its own",
    "actions are shifted": "actions are stored one step off; store each beside what it answers",
    "train and test tasks overlap": "the test asks for memory, not for learning; "
    "split before collecting, by value, as env.tasks().split(0.8, seed=0) does",
    "decoding is greedy": "the agent does not explore; act with ad.InContext(model, temperature=1)",
    "the model is undertrained": "it has not learned to use its past; "
    "train for more steps, or change the learning rate or the size of the model",
}


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What `diagnose` found; print it, or `draw()` it."""

    findings: dict[str, str]
    """By name: what was seen."""
    healthy: dict[str, str]
    """The other checks that were made: what was seen."""
    curves: dict[str, Histories]
    window: int | None
    """Episodes that the model sees at once."""

    def __repr__(self) -> str:
        lines = [f"{len(self.findings)} findings" if self.findings else "Nothing found"]
        for name, seen in self.findings.items():
            means, attempt = SAYS[name].split("; ", 1)
            lines += [name.upper(), f"  seen   {seen}", f"  means  {means}", f"  try    {attempt}"]
        return "\n".join([*lines, "healthy", *(f"  {seen}" for seen in self.healthy.values())])

    def draw(self) -> Figure:
        """Draw return per episode, of the source by quarters of its tasks; shaded: a window."""
        figure, source = Figure(), self.curves["source"]
        late = source.episode_returns[:, -max(1, source.n_episodes // 3) :].mean(1)
        order = np.argsort(np.bincount(source.task, late) / np.bincount(source.task))
        quarters = enumerate(np.array_split(order, min(4, len(order))), 1)
        parts = {f"source, quarter {i}": source[np.isin(source.task, q)] for i, q in quarters}
        parts |= {name: self.curves[name] for name in self.curves if name != "source"}
        for name, style in styles(parts).items():
            returns = parts[name].episode_returns.mean(0)
            add_curve(figure, name, style, parts[name].episode + 1, returns)
        if self.window:
            last = source.episode[min(self.window, source.n_episodes) - 1] + 1
            figure.add_vrect(x0=1, x1=int(last), line_width=0, fillcolor=GREY, opacity=0.15)
        says = "line: mean, of the source by quarters of tasks; shaded: a window"
        title = ", ".join(self.findings) or "nothing found"
        lay_out(figure, title, "episode", "return per episode", False, says)
        return figure


def diagnose(
    histories: Histories,
    model: CausalTransformer | None = None,
    *,
    window: int | None = None,
    rollouts: Histories | None = None,
    test: Tasks | None = None,
) -> Diagnosis:
    """Look for the usual reasons why a model distilled from `histories` does not learn in context.

    `window` is the episodes that a model will see at once, where there is none yet; `rollouts` are
    what it did, `test` the tasks that it is tested on (by default those of the rollouts).
    """
    window = model.window if model is not None else window
    held_out = test if test is not None else rollouts and rollouts.task_values
    checks = [*_of_source(histories, window), _shift(histories)]
    if held_out is not None:
        asked, _ = Tasks.of(held_out).unique()
        shared = len(histories.task_values.shared(asked))
        seen = f"{shared} of {len(asked)} test tasks have the values of training tasks"
        checks.append(("train and test tasks overlap", shared > 0, seen))
    if rollouts is not None:
        checks.append(_greedy(histories, rollouts))
    if model is not None or rollouts is not None:
        checks.append(_trained(histories, model, rollouts))
    found, healthy = ({n: s for n, bad, s in checks if bad == side} for side in (True, False))
    curves = {"source": histories} | ({"distilled": rollouts} if rollouts is not None else {})
    return Diagnosis(found, healthy, curves, window)


def _rise(returns: np.ndarray, early: slice, late: slice) -> tuple[float, float]:
    """Return how much larger late returns are than early ones, and that in standard errors."""
    rises = returns[:, late].mean(1) - returns[:, early].mean(1)
    return rises.mean(), rises.mean() / (rises.std() / len(rises) ** 0.5 + 1e-9)


def _of_source(histories: Histories, window: int | None) -> Iterator[tuple[str, bool, str]]:
    """Yield each check (name, whether it fails, what was seen) of the source's returns."""
    returns, n = histories.episode_returns.astype(float), histories.n_episodes
    spread = f"returns are {returns.min():.3g} to {returns.max():.3g}"
    yield "rewards are constant", np.ptp(returns) == 0, spread
    tasks = len(histories.task_values.unique()[0])
    yield "too few tasks", tasks < FEW_TASKS, f"{tasks} distinct tasks; {FEW_TASKS} are few"
    rise, errors = _rise(returns, slice(max(1, n // 10)), slice(-max(1, n // 3), None))
    flat = np.ptp(returns) == 0 or errors < SURE
    seen = f"from its first to its last episodes the return rises by {rise:.3g} ({errors:.1f} s.e.)"
    yield "the source does not improve", flat, seen
    if flat or n < 4:
        return
    k = max(1, n // 8)
    last, errors = _rise(returns, slice(-2 * k, -k), slice(-k, None))
    seen = f"{last / rise:.0%} of the rise falls between the last two eighths ({errors:.1f} s.e.)"
    yield "the source is cut off", last > RISING * rise and errors > SURE, seen
    k, sums = min(max(3, n // 10), n // 2), np.cumsum(np.pad(returns.mean(0), (1, 0)))
    smooth = (sums[k:] - sums[:-k]) / k  # smooth[e] is the mean of episodes e to e + k - 1
    done = (smooth - smooth[0]) / (smooth.max() - smooth[0] + 1e-9)  # share of the rise
    falls = done[:-k] - done[k:]
    seen = f"the largest fall, at episode {falls.argmax() + k}, loses {falls.max():.0%} of the rise"
    joined = falls.max() > FALL or (np.diff(histories.episode) <= 0).any()
    yield "lifetimes are joined", joined, seen
    if window and not joined:
        half = max(1, min(window, n) // 2)
        smooth = (sums[half:] - sums[:-half]) / half
        share = (smooth[half:] - smooth[:-half]).max() / rise
        seen = f"within a window of {window} of {n} episodes, {share:.0%} of the rise can be seen"
        yield "the window is too short", share < IN_WINDOW, seen


def _shift(histories: Histories) -> tuple[str, bool, str]:
    """Check which action explains a step best: its own, the one before, or the one after."""
    some = histories[np.linspace(0, len(histories) - 1, min(ROWS, len(histories))).astype(int)]
    some = some.episodes[-20:]
    obs, action = (some.arrays[name] for name in ("obs", "action"))
    inside = np.arange(some.spec.horizon)[1:-1] < some.length[..., None] - 1  # both neighbours real
    obs = obs.reshape(*obs.shape[:3], -1)
    change = (obs[:, :, 2:].astype(float) - obs[:, :, 1:-1])[inside]
    place = _places(some.spec, obs[:, :, 1:-1][inside])
    explained = []
    for shift in (0, 1, 2):
        taken = action[:, :, shift : shift + action.shape[2] - 2][inside]
        group = np.unique(place * 256 + taken, return_inverse=True)[1]
        n = np.maximum(1, np.bincount(group))
        means = np.stack([np.bincount(group, c) / n for c in change.T], 1)
        within = np.square(change - means[group]).sum() / max(1, len(change) - len(n))
        total = np.square(change - change.mean(0)).sum() / max(1, len(change)) if len(change) else 0
        explained.append(1 - within / total if total else 0.0)
    before, own, after = explained
    seen = f"an action explains {own:.0%} of its step's change, the one before {before:.0%}, "
    bad = max(before, after) > own + SHIFTED
    return "actions are shifted", bad, f"{seen}the one after {after:.0%}"


def _greedy(histories: Histories, rollouts: Histories) -> tuple[str, bool, str]:
    """Check how often neighbouring lifetimes with equal pasts act alike."""
    shares = []
    for some in (rollouts[:ROWS], histories[:ROWS]):
        obs, action, reward = (some.arrays[n].reshape(*some.action.shape, -1) for n in PAST)
        seen, acted, paid = ((x[1:] == x[:-1]).all(2) for x in (obs, action, reward))
        before = np.pad(acted & paid, ((0, 0), (1, 0)), constant_values=True)[:, :-1]
        past = np.logical_and.accumulate(before & seen, 1)
        shares.append(acted[past].mean() if past.any() else 0.0)
    share, source = shares
    seen = f"lifetimes with equal pasts act alike {share:.0%} of the time (source {source:.0%})"
    return "decoding is greedy", share > ALIKE and source < 0.9, seen


def _trained(histories: Histories, model, rollouts) -> tuple[str, bool, str]:
    """Compare the model's loss with that of no memory, its return in context with the source's."""
    bad, seen, both = False, [], (histories, rollouts)
    if model is not None:
        loss, without = _losses(histories, model)
        bad = loss > TRAINED * without
        seen.append(f"the loss is {loss:.2f}; from action frequencies by observation {without:.2f}")
    if rollouts is not None:
        late, mine = (h.episode_returns[:, -max(1, h.n_episodes // 3) :].mean() for h in both)
        start = histories.episode_returns[:, : max(1, histories.n_episodes // 10)].mean()
        bad |= mine - start < CAUGHT_UP * (late - start)
        seen.append(f"late returns are {late:.3g} of the source, {mine:.3g} in context")
    return "the model is undertrained", bool(bad), "; ".join(seen)


def _losses(histories: Histories, model) -> tuple[float, float]:
    """Return the loss of a model (nats), and of action frequencies by observation."""
    import torch

    from adkit.models.distill import Loss
    from adkit.models.tokens import episode_lengths, sample_windows
    from adkit.seeds import Rng

    draw = Rng.of(0, "diagnose", np.arange(32))
    window = min(model.window, histories.n_episodes)
    windows = sample_windows(histories, window, len(draw), 0.5, draw)
    with torch.no_grad():
        loss = sum(part.item() for part in Loss().parts(model, windows))
    some = histories[:: max(1, len(histories) // ROWS)].arrays
    for arrays in (some, windows):
        real = np.arange(histories.spec.horizon) < episode_lengths(arrays)[..., None]
        at = _places(histories.spec, arrays["obs"][real]), arrays["action"][real]
        if arrays is some:
            counts = np.ones((PLACES, histories.spec.n_actions), np.float32)
            np.add.at(counts, at, 1)
            chance = counts / counts.sum(1, keepdims=True)
    return loss, float(-np.log(chance[at]).mean())


def _places(spec, obs: np.ndarray) -> np.ndarray:
    """Return the number of each discrete observation; real ones, and too many, share number 0."""
    few = spec.cardinality is not None and spec.n_observations <= PLACES
    return spec.index(obs) if few else np.zeros(len(obs), int)
