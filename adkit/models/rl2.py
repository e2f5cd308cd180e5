"""RL2 (Duan et al. 2016): a recurrent policy trained by reinforcement across lifetimes, then frozen: a baseline that may practise.

Algorithm Distillation learns from what others did; RL2 acts, in lifetimes of several episodes on tasks drawn anew, and is paid for
its return over all of them, so that exploring early is worth it. Its memory is the recurrent state, kept across episodes.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from tqdm.auto import tqdm

from adkit import weights
from adkit.models.recurrent import RecurrentPolicy, Seen
from adkit.models.training import frame
from adkit.protocols import Env, EnvSpec, Tasks, Transition
from adkit.seeds import Rng

if TYPE_CHECKING:
    import pandas as pd

ROWS = 20  # of the log


# ---- frozen, as an agent ----


@dataclass(frozen=True)
class RL2:
    """Act by a trained recurrent policy, weights frozen; what is learned in a lifetime is in the recurrent state."""

    model: RecurrentPolicy
    memory: Literal["lifetime", "episode"] = "lifetime"
    """"episode" forgets everything at each reset: the amnesiac control."""
    greedy: bool = False
    """Take the likeliest action instead of sampling one."""

    def __post_init__(self):
        if self.memory not in ("lifetime", "episode"):
            raise ValueError(
                f'memory={self.memory!r}; choose "lifetime", or "episode" for the amnesiac control.'
            )

    def start(self, spec: EnvSpec, rng: Rng) -> RL2Learner:
        self.model.check_spec(spec)
        return RL2Learner(self, spec, rng)

    def fingerprint(self) -> str:
        """A hash of the weights: what its description leaves out."""
        return weights.fingerprint(self.model)

    def __repr__(self) -> str:
        return f"RL2({self.model!r}, memory={self.memory!r}, greedy={self.greedy})"


class RL2Learner:
    """N frozen lifetimes: `state` is (N, D). In float64, where a batch's size changes no rounding that could change an action."""

    def __init__(self, config: RL2, spec: EnvSpec, rng: Rng):
        self.config, self.spec, self.rng, self.t = config, spec, rng, 0
        self.model = copy.deepcopy(config.model).double().eval()
        self.state = torch.zeros(len(rng), config.model.config["width"], dtype=torch.float64)
        self.last = np.full(len(rng), spec.n_actions), np.zeros(len(rng), np.float32)

    @torch.inference_mode()
    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        seen = Seen(obs, *self.last, first)
        if self.config.memory == "episode":
            self.state[torch.as_tensor(first)] = 0
            seen = Seen(
                obs,
                np.where(first, self.spec.n_actions, seen.action),
                np.where(first, 0, seen.reward),
                first,
            )
        logits, _, self.state = self.model(*seen.tensors(self.spec, torch.float64), self.state)
        if self.config.greedy:
            return logits.argmax(-1).numpy().astype(np.uint8)
        return sample(logits, self.rng.at(self.t))

    def update(self, transition: Transition) -> None:
        self.last = transition.action, transition.reward
        self.t += 1


def sample(logits: torch.Tensor, rng: Rng) -> np.ndarray:
    """(N,) actions drawn with the probabilities of logits (N, A)."""
    cumulative = logits.detach().double().softmax(-1).cumsum(-1).numpy()
    return (
        (cumulative <= rng.uniform()[:, None])
        .sum(-1)
        .clip(max=logits.shape[1] - 1)
        .astype(np.uint8)
    )


# ---- trained ----


@contextmanager
def _one_thread() -> Iterator[None]:
    """Products this small gain nothing from a second core, and on a busy machine wait ten times as long for it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
def train_rl2(
    model: RecurrentPolicy,
    env: Env,
    tasks: Tasks,
    *,
    steps: int = 16_000_000,
    episodes_per_lifetime: int = 10,
    lifetimes: int = 256,
    unroll: int = 20,
    lr: float = 3e-3,
    gamma: float = 0.98,
    lam: float = 0.8,
    entropy: float = 0.05,
    value_weight: float = 0.5,
    reward_scale: float = 0.1,
    seed: int = 0,
) -> pd.DataFrame:
    """Train `model` in place, by synchronous advantage actor-critic across whole lifetimes, and return the log.

    `lifetimes` of `episodes_per_lifetime` episodes go on at once, each on a task drawn from `tasks` and at different points
    of their lives; every `unroll` steps there is one update of Adam. Returns are not cut at an episode's end, only at a lifetime's.
    `steps` counts those of all lifetimes together. Over training `lr` falls to 30% and `entropy` to 10%: with less of it at
    first the policy often freezes before it finds a reward. Advantages are scaled to unit variance, rewards by `reward_scale`.

    The log has, per row, the mean return of the first and of the last episodes of lifetimes. The defaults are for the Dark Room:
    two minutes on one core, and a lifetime's tenth episode pays 13.4 of 16.5 on goals trained on and 5 to 7 on goals never seen,
    which no reward ever taught it to visit. The paper's RL2 is an LSTM of 2 x 256 and 1e9 steps (Laskin et al. 2022, Table 6).
    """
    tasks = Tasks.of(tasks)
    model.check_spec(env.spec)
    counts = {
        "steps": steps,
        "episodes_per_lifetime": episodes_per_lifetime,
        "lifetimes": lifetimes,
        "unroll": unroll,
    }
    for name, value in (counts | {"tasks": len(tasks)}).items():
        if value < 1:
            raise ValueError(f"{name}: {value} given; training needs at least 1.")
    if not lr >= 0:
        raise ValueError(f"lr={lr}; a step size is at least 0. Try lr=3e-3.")
    if not (0 <= gamma < 1 and 0 <= lam <= 1):
        raise ValueError(
            f"gamma={gamma}, lam={lam}; the discount lies in [0, 1) and lambda in [0, 1]. Try 0.98 and 0.8."
        )
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, betas=(0.9, 0.999), eps=1e-6)
    lives = _Lives(env, tasks, model.config["width"], episodes_per_lifetime, lifetimes, seed)
    updates = max(1, steps // (lifetimes * unroll))
    log, began = [], time.perf_counter()
    model.train()
    for update in tqdm(range(updates), desc="rl2", disable=None, delay=2, mininterval=0.5):
        done = update / updates
        optimizer.param_groups[0]["lr"] = lr * (1 - 0.7 * done)
        lives.state = lives.state.detach()
        logits, value, action, reward, over = map(
            torch.stack, zip(*(lives.step(model) for _ in range(unroll)), strict=True)
        )
        with torch.no_grad():
            _, after, _ = model(*lives.seen.tensors(env.spec), lives.state)
            advantage = advantages(reward * reward_scale, over, value, after, gamma, lam)
        log_p = logits.log_softmax(-1)  # (T, N, A)
        scaled = (advantage - advantage.mean()) / (advantage.std() + 1e-6)
        policy_loss = -(scaled * log_p.gather(-1, action[..., None])[..., 0]).mean()
        spread = -(log_p.exp() * log_p).sum(-1).mean()
        value_loss = (advantage + value.detach() - value).square().mean()
        loss = policy_loss - entropy * (1 - 0.9 * done) * spread + value_weight * value_loss
        if not torch.isfinite(loss):
            raise ValueError(f"the loss became {loss.item()} in update {update}; lower lr={lr}.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (update + 1) % max(1, updates // ROWS) == 0 or update + 1 == updates:
            row = {"step": (update + 1) * lifetimes * unroll, **lives.returns()}
            log.append(
                row
                | {
                    "entropy": spread.item(),
                    "value_loss": value_loss.item(),
                    "seconds": time.perf_counter() - began,
                }
            )
    model.eval()
    return frame(log)


def advantages(
    reward: torch.Tensor,
    over: torch.Tensor,
    value: torch.Tensor,
    after: torch.Tensor,
    gamma: float,
    lam: float,
) -> torch.Tensor:
    """GAE (T, N) of an unroll: delta_t = r_t + gamma V_{t+1} - V_t, summed by gamma lambda; nothing follows a lifetime."""
    result, following, later = torch.empty_like(reward), after, torch.zeros_like(after)
    for t in range(len(reward) - 1, -1, -1):
        go_on = gamma * ~over[t]
        later = reward[t] + go_on * following - value[t] + lam * go_on * later
        result[t], following = later, value[t]
    return result


class _Lives:
    """N lifetimes that are lived and, when one is over, replaced by another on a task drawn anew."""

    def __init__(self, env: Env, tasks: Tasks, width: int, episodes: int, n: int, seed: int):
        self.env, self.family, self.episodes, self.t = env, tasks, episodes, 0
        self.rng, self.env_rng, self.task_rng = (
            Rng.of(seed, f"rl2 {what}", np.arange(n)) for what in ("act", "env", "task")
        )
        self.row = self.task_rng.integers(len(tasks))
        self.tasks = tasks[self.row]
        self.world, obs = env.reset(self.tasks, self.env_rng)
        self.seen, self.state = Seen.nothing(env.spec, obs), torch.zeros(n, width)
        self.episode = (
            np.arange(n) % episodes
        )  # so that no two neighbours are at the same point of their lives
        self.paid, self.finished = np.zeros(n), ([], [])

    def step(self, model: RecurrentPolicy) -> tuple[torch.Tensor, ...]:
        """One step of all: logits, value, action, reward, and whether a lifetime is over."""
        spec = self.env.spec
        logits, value, state = model(*self.seen.tensors(spec), self.state)
        action = sample(logits, self.rng.at(self.t))
        self.world, step = self.env.step(self.world, self.tasks, action, self.env_rng.at(self.t))
        done = step.terminated | step.truncated
        over = done & (self.episode == self.episodes - 1)
        self.t += 1
        self.paid += step.reward
        self.finished[0].extend(self.paid[done & (self.episode == 0)])
        self.finished[1].extend(self.paid[over])
        self.paid[done] = 0
        self.episode = np.where(over, 0, self.episode + done)
        obs, last = step.obs, (action, step.reward)
        if over.any():
            self.row = np.where(over, self.task_rng.at(self.t).integers(len(self.family)), self.row)
            self.tasks = self.family[self.row]
            last = (
                np.where(over, spec.n_actions, action),
                np.where(over, np.float32(0), step.reward),
            )
            state = state * torch.as_tensor(~over)[:, None]
        for opens, (world, fresh) in self._opened(done, over):
            self.world = type(world)(
                *(_choose(opens, new, old) for new, old in zip(world, self.world, strict=True))
            )
            obs = _choose(opens, fresh, obs)
        self.seen, self.state = Seen(obs, *last, done), state
        return (
            logits,
            value,
            torch.as_tensor(action.astype(np.int64)),
            torch.as_tensor(step.reward),
            torch.as_tensor(over),
        )

    def _opened(self, done: np.ndarray, over: np.ndarray) -> list[tuple[np.ndarray, tuple]]:
        """Rows in which an episode opens, with the world's answer: its first of a lifetime, or, where that goes on, its next."""
        draws, goes_on = self.env_rng.at(self.t), hasattr(self.env, "next_episode")
        anew = over if goes_on else done
        opened = [(anew, self.env.reset(self.tasks, draws))] if anew.any() else []
        if goes_on and (done & ~over).any():
            opened.append((done & ~over, self.env.next_episode(self.world, self.tasks, draws)))
        return opened

    def returns(self) -> dict[str, float]:
        """Mean return of the first and of the last episodes that ended since this was asked."""
        means = {
            name: float(np.mean(r)) if r else np.nan
            for name, r in zip(("first", "last"), self.finished, strict=True)
        }
        self.finished = [], []
        return means


def _choose(rows: np.ndarray, new: np.ndarray, old: np.ndarray) -> np.ndarray:
    return np.where(rows.reshape(-1, *[1] * (np.ndim(old) - 1)), new, old)
