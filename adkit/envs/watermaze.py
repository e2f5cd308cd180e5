"""Watermaze: a round pool with an invisible platform (Morris 1981; Laskin et al. 2022, 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numba import njit

from adkit.envs import pixels
from adkit.protocols import EnvSpec, Step, Tasks
from adkit.seeds import Rng
from adkit.tables import check_action

REACH, PLATFORM = 0.95, 0.12  # how far out an agent gets; the platform's radius
RING = 0.25, 0.85  # distances at which the platform's middle may be
STEP, TURN = 0.1, 2 * np.pi / 16
FORWARD, BACKWARD, LEFT, RIGHT, TURN_LEFT, TURN_RIGHT, FORWARD_LEFT, FORWARD_RIGHT = range(8)
MOVES = np.array(
    [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1), (1, 0, 1), (1, 0, -1)]
)  # ahead, left, turn
FARTHEST = 16  # steps within which `toward` reaches every platform, whatever the heading


class WatermazeState(NamedTuple):
    """N lifetimes: pose (N, 3) float32, step (N,), platform found in the episode (N,) bool."""

    pose: np.ndarray
    time: np.ndarray
    found: np.ndarray


@dataclass(frozen=True)
class Watermaze:
    """A pool of radius 1, with reward 1 once an episode, when a step ends on the platform.

    A task is `goal` (x, y), the platform's place. Episodes start in the middle with a random
    heading. An observation is the pose (x, y, heading), 12 bytes in histories; a model is shown
    `view`, drawn from the pose. The eight actions, in order: walk forward, backward, left, right;
    turn left, right by 1/16 of a circle; walk forward after such a turn to the left, right.
    """

    horizon: int = 50
    """Most steps in an episode: the paper's 50."""
    view: tuple[int, int] | Literal["pose", "nothing"] = (24, 32)
    """What a model is shown: a picture of this (height, width), the "pose" or "nothing"."""
    ends: Literal["clock", "platform"] = "clock"
    """When an episode ends: after `horizon` steps (paper), or at the platform if earlier."""
    n_tasks: int = 2000
    """Tasks in the family."""
    seed: int = 0
    """Which tasks; a family's tasks are addressed by seed and number."""

    def __post_init__(self):
        if self.ends not in ("clock", "platform"):
            raise ValueError(f"`ends` must be 'clock' or 'platform', got {self.ends!r}")
        if self.horizon < FARTHEST:
            raise ValueError(
                f"`horizon` must be at least {FARTHEST} steps, to reach every platform, got "
                f"{self.horizon}"
            )
        if not isinstance(self.view, str):
            object.__setattr__(self, "view", pixels.check_size(self.view))
        _ = self.spec  # EnvSpec checks the rest

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(
            "Watermaze", n_actions=len(MOVES), horizon=self.horizon, shape=(3,), view=self.view
        )

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest value of each observation coordinate."""
        return np.array([-1, -1, 0], np.float32), np.array([1, 1, 2 * np.pi], np.float32)

    def tasks(self) -> Tasks:
        """Return `n_tasks` platforms, uniform in the ring between 0.25 and 0.85 of the radius."""
        rng = Rng.of(self.seed, "watermaze", np.arange(self.n_tasks))
        least, most = RING
        radius = np.sqrt(least**2 + rng.uniform(0) * (most**2 - least**2))
        angle = 2 * np.pi * rng.uniform(1)
        return Tasks({"goal": np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)})

    def task(self, goal: tuple[float, float]) -> Tasks:
        """Return the task with its platform here."""
        task = Tasks({"goal": np.array([goal], float)})
        self._check(task)
        return task

    def reset(self, tasks: Tasks, rng: Rng) -> tuple[WatermazeState, np.ndarray]:
        self._check(tasks)
        pose = np.zeros((len(tasks), 3), np.float32)
        pose[:, 2] = 2 * np.pi * rng.uniform()
        return WatermazeState(pose, np.zeros(len(pose), np.int64), np.zeros(len(pose), bool)), pose

    def step(
        self, state: WatermazeState, tasks: Tasks, action: np.ndarray, rng: Rng
    ) -> tuple[WatermazeState, Step]:
        action = check_action(action, self.spec, len(state.pose))
        pose, reached = _step(state.pose, tasks["goal"], action)
        rewarded = reached & ~state.found
        terminated = rewarded & (self.ends == "platform")
        truncated = ~terminated & (state.time == self.horizon - 1)
        state = WatermazeState(pose, state.time + 1, state.found | reached)
        return state, Step(pose, rewarded.astype(np.float32), terminated, truncated)

    def optimal_returns(self, tasks: Tasks) -> np.ndarray:
        """Return ones (n,): every platform is within reach."""
        self._check(tasks)
        return np.ones(len(tasks))

    def _check(self, tasks: Tasks) -> None:
        goal = tasks["goal"]
        if goal.shape[1:] != (2,) or (far := ~(np.hypot(*goal.T) <= REACH)).any():
            got = goal[:1] if goal.shape[1:] != (2,) else goal[far][:1]
            raise ValueError(f"`goal` must be (x, y) within {REACH} of (0, 0), got {got.tolist()}")


# ---- in plain scalars, for compiled code; `GoalSearch` uses the motion too ----


@njit(cache=True)
def move(x, y, heading, action):
    """Return the pose after an action: first the turn, then the step, which the wall cuts short."""
    ahead, left, turn = MOVES[action]
    heading = (heading + turn * TURN) % (2 * np.pi)
    c, s = np.cos(heading), np.sin(heading)
    x, y = x + STEP * (ahead * c - left * s), y + STEP * (ahead * s + left * c)
    out = np.hypot(x, y)
    if out > REACH:
        x, y = x * (REACH / out), y * (REACH / out)
    return np.float32(x), np.float32(y), np.float32(heading)


@njit(cache=True)
def toward(x, y, heading, goal_x, goal_y):
    """Return the next action on the way to a place.

    Turn while walking ahead; or turn until a side or the back faces the place, and walk.
    """
    dx, dy = goal_x - x, goal_y - y
    turns = (np.arctan2(dy, dx) - heading) / TURN  # to the left, until it is straight ahead
    turns -= 16 * np.rint(turns / 16)
    if abs(turns) <= 3:
        return FORWARD if abs(turns) <= 0.5 else FORWARD_LEFT if turns > 0 else FORWARD_RIGHT
    side = np.rint(turns / 4)
    off = turns - 4 * side
    missed_by = np.hypot(dx, dy) * np.sin(abs(off) * TURN)
    if abs(off) > 0.5 and missed_by > 0.75 * PLATFORM:
        return TURN_LEFT if off > 0 else TURN_RIGHT
    return LEFT if side == 1 else RIGHT if side == -1 else BACKWARD


@njit(cache=True)
def _step(pose, goal, action):
    pose_t, reached = np.empty_like(pose), np.empty(len(pose), np.bool_)
    for n in range(len(pose)):
        x, y, heading = move(pose[n, 0], pose[n, 1], pose[n, 2], action[n])
        pose_t[n, 0], pose_t[n, 1], pose_t[n, 2] = x, y, heading
        reached[n] = np.hypot(x - goal[n, 0], y - goal[n, 1]) <= PLATFORM
    return pose_t, reached
