"""Three forms that behaviour of creatures may have: shards, one utility, a table of contexts and actions; fitted to decisions.

All are told the same: the layout, what is left in the jar, the step of the day, and what Q-learning makes of the life so far;
none is told hunger, type, or how often cookies were eaten. So they differ in form alone. None plans to hide: H4 asks that.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numba import njit
from torch.nn import functional as F

from adkit import checks
from adkit.cookieworld import shard
from adkit.cookieworld.shard import COOKIE, FLOOR, FOOD, GAMMA
from adkit.cookieworld.world import (
    CLOSED,
    COOKIES,
    EAT,
    GARDEN,
    HIDE,
    JAR,
    MEAL,
    POSITION,
    STAY,
    STOCKED,
    VISIBLE,
    led,
)
from adkit.envs import rooms
from adkit.histories import Histories
from study.corpora import sites

BASE = 7  # parameters that all three have: a logit for each action, STAY being 0
LR = 0.2  # with which creatures learn
RIDGE = 0.01  # nats per squared parameter, so that gates that saturate stop somewhere
LAPLACE = 1.0  # as if each class of actions that a context offers had been chosen so often before
CONTEXTS, CLASSES, EATS, GOOD = 36, 10, 9, 0.2  # of the table; a head of at least that is good


# ---- what is decided ----


@dataclass(frozen=True, eq=False)
class Decisions:
    """n decisions in some lives, and what predictors are told of them: (n, ...) but for the last four."""

    action: np.ndarray
    life: np.ndarray
    step: np.ndarray
    """Of the day."""
    cell: np.ndarray
    left: np.ndarray
    """Cookies to be had: the morning tells the stock, later one knows what one ate and hid."""
    visible: np.ndarray
    """A cookie is in sight."""
    values: np.ndarray
    """(n, 2, 8) what Q-learning expects of each action in this life: of cookies, of the meal."""
    unseen: np.ndarray
    """(n, 8) actions that lead to a cell where it never was."""
    layout: np.ndarray
    """(lives, 3) cells of home, jar and garden."""
    orbit: np.ndarray
    """(lives,)"""
    size: int
    horizon: int

    def __len__(self) -> int:
        return len(self.action)

    def __getitem__(self, rows: np.ndarray) -> Decisions:
        """Some of them; lives keep their numbers."""
        return replace(
            self, **{field.name: getattr(self, field.name)[rows] for field in fields(self)[:8]}
        )

    @property
    def far(self) -> np.ndarray:
        """(n, 2) steps to the jar and to the garden."""
        return np.abs(
            rooms.cells(self.size)[self.cell, None]
            - rooms.cells(self.size)[self.layout[self.life, 1:]]
        ).sum(-1)


def decisions(histories: Histories, site: str = "decision") -> Decisions:
    """Those at one of `cookies.sites`, on late days whose map is known; less mornings on which HIDE was chosen.

    By default in the morning and in sight of a cookie, where goals compete. "all" adds walking, four decisions of five.
    """
    checks.creatures(histories)
    arrays, found = histories.arrays, sites(histories)
    where = found[site] & found["home late"][:, :, :1]
    where[:, :, 0] &= arrays["action"][:, :, 0] != HIDE
    size, tasks = (
        round(histories.spec.cardinality[POSITION] ** 0.5),
        histories.task_values[histories.task],
    )
    layout = np.stack(
        [rooms.number(tasks[name], size) for name in ("home", "jar", "garden")], axis=1
    )
    values, unseen = np.zeros((*where.shape, 2, 8), np.float32), np.zeros((*where.shape, 8), bool)
    lived = tuple(arrays[name] for name in ("obs", "final_obs", "action", "reward"))
    _learn_all(*lived, histories.length, layout, size, values, unseen)
    (life, _, step), now = np.nonzero(where), arrays["obs"][where].astype(int)
    told = (
        now[:, POSITION],
        now[:, COOKIES] * (now[:, CLOSED] == 0),
        now[:, VISIBLE] > 0,
        values[where],
        unseen[where],
    )
    action = arrays["action"][where].astype(int)
    return Decisions(
        action, life, step, *told, layout, tasks["orbit"], size, histories.spec.horizon
    )


@njit(cache=True)
def _learn_all(all_obs, final_obs, action, reward, length, layout, size, values, unseen):
    """Fill values (N, E, H, 2, 8) with what a creature of shards would have learned by then, had it lived these lives."""
    q, visited = np.empty((2, size * size, 8), np.float32), np.empty(size * size, np.bool_)
    for n in range(len(all_obs)):
        q[:], visited[:], jar_known, garden_known = 0, False, False, False
        for day in range(all_obs.shape[1]):
            for i in range(length[n, day]):
                obs, a, got = all_obs[n, day, i], int(action[n, day, i]), reward[n, day, i]
                after = all_obs[n, day, i + 1] if i + 1 < length[n, day] else final_obs[n, day]
                if obs[JAR] and not jar_known:
                    jar_known = shard.notice(q[COOKIE], layout[n, 1], size)
                if obs[GARDEN] and not garden_known:
                    garden_known = shard.notice(q[FOOD], layout[n, 2], size)
                at, to = int(obs[POSITION]), int(after[POSITION])
                visited[at] = True
                for b in range(8):
                    values[n, day, i, :, b], unseen[n, day, i, b] = (
                        q[:, at, b],
                        not visited[led(at, b, size)],
                    )
                if obs[COOKIES] > 0 and not obs[CLOSED]:
                    shard.learn(q[COOKIE], at, a, 0 < got < MEAL, to, LR, 0.0)
                shard.learn(q[FOOD], at, a, got == MEAL, to, LR, 0.0)


def advantage(values: torch.Tensor) -> torch.Tensor:
    """Heads in [-1, 1] of values (..., 8), as `shard.head`: learned through, the sign of the change in distance."""
    best = values.amax(-1, keepdim=True)
    return torch.where(
        best > 0,
        ((values - GAMMA * best) / ((1 - GAMMA) * best.clamp(min=FLOOR))).clamp(-1, 1),
        0.0,
    )


# ---- three predictors ----


class Predictor:
    """Logits of n decisions as a function of parameters, the first of which are a base of each action."""

    starts: tuple[tuple[float, ...], ...]
    """Of its own parameters: as many as it took to find the best that random starts found."""

    def __init__(self, made: Decisions):
        self.action, self.parameters = torch.as_tensor(made.action), BASE + len(self.starts[0])
        self.values, self.unseen = (
            torch.as_tensor(made.values).double(),
            torch.as_tensor(made.unseen).double(),
        )
        self.closed = torch.zeros(len(made), 8, dtype=torch.double)
        self.closed[torch.as_tensor(made.step == 0), HIDE] = -torch.inf

    def logits(self, theta: torch.Tensor) -> torch.Tensor:
        base = torch.cat([theta[:STAY], theta.new_zeros(1), theta[STAY:BASE]])
        return base + self.pull(theta[BASE:]) + self.closed

    def nats(self, theta: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self.logits(theta), self.action, reduction="none")

    def prior(self, theta: torch.Tensor) -> torch.Tensor:
        return RIDGE * theta.square().sum()

    def fit(self) -> torch.Tensor:
        """The likeliest parameters, by L-BFGS from each start."""
        return min(
            (self._descend([0.0] * BASE + list(start)) for start in self.starts),
            key=lambda found: found[0],
        )[1]

    def _descend(self, start: list[float]) -> tuple[float, torch.Tensor]:
        theta = torch.tensor(start, dtype=torch.double, requires_grad=True)
        search = torch.optim.LBFGS(
            [theta],
            max_iter=300,
            history_size=20,
            line_search_fn="strong_wolfe",
            tolerance_change=1e-8,
        )

        def loss() -> torch.Tensor:
            search.zero_grad()
            loss = (self.nats(theta).sum() + self.prior(theta)) / len(self.action)
            loss.backward()
            return loss

        search.step(loss)
        return float(loss().detach()), theta.detach()

    @torch.no_grad()
    def drawn(self, theta: torch.Tensor, seed: int) -> np.ndarray:
        """(n,) actions as it predicts them."""
        p = torch.softmax(self.logits(theta), 1).cumsum(1).numpy()
        return (p[:, :-1] <= np.random.default_rng(seed).random((len(p), 1))).sum(1)


class Shards(Predictor):
    """Three shards: the sum of strength * gate * head, a gate being a sigmoid of what is seen, a head what was learned.

    The cookie's gate sees whether a cookie is in sight, the step of the day (hunger grows), whether there are cookies to be had
    and how far they are; the food's the step and how far the garden is; the explorer's, whose head is a cell never seen, the step.
    """

    starts = ((1.0, 1.0, 1.0) + (0.0,) * 10,)

    def __init__(self, made: Decisions):
        super().__init__(made)
        one, step, far = np.ones(len(made)), made.step / made.horizon, made.far / made.size
        seen = [
            [one, made.visible, step, made.left > 0, far[:, 0]],
            [one, step, far[:, 1]],
            [one, step],
        ]
        self.seen = [torch.as_tensor(np.stack(of, 1)) for of in seen]
        self.heads = torch.cat([advantage(self.values), self.unseen[:, None]], 1)

    def pull(self, theta):
        strengths, *weights = theta.split([3, *(seen.shape[1] for seen in self.seen)])
        gates = torch.stack(
            [torch.sigmoid(seen @ weight) for seen, weight in zip(self.seen, weights, strict=True)],
            1,
        )
        return torch.einsum("ni,nia->na", F.softplus(strengths) * gates, self.heads)


class Utility(Predictor):
    """One stationary utility, pursued by plan and by habit, with some noise and no gate.

    The plan is Q of the known layout, by value iteration over cell, cookies left and time left: utility of the first, second and
    third cookie and of the meal, both changing with the step of the day as hunger does, a cost of each step, a discount, and the
    temperature at which the plan expects itself to act. The habit is what was learned of cookies and of the meal, weighed by what
    they are worth. A parameter more than three shards have.
    """

    starts = tuple(
        (3.0, 3.0, 3.0, 4.0, 0.0, 0.0, 0.0, *plan, 0.0, -1.0, 0.0, 1.0, 1.0)
        for plan in ((4.0, -1.0), (-0.5, 0.0))
    )

    def __init__(self, made: Decisions):
        super().__init__(made)
        lives, row = np.unique(made.life, return_inverse=True)
        home, jar, garden = made.layout[lives].T[:, :, None, None, None]
        cell, left, action = np.ogrid[
            : made.size**2, : STOCKED + 1, :8
        ]  # a state is a cell and what is left
        eats, meal = (
            (action == EAT) & (cell == jar) & (left > 0),
            (action == EAT) & (cell == garden),
        )
        hides = (action == HIDE) & (cell == home)
        to = np.array([[[led(at, a, made.size) for a in range(8)]] for at in range(made.size**2)])
        then = to * (STOCKED + 1) + np.where(eats, left - 1, np.where(hides, 0, left))
        flat = lambda x: torch.as_tensor(np.broadcast_to(x, then.shape).copy()).flatten(
            1, 2
        )  # (lives, states, 8)
        self.then, self.goes_on = flat(then).flatten(1), flat(~meal).double()
        self.pays = flat(np.where(eats, STOCKED - left, np.where(meal, STOCKED, STOCKED + 1)))
        self.at = torch.as_tensor(
            ((made.step * len(lives) + row) * made.size**2 + made.cell) * (STOCKED + 1) + made.left
        )
        self.late, self.left, self.horizon = made.step / made.horizon, made.left > 0, made.horizon
        self.late, self.left = (torch.as_tensor(x)[:, None] for x in (self.late, self.left))

    def pull(self, theta):
        worth = torch.sigmoid(
            theta[10] + theta[11] * self.late
        )  # of a cookie; the meal has the rest
        habit = worth * self.left * self.values[:, COOKIE] + (1 - worth) * self.values[:, FOOD]
        plan = self.plan(theta).flatten(0, 2)[self.at]
        return plan + theta[9] * self.unseen + theta[12] * advantage(habit) + theta[13] * habit

    def plan(self, theta: torch.Tensor) -> torch.Tensor:
        """(horizon, lives, states, 8) Q, backwards from the last step of the day."""
        cookies, meal, (sweeter, hungrier, cost), gamma, noise = (
            *theta[:9].split([3, 1, 3, 1, 1]),
        )
        gamma, noise = torch.sigmoid(gamma), torch.exp(noise)
        value, q = theta.new_zeros(self.pays.shape[:2]), []
        for t in range(self.horizon - 1, -1, -1):
            late = t / self.horizon
            paid = (
                torch.cat([cookies + sweeter * late, meal + hungrier * late, theta.new_zeros(1)])
                - cost
            )
            q.append(
                paid[self.pays]
                + gamma * self.goes_on * value.gather(1, self.then).view(self.pays.shape)
            )
            value = noise * torch.logsumexp(q[-1] / noise, -1)
        return torch.stack(q[::-1])


class Table(Predictor):
    """A weight for each context and class of actions, with Laplace smoothing; what is good for nothing weighs nothing.

    Contexts are no cookies to be had, some, one in sight x third of the day x at the jar, at the garden, where one action serves
    both, elsewhere. Classes, which hold in every layout, are whether an action is good for cookies (yes, no, neither: the sign of
    the head) x for the meal, and eating where one can.
    """

    starts = ((0.0,) * CONTEXTS * CLASSES,)

    def __init__(self, made: Decisions):
        super().__init__(made)
        head, there = advantage(self.values).numpy(), made.far == 0
        good, bad = head > GOOD, head < -GOOD
        placed = np.select([*there.T, good.all(1).any(1)], [0, 1, 2], 3)
        context = (
            np.where(made.visible, 2, made.left > 0) * 3 + made.step * 3 // made.horizon
        ) * 4 + placed
        kind = np.where(
            (np.arange(8) == EAT) & there.any(1, keepdims=True),
            EATS,
            (good + 2 * bad).swapaxes(1, 2) @ (3, 1),
        )
        self.index, self.offered = (
            torch.as_tensor(context[:, None] * CLASSES + kind),
            torch.zeros(CONTEXTS, CLASSES) > 0,
        )
        self.offered.view(-1)[self.index.flatten()] = True
        self.parameters = BASE + int(self.offered[:, 1:].sum())  # what is never met costs nothing

    def weights(self, theta: torch.Tensor) -> torch.Tensor:
        return F.pad(theta.view(CONTEXTS, CLASSES)[:, 1:], (1, 0))

    def pull(self, theta):
        return self.weights(theta).flatten()[self.index]

    def prior(self, theta):
        weights = self.weights(theta[BASE:]).masked_fill(~self.offered, -torch.inf)
        return (
            super().prior(theta[:BASE])
            - LAPLACE * torch.log_softmax(weights, 1)[self.offered].sum()
        )


PREDICTORS = {"shards": Shards, "utility": Utility, "table": Table}
