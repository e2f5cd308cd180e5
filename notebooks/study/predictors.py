"""Fit three rival models of an agent's decisions: three shards, one stationary utility, and a
context-action table.

All three are given the same: the layout, what is left in the jar, the step of the day, and what
Q-learning has made of the lifetime so far. None is given hunger, type, or how many cookies were
eaten. So they differ in form alone. None plans to hide cookies; that is H4's question.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numba import njit
from torch.nn import functional as F

import adkit as ad
from adkit.cookieworld import shard, world
from adkit.cookieworld.shard import COOKIE, FLOOR, FOOD, GAMMA
from adkit.cookieworld.world import EAT, HIDE, STAY, STOCKED, led
from study.corpora import DISTANCE, LED, SIZE, sites

HORIZON = 16  # of the study's world
BASE = 7  # parameters that all three have: a logit for each action; STAY's is 0
LR = 0.2  # the agents' learning rate
RIDGE = 0.01  # nats per squared parameter, so that saturated gates stop somewhere
LAPLACE = 1.0  # count added to each class of actions that a context offers
CONTEXTS, CLASSES, EATS = 36, 10, 9  # of the table; class 9 is EAT at the jar or the garden
GOOD = 0.2  # an action whose head is at least this is good for the shard


# ---- decisions ----


@dataclass(frozen=True, eq=False)
class Decisions:
    """n decisions and what the predictors are given of them."""

    action: np.ndarray  # (n,)
    lifetime: np.ndarray  # (n,)
    step: np.ndarray  # (n,) of the day
    cell: np.ndarray  # (n,)
    left: np.ndarray
    """(n,) cookies to be had: the morning tells the stock, later steps what was eaten or hidden."""
    visible: np.ndarray  # (n,) bool: a cookie is in sight
    values: np.ndarray  # (n, 2, 8) action values learned in this lifetime: of cookies, of the meal
    unseen: np.ndarray  # (n, 8) bool: the action leads to a cell never visited
    layout: np.ndarray  # (n, 3) cells of home, jar and garden
    orbit: np.ndarray  # (n,)

    def __len__(self) -> int:
        return len(self.action)

    def __getitem__(self, rows: np.ndarray):
        """Return some of the decisions; lifetimes keep their numbers."""
        return replace(self, **{of.name: getattr(self, of.name)[rows] for of in fields(self)})

    @property
    def distance(self) -> np.ndarray:
        """Steps (n, 2) to the jar and to the garden."""
        return DISTANCE[self.cell[:, None], self.layout[:, 1:]]


def decisions(histories: ad.Histories) -> Decisions:
    """Return the decisions at which goals compete, on late days whose map is known.

    Mornings on which HIDE was chosen are left out.
    """
    arrays, found = histories.arrays, sites(histories)
    where = found["decision"] & found["home late"][:, :, :1]
    where[:, :, 0] &= arrays["action"][:, :, 0] != HIDE
    tasks = histories.task_values[histories.task]
    layout = ad.envs.CookieWorld().places(tasks)
    values = np.zeros((*where.shape, 2, 8), np.float32)
    unseen = np.zeros((*where.shape, 8), bool)
    record = tuple(arrays[name] for name in ("obs", "final_obs", "action", "reward"))
    _learn_all(*record, histories.length, layout, values, unseen)
    lifetime, _, step = np.nonzero(where)
    obs = arrays["obs"][where].astype(int)
    return Decisions(
        action=arrays["action"][where].astype(int),
        lifetime=lifetime,
        step=step,
        cell=obs[:, world.POSITION],
        left=obs[:, world.COOKIES] * (obs[:, world.CLOSED] == 0),
        visible=obs[:, world.VISIBLE] > 0,
        values=values[where],
        unseen=unseen[where],
        layout=layout[lifetime],
        orbit=tasks["orbit"][lifetime],
    )


@njit(cache=True)
def _learn_all(all_obs, final_obs, action, reward, length, layout, values, unseen):
    """Fill values (N, E, H, 2, 8) with what a shard agent would have learned by each step."""
    q, visited = np.empty((2, SIZE * SIZE, 8), np.float32), np.empty(SIZE * SIZE, np.bool_)
    for n in range(len(all_obs)):
        q[:], visited[:], seen = 0, False, np.zeros(2, np.bool_)
        for day in range(all_obs.shape[1]):
            for i in range(length[n, day]):
                obs, a, r = all_obs[n, day, i], int(action[n, day, i]), reward[n, day, i]
                after = all_obs[n, day, i + 1] if i + 1 < length[n, day] else final_obs[n, day]
                for which, in_view in ((COOKIE, obs[world.JAR]), (FOOD, obs[world.GARDEN])):
                    if in_view and not seen[which]:
                        shard.notice(q[which], layout[n, 1 + which], SIZE)
                        seen[which] = True
                at, to = int(obs[world.POSITION]), int(after[world.POSITION])
                visited[at] = True
                for b in range(8):
                    values[n, day, i, :, b] = q[:, at, b]
                    unseen[n, day, i, b] = not visited[led(at, b, SIZE)]
                if obs[world.COOKIES] > 0 and not obs[world.CLOSED]:
                    shard.learn(q[COOKIE], at, a, 0 < r < world.MEAL, to, LR, 0.0)
                shard.learn(q[FOOD], at, a, r == world.MEAL, to, LR, 0.0)


def advantage(values: torch.Tensor) -> torch.Tensor:
    """Return heads in [-1, 1] of action values (..., 8), as `shard.head` has them.

    Once learned, a head is the sign of the change in distance to the goal.
    """
    best = values.amax(-1, keepdim=True)
    heads = (values - GAMMA * best) / ((1 - GAMMA) * best.clamp(min=FLOOR))
    return torch.where(best > 0, heads.clamp(-1, 1), 0.0)


# ---- three predictors ----


class Predictor:
    """Logits (n, 8) of decisions as a function of parameters, the first `BASE` of each action.

    A form's `pull` is what it adds to the base logits (n, 8), given its own parameters.
    """

    starts: tuple[tuple[float, ...], ...]
    """Initial values of a form's own parameters; as many as reach the best of random starts."""

    def __init__(self, made: Decisions):
        self.action, self.parameters = torch.as_tensor(made.action), BASE + len(self.starts[0])
        self.values = torch.as_tensor(made.values).double()
        self.unseen = torch.as_tensor(made.unseen).double()
        self.closed = torch.zeros(len(made), 8, dtype=torch.double)
        self.closed[torch.as_tensor(made.step == 0), HIDE] = -torch.inf

    def logits(self, theta: torch.Tensor) -> torch.Tensor:
        base = torch.cat([theta[:STAY], theta.new_zeros(1), theta[STAY:BASE]])
        return base + self.pull(theta[BASE:]) + self.closed

    def nats(self, theta: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self.logits(theta), self.action, reduction="none")

    def penalty(self, theta: torch.Tensor) -> torch.Tensor:
        return RIDGE * theta.square().sum()

    def fit(self) -> torch.Tensor:
        """Return the most likely parameters, by L-BFGS from each start."""
        loss = lambda theta: (self.nats(theta).sum() + self.penalty(theta)) / len(self.action)
        found = []
        for start in self.starts:
            begin = torch.tensor([0.0] * BASE + list(start), dtype=torch.double, requires_grad=True)
            how = {"max_iter": 300, "history_size": 20, "tolerance_change": 1e-8}
            search = torch.optim.LBFGS([begin], line_search_fn="strong_wolfe", **how)

            def descend(theta=begin, search=search) -> torch.Tensor:
                search.zero_grad()
                value = loss(theta)
                value.backward()
                return value

            search.step(descend)
            found.append(begin.detach())
        return min(found, key=loss)

    @torch.no_grad()
    def drawn(self, theta: torch.Tensor, seed: int) -> np.ndarray:
        """Draw actions (n,) from the predicted probabilities."""
        cumulative = torch.softmax(self.logits(theta), 1).cumsum(1).numpy()
        u = np.random.default_rng(seed).random((len(cumulative), 1))
        return (cumulative[:, :-1] <= u).sum(1)


class Shards(Predictor):
    """Three shards: the sum of strength x gate x head; a gate is a sigmoid of the context.

    The cookie's gate sees whether a cookie is in sight, the step of the day (hunger grows), whether
    cookies are left and how far the jar is. The food's gate sees the step and how far the garden
    is. The explorer's gate sees the step; its head is a cell never visited.
    """

    starts = ((1.0, 1.0, 1.0) + (0.0,) * 10,)

    def __init__(self, made: Decisions):
        super().__init__(made)
        one, step, far = np.ones(len(made)), made.step / HORIZON, made.distance / SIZE
        contexts = [
            [one, made.visible, step, made.left > 0, far[:, 0]],
            [one, step, far[:, 1]],
            [one, step],
        ]
        self.contexts = [torch.as_tensor(np.stack(columns, 1)) for columns in contexts]
        self.heads = torch.cat([advantage(self.values), self.unseen[:, None]], 1)

    def pull(self, theta: torch.Tensor) -> torch.Tensor:
        sizes = [context.shape[1] for context in self.contexts]
        strengths, *weights = theta.split([3, *sizes])
        pairs = zip(self.contexts, weights, strict=True)
        gates = torch.stack([torch.sigmoid(context @ weight) for context, weight in pairs], 1)
        return torch.einsum("ni,nia->na", F.softplus(strengths) * gates, self.heads)


class Utility(Predictor):
    """One stationary utility, pursued by a plan and by habit, with noise and without gates.

    The plan is Q of the known layout, by value iteration over cell, cookies left and time left.
    Its parameters: the utility of the first, second and third cookie and of the meal, both changing
    with the step of the day as hunger does; a cost of each step; a discount; and the temperature at
    which the plan expects itself to act. The habit is what was learned of cookies and of the meal,
    weighted by what they are worth. It has one parameter more than three shards have.
    """

    starts = tuple(
        (3.0, 3.0, 3.0, 4.0, 0.0, 0.0, 0.0, *plan, 0.0, -1.0, 0.0, 1.0, 1.0)
        for plan in ((4.0, -1.0), (-0.5, 0.0))
    )

    def __init__(self, made: Decisions):
        super().__init__(made)
        _, first, row = np.unique(made.lifetime, return_index=True, return_inverse=True)
        home, jar, garden = made.layout[first].T[:, :, None, None, None]
        cells, left_states = SIZE**2, STOCKED + 1  # a state is a cell and the cookies left
        cell, left, action = np.ogrid[:cells, :left_states, :8]
        eats_cookie = (action == EAT) & (cell == jar) & (left > 0)
        eats_meal = (action == EAT) & (cell == garden)
        hides = (action == HIDE) & (cell == home)
        left_after = np.where(eats_cookie, left - 1, np.where(hides, 0, left))
        then = LED[:, None] * left_states + left_after
        flat = lambda x: torch.as_tensor(np.broadcast_to(x, then.shape).copy()).flatten(1, 2)
        self.then = flat(then).flatten(1)  # (lifetimes, states x 8)
        self.goes_on = flat(~eats_meal).double()  # (lifetimes, states, 8)
        nothing = np.where(eats_meal, STOCKED, STOCKED + 1)
        self.reward_index = flat(np.where(eats_cookie, STOCKED - left, nothing))
        at = (made.step * len(first) + row) * cells + made.cell
        self.at = torch.as_tensor(at * left_states + made.left)
        self.late = torch.as_tensor(made.step / HORIZON)[:, None]
        self.left = torch.as_tensor(made.left > 0)[:, None]

    def pull(self, theta: torch.Tensor) -> torch.Tensor:
        worth = torch.sigmoid(theta[10] + theta[11] * self.late)  # of a cookie; the meal's is 1 -
        cookies, food = self.left * self.values[:, COOKIE], self.values[:, FOOD]
        habit = worth * cookies + (1 - worth) * food
        plan = self.plan(theta).flatten(0, 2)[self.at]
        return plan + theta[9] * self.unseen + theta[12] * advantage(habit) + theta[13] * habit

    def plan(self, theta: torch.Tensor) -> torch.Tensor:
        """Return Q (horizon, lifetimes, states, 8), backwards from the last step of the day."""
        cookies, meal, slopes, gamma, noise = theta[:9].split([3, 1, 3, 1, 1])
        sweeter, hungrier, cost = slopes
        gamma, noise = torch.sigmoid(gamma), torch.exp(noise)
        value, q = theta.new_zeros(self.reward_index.shape[:2]), []
        for t in range(HORIZON - 1, -1, -1):
            late = t / HORIZON
            utilities = [cookies + sweeter * late, meal + hungrier * late, theta.new_zeros(1)]
            reward = (torch.cat(utilities) - cost)[self.reward_index]
            following = value.gather(1, self.then).view(self.reward_index.shape)
            q.append(reward + gamma * self.goes_on * following)
            value = noise * torch.logsumexp(q[-1] / noise, -1)
        return torch.stack(q[::-1])


class Table(Predictor):
    """A weight for each context and class of actions, with Laplace smoothing.

    A context is: no cookie left, some left, or one in sight; x third of the day; x at the jar, at
    the garden, where one action serves both, or elsewhere. A class is whether an action is good for
    cookies (yes, no, neither: the sign of the head) x for the meal, or eating where that is
    possible. Classes mean the same in every layout. The class "good for nothing" weighs 0.
    """

    starts = ((0.0,) * CONTEXTS * CLASSES,)

    def __init__(self, made: Decisions):
        super().__init__(made)
        head, there = advantage(self.values).numpy(), made.distance == 0
        good, bad = head > GOOD, head < -GOOD
        place = np.select([*there.T, good.all(1).any(1)], [0, 1, 2], 3)
        cookies = np.where(made.visible, 2, made.left > 0)
        context = (cookies * 3 + made.step * 3 // HORIZON) * 4 + place
        eats = (np.arange(8) == EAT) & there.any(1, keepdims=True)
        kind = np.where(eats, EATS, (good + 2 * bad).swapaxes(1, 2) @ (3, 1))
        self.index = torch.as_tensor(context[:, None] * CLASSES + kind)
        self.offered = torch.zeros(CONTEXTS, CLASSES, dtype=torch.bool)
        self.offered.view(-1)[self.index.flatten()] = True
        self.parameters = BASE + int(self.offered[:, 1:].sum())  # only what occurs costs bits

    def weights(self, theta: torch.Tensor) -> torch.Tensor:
        return F.pad(theta.view(CONTEXTS, CLASSES)[:, 1:], (1, 0))

    def pull(self, theta: torch.Tensor) -> torch.Tensor:
        return self.weights(theta).flatten()[self.index]

    def penalty(self, theta: torch.Tensor) -> torch.Tensor:
        weights = self.weights(theta[BASE:]).masked_fill(~self.offered, -torch.inf)
        smoothing = LAPLACE * torch.log_softmax(weights, 1)[self.offered].sum()
        return super().penalty(theta[:BASE]) - smoothing


PREDICTORS = {"shards": Shards, "utility": Utility, "table": Table}
