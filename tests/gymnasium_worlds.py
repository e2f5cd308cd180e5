"""A world as others write theirs, and what a test collects in it."""

import gymnasium
import numpy as np
from gymnasium import spaces

import adkit as ad
from adkit.envs import from_gymnasium

RANDOM = ad.sources.Random()
PPO = ad.sources.StableBaselines3("PPO", n_steps=8, batch_size=8, n_epochs=1)
OPEN = []  # worlds that are not closed


class World(gymnasium.Env):
    """One state, two actions, reward 1, never over; each case overrides what it needs."""

    observation_space, action_space, pays, sees = spaces.Discrete(3), spaces.Discrete(2), 1.0, 0

    def __init__(self, render_mode=None, **given):
        self.given, self.resets = given, []
        OPEN.append(self)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.resets.append((seed, options))
        return self.sees, {}

    def step(self, action):
        assert self.action_space.contains(np.asarray(action, self.action_space.dtype))
        return self.sees, self.paid(action), False, False, {}

    def paid(self, action):
        return self.pays

    def close(self):
        OPEN.remove(self)


def world(**body):
    return type("Some", (World,), body)


def collected(made, episodes=4, lifetimes=1, agent=RANDOM, **how):
    env = from_gymnasium(made, **{"horizon": 5} | how)
    found = ad.collect(env, env.tasks(), agent, episodes=episodes, lifetimes=lifetimes)
    assert not OPEN, "every world that was made is closed"
    return found


def paid(*a, **k):
    return sorted(set(collected(*a, **k).reward.ravel().tolist()))


def changing(after: int, **body):
    """Return a world that shows and pays something else from its step `after` on."""

    def step(self, action):
        self.steps = getattr(self, "steps", 0) + 1
        now = body if self.steps >= after else {}
        return now.get("sees", self.sees), now.get("pays", 1.0), False, False, {}

    return world(step=step)
