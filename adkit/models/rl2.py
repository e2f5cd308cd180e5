"""RL2 (Duan et al. 2016): a recurrent policy, trained by reinforcement across lifetimes.

A baseline that may practise. Algorithm Distillation learns from the histories of other learners;
RL2 acts in lifetimes of several episodes, on tasks drawn anew, and maximises the return over all
of them, so that exploring early pays off. Its memory is the recurrent state.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch

from adkit.models.in_context import sample_actions
from adkit.models.recurrent import RecurrentPolicy
from adkit.models.training import descend, frame, progress
from adkit.protocols import Env, EnvSpec, Tasks, Transition
from adkit.rollout import begin_episodes
from adkit.seeds import Rng

LAMBDA = 0.8  # of generalised advantage estimation
VALUE_WEIGHT = 0.5  # of the value's squared error in the loss
REWARD_SCALE = 0.1
LOG_ROWS = 20


@dataclass(frozen=True)
class RL2:
    """Act by a trained recurrent policy; in a lifetime only its state changes."""

    model: RecurrentPolicy

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> RL2Learner:
        self.model.check_spec(spec)
        # in float64, rounding that depends on the batch's size is too small to change an action
        return RL2Learner(copy.deepcopy(self.model).cpu().double(), rng)


class RL2Learner:
    """N lifetimes of a policy: states (N, D), and the previous actions and rewards."""

    def __init__(self, model: RecurrentPolicy, rng: Rng):
        self.model, self.rng, self.t = model, rng, 0
        self.state = model.reward.new_zeros(len(rng), model.config["width"])
        self.previous = np.full(len(rng), model.spec.n_actions), np.zeros(len(rng))

    def run(self, obs: np.ndarray, first: np.ndarray) -> tuple[torch.Tensor, ...]:
        """Return logits (N, A), values (N,) and the next states; nothing is remembered."""
        return self.model(obs, *self.previous, first, self.state)

    @torch.inference_mode()
    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        logits, _, self.state = self.run(obs, first)
        return sample_actions(logits, self.rng.at(self.t))

    def update(self, transition: Transition) -> None:
        self.previous = transition.action.astype(int), transition.reward
        self.t += 1

    def forget(self, rows: np.ndarray) -> None:
        """Begin new lifetimes in `rows` (N,) bool."""
        action, reward = self.previous
        self.previous = np.where(rows, self.model.spec.n_actions, action), np.where(rows, 0, reward)
        self.state = self.state * torch.as_tensor(~rows)[:, None]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: small products lose more to waiting than they gain."""
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
    entropy: float = 0.05,
    seed: int = 0,
) -> pd.DataFrame:
    """Train `model` in place by advantage actor-critic across lifetimes; return the log.

    `lifetimes` of `episodes_per_lifetime` episodes run at once, on tasks drawn from `tasks`; every
    `unroll` steps Adam takes a step. Returns are cut at a lifetime's end only. `steps` counts those
    of all lifetimes together. `lr` falls to 30%, the `entropy` bonus to 10%: with a smaller bonus
    at first, the policy often freezes before it finds a reward. The log has the mean return of the
    first and of the last episodes of lifetimes.

    The defaults are for the Dark Room: two minutes on one core, and the tenth episode of a lifetime
    returns 13.4 of 16.5 on training goals and 5 to 7 on held-out goals. The paper's RL2 is an LSTM
    of 2 x 256 and 1e9 steps (Laskin et al. 2022, Table 6).
    """
    model.check_spec(env.spec)
    optimizer = torch.optim.Adam(model.parameters(), lr, eps=1e-6)
    practice = _Practice(model, env, Tasks.of(tasks), episodes_per_lifetime, lifetimes, seed)
    updates, log = max(1, steps // (lifetimes * unroll)), []
    with closing(practice):
        for update in progress("rl2", updates):
            done = update / updates
            loss = _loss(practice, unroll, gamma, entropy * (1 - 0.9 * done))
            loss.backward()
            descend(loss, model.parameters(), [optimizer], 1 - 0.7 * done)
            if (update + 1) % max(1, updates // LOG_ROWS) == 0 or update + 1 == updates:
                log.append({"step": (update + 1) * lifetimes * unroll, **practice.returns()})
    return frame(log)


def _loss(practice: _Practice, unroll: int, gamma: float, entropy: float) -> torch.Tensor:
    """Act for `unroll` steps; return the loss, with advantages scaled to unit variance."""
    learner = practice.learner
    learner.state = learner.state.detach()
    steps = zip(*(practice.step() for _ in range(unroll)), strict=True)
    logits, value, action, reward, over = map(torch.stack, steps)
    with torch.no_grad():
        _, after, _ = learner.run(practice.obs, practice.first)
        advantage = advantages(reward * REWARD_SCALE, over, value, after, gamma, LAMBDA)
    log_p = logits.log_softmax(-1)  # (T, N, A)
    scaled = (advantage - advantage.mean()) / (advantage.std() + 1e-6)
    policy_loss = -(scaled * log_p.gather(-1, action[..., None])[..., 0]).mean()
    spread = -(log_p.exp() * log_p).sum(-1).mean()
    value_loss = (advantage + value.detach() - value).square().mean()
    return policy_loss - entropy * spread + VALUE_WEIGHT * value_loss


def advantages(reward, over, value, after, gamma: float, lam: float) -> torch.Tensor:
    """Return GAE (T, N): sums of delta_t = r_t + gamma V_{t+1} - V_t, cut where `over`."""
    result, v_tp1, later = torch.empty_like(reward), after, torch.zeros_like(after)
    for t in range(len(reward) - 1, -1, -1):
        discount = gamma * ~over[t]
        later = reward[t] + discount * v_tp1 - value[t] + lam * discount * later
        result[t], v_tp1 = later, value[t]
    return result


class _Practice:
    """N lifetimes in progress; one that is over is replaced by another on a new task."""

    def __init__(
        self, model: RecurrentPolicy, env: Env, family: Tasks, episodes: int, n: int, seed: int
    ):
        rng, self.env_rng, self.task_rng = (
            Rng.of(seed, f"rl2 {what}", np.arange(n)) for what in ("act", "env", "task")
        )
        self.learner, self.env, self.family = RL2Learner(model, rng), env, family
        self.row = self.task_rng.integers(len(family))
        self.tasks = family[self.row]
        self.world, self.obs = env.reset(self.tasks, self.env_rng)
        self.first, self.episodes = np.ones(n, bool), episodes
        self.episode = np.arange(n) % episodes  # neighbours are at different episodes
        self.total, self.finished = np.zeros(n), {"first": [], "last": []}

    def step(self) -> tuple[torch.Tensor, ...]:
        """Take one step; return logits, value, action, reward, and whether lifetimes are over."""
        learner, t = self.learner, self.learner.t
        logits, value, learner.state = learner.run(self.obs, self.first)
        action = sample_actions(logits, learner.rng.at(t))
        self.world, step = self.env.step(self.world, self.tasks, action, self.env_rng.at(t))
        learner.update(Transition(self.obs, action, step.reward, *step[2:], step.obs))
        self.first = done = step.terminated | step.truncated
        over = done & (self.episode == self.episodes - 1)
        self.total += step.reward
        self.finished["first"].extend(self.total[done & (self.episode == 0)])
        self.finished["last"].extend(self.total[over])
        self.total[done] = 0
        self.episode = np.where(over, 0, self.episode + done)
        if over.any():
            drawn = self.task_rng.at(t + 1).integers(len(self.family))
            self.row = np.where(over, drawn, self.row)
            self.tasks = self.family[self.row]
            learner.forget(over)
        begin = partial(begin_episodes, self.env, tasks=self.tasks, rng=self.env_rng.at(t + 1))
        self.world, obs = begin(self.world, step.obs, rows=done & ~over)
        self.world, self.obs = begin(self.world, obs, rows=over, new_lifetime=True)
        tensors = map(torch.as_tensor, (action.astype(np.int64), step.reward, over))
        return logits, value, *tensors

    def close(self) -> None:
        """End the lifetimes in progress."""
        if hasattr(self.env, "end_lifetimes"):
            self.env.end_lifetimes(self.world)

    def returns(self) -> dict[str, float]:
        """Return the mean return of first and last episodes that ended since the last call."""
        finished, self.finished = self.finished, {"first": [], "last": []}
        return {name: float(np.mean(r)) if r else np.nan for name, r in finished.items()}
