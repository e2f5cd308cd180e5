"""Recordings of named activations, each token's computed in the window in which it was acted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from torch import nn

from adkit.histories import Histories
from adkit.models.taps import edit, matching, names, plain
from adkit.models.tokens import Tokens, kept, pack, tokenize, window_starts

Change = Callable[[torch.Tensor, Callable[[np.ndarray], torch.Tensor]], torch.Tensor]
"""A function of an activation (b, S, ...) and `cut`; see `record`."""
Outcome = Callable[[np.ndarray], np.ndarray]
"""What an intervention is judged by: a function from logits (N, E, H + 1, A) to (N,) or (N, k)."""
BATCH = 16  # lifetimes that run at once
STREAM = re.compile(r"embed|blocks\.\d+\.resid")  # taps of the residual stream between blocks


@dataclass(frozen=True, repr=False)
class Recording:
    """Activations of N lifetimes at named taps."""

    values: dict[str, np.ndarray]
    """Per tap (N, E, H + 1, ...), one entry per token, 0 where there is none. Patterns are
    (N, E, H + 1, heads, S) over the S slots of the window."""
    task: np.ndarray
    """(N,) the task of each lifetime."""
    window_start: np.ndarray
    """(E,) the first episode of the window in which each episode was computed."""

    def __repr__(self) -> str:
        n, episodes, tokens, *_ = next(iter(self.values.values())).shape
        taps = ", ".join(f"{tap} {values.shape[3:]}" for tap, values in self.values.items())
        return f"Recording of {n} lifetimes, {episodes} episodes, {tokens} tokens each: {taps}"

    def __getitem__(self, tap: str) -> np.ndarray:
        return self.values[tap]

    def only(self, *taps: str) -> Recording:
        """Return the recording of some of the taps."""
        return replace(self, values={tap: self.values[tap] for tap in taps})

    @property
    def array(self) -> np.ndarray:
        """The values of the only tap that was recorded."""
        if len(self.values) != 1:
            raise ValueError(
                f"`array` needs a recording of one tap, got {', '.join(self.values)}; "
                f"choose one: recording[{next(iter(self.values))!r}]"
            )
        return next(iter(self.values.values()))


@torch.inference_mode()
def record(
    model: nn.Module,
    histories: Histories,
    *taps: str,
    keep: int | None = None,
    batch: int = BATCH,
    changes: Mapping[str, Change] | None = None,
    resume: Recording | None = None,
) -> Recording:
    """Run the model over histories as `InContext` would have, and return the named activations.

    `taps` are names or wildcards, "logits" by default. `keep` is how many episodes survive when the
    window is full, as in `InContext`; `batch` lifetimes run at once.

    `changes` edit as `edit` does, at chosen tokens: a function gets the activation (b, S, ...) and
    `cut`, which takes any array (N, E, H + 1, ...) to the tokens of that activation, as a tensor
    (b, S, ...). See `only_at`.

    `resume` saves time and changes nothing else: a recording of the unchanged model on the same
    histories, from whose last stream before every named and changed tap the model goes on.
    """
    model = plain(model)
    wanted = [name for tap in taps or ("logits",) for name in matching(model, tap)]
    model.check_spec(histories.spec)
    changed = [name for tap in changes or () for name in matching(model, tap)]
    starts = window_starts(histories.n_episodes, model.window, kept(model.window, keep))
    known = _known_stream(model, histories, resume, {*wanted, *changed})
    packed = not any(name.endswith("pattern") for name in (*wanted, *changed))
    here = _Place(histories, model.device)
    edits = {tap: lambda x, f=f: f(x, here.cut) for tap, f in (changes or {}).items()}
    seen: dict[str, torch.Tensor] = {}
    look = {name: lambda x, name=name: seen.update({name: x}) or x for name in wanted}
    values: dict[str, np.ndarray] = {}
    with edit(model, edits), edit(model, look):
        for rows, start in product(batches(len(histories), batch), np.unique(starts)):
            new = np.flatnonzero(starts == start)
            tokens = here.move(rows, start, new[-1] + 1, packed)
            after = {} if known is None else {"after": (known[0], here.cut(known[1]))}
            model(tokens.to(model.device), **after)
            row, column = np.nonzero(here.valid & (here.place >= new[0] * here.per))
            for name in wanted:
                found = _by_token(seen[name], name, model.window * here.per)
                if name not in values:
                    shape = len(histories), histories.n_episodes * here.per, *found.shape[2:]
                    values[name] = np.zeros(shape, found.dtype)
                values[name][rows[row], here.place[row, column]] = found[row, column]
    by_slot = {name: x.reshape(*here.shape, *x.shape[2:]) for name, x in values.items()}
    return Recording(by_slot, histories.task, starts)


def gather(
    model: nn.Module, histories: Histories, at: np.ndarray, *taps: str
) -> dict[str, np.ndarray]:
    """Return per tap the activations (n, D) at chosen tokens, in the order of `np.nonzero(at)`.

    `at` is bool (N, E, H) or (N, E, H + 1). Equal to `record(...)[tap][at]`, but other tokens are
    never kept: 400 lifetimes of 60 days are 200 MB per tap.
    """
    parts = []
    for rows in batches(len(histories), BATCH):
        seen = record(model, histories[rows], *taps).values
        parts.append({tap: pick(values, at[rows]) for tap, values in seen.items()})
    return {tap: np.concatenate([part[tap] for part in parts]) for tap in parts[0]}


def batches(n: int, batch: int) -> list[np.ndarray]:
    """Return the numbers from 0 to n - 1 in parts of at most `batch`."""
    return np.array_split(np.arange(n), -(-n // batch))


def pick(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return (n, ...) of values (N, E, H + 1, ...) at decisions (N, E, H), or at tokens."""
    return values[:, :, : at.shape[2]][at]


def tokens_of(histories: Histories) -> np.ndarray:
    """Return (N, E, H + 1) bool: the episode has a token there."""
    return np.arange(histories.spec.horizon + 1) <= histories.length[..., None]


def only_at(at: np.ndarray, change: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    """Return a change for `record` that applies a function of activations (b, S, D) at some tokens.

    `at` is bool, decisions (N, E, H) or tokens (N, E, H + 1).
    """
    return lambda x, cut: torch.where(cut(at)[..., None], change(x), x)


def action_probability(wanted: np.ndarray, where: np.ndarray) -> Outcome:
    """Return an outcome: the mean probability of `wanted` actions (N, E, H, A) bool.

    `where` (N, E, H) bool chooses decisions; a lifetime without any is NaN.
    """
    lifetime, count = np.nonzero(where)[0], where.sum((1, 2))

    def outcome(logits: np.ndarray) -> np.ndarray:
        p = (np.exp(log_probabilities(logits, where)) * wanted[where]).sum(-1)
        total = np.bincount(lifetime, p, len(where))
        return np.divide(total, count, out=np.full(len(where), np.nan), where=count > 0)

    return outcome


def log_probabilities(logits: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return the log probabilities (n, A), in float64, at chosen decisions or tokens."""
    return torch.as_tensor(pick(logits, where)).double().log_softmax(-1).numpy()


class _Place:
    """Where the tokens that the model runs on now stand in their lifetimes."""

    def __init__(self, histories: Histories, device: torch.device):
        self.histories, self.device, self.per = histories, device, histories.spec.horizon + 1
        self.shape = len(histories), histories.n_episodes, self.per  # (N, E, H + 1)

    def move(self, rows: np.ndarray, start: int, end: int, packed: bool) -> Tokens:
        """Go to the window of lifetimes `rows` (b,) between two episodes; return its tokens."""
        windows = self.histories.windows(rows, np.full(len(rows), start), end - start)
        tokens = tokenize(self.histories.spec, windows)
        tokens = pack(tokens) if packed else tokens
        shape = tokens.previous_action.shape  # (b, S)
        slot = np.arange(shape[1]) if tokens.slot is None else tokens.slot
        self.rows, self.place = rows, np.broadcast_to(start * self.per + slot, shape)
        self.valid = np.ones(shape, bool) if tokens.valid is None else tokens.valid
        return tokens

    def cut(self, values: np.ndarray) -> torch.Tensor:
        """Return the part (b, S, ...) of an array (N, E, H + 1, ...) that stands at the tokens.

        Arrays of decisions (N, E, H, ...) are 0 at the token that closes an episode.
        """
        n, episodes, per = self.shape
        if values.shape[:3] not in (self.shape, (n, episodes, per - 1)):
            raise ValueError(f"`cut` needs an array {self.shape} and more, got {values.shape}")
        found = values[self.rows]
        if values.shape[2] < per:
            found = np.pad(found, [(0, int(axis == 2)) for axis in range(found.ndim)])
        found = found.reshape(len(found), -1, *found.shape[3:])
        found = found[np.arange(len(found))[:, None], self.place]
        return torch.as_tensor(found, device=self.device)


def _known_stream(
    model: nn.Module, histories: Histories, resume: Recording | None, touched: set[str]
) -> tuple[int, np.ndarray] | None:
    """Return how many blocks need not run, and the stream after them; None if all must run."""
    if resume is None or histories.n_episodes > model.window:
        return None
    order = names(model)
    streams = [name for name in order if STREAM.fullmatch(name)]
    before = order[: min(order.index(name) for name in touched) + 1]
    known = [name for name in streams if name in resume.values and name in before]
    return (streams.index(known[-1]), resume[known[-1]]) if known else None


def _by_token(activation: torch.Tensor, tap: str, width: int) -> np.ndarray:
    """Return activations (b, S, heads, ...), heads if any; patterns get `width` columns."""
    activation = activation.float()
    if activation.ndim == 4:
        activation = activation.transpose(1, 2)  # (b, S, heads, ...)
    if tap.endswith("pattern"):  # its last axis is the slots of the window
        activation = nn.functional.pad(activation, (0, width - activation.shape[-1]))
    return activation.cpu().numpy()
