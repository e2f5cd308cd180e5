"""The error messages of views."""

import numpy as np
import pytest
import traitlets

import adkit as ad
from adkit.views import EpisodeAttention, learning_curves, replay, visits

LAKE = ad.envs.from_gymnasium("FrozenLake-v1", horizon=8)
MISTAKES = {
    "histories need names on a figure": lambda h, m: learning_curves(h),
    "need names on a figure; try {'distilled'": lambda h, m: visits({}),
    '`x` must be "episodes" or "steps", got \'hours\'': (
        lambda h, m: learning_curves({"a": h}, x="hours")
    ),
    r"no \(x, y\) observations": lambda h, m: visits({"a": lake()}),
    "FrozenLake-v1 has no map to draw": lambda h, m: replay(lake()),
    "must be one lifetime, got 100; try rollouts": lambda h, m: replay(h),
    "`episode` must be in 0 to 7, got 8": lambda h, m: replay(h[0], 8),
    "`lifetime` must hold one, got 100; try": lambda h, m: EpisodeAttention(m, h),
    "`env` must be the one of the lifetime": (
        lambda h, m: EpisodeAttention(m, h[0], ad.envs.DarkRoom())
    ),
    r"`action_names` must have 5, got \['up'\]": (
        lambda h, m: EpisodeAttention(m, h[0], action_names=["up"])
    ),
    "`without` must be in 6 to 6, got 7": (
        lambda h, m: EpisodeAttention(m, h[0]).probabilities(7, 2, without=7)
    ),
}


def lake():
    return ad.collect(LAKE, LAKE.tasks(), ad.sources.Random(), episodes=2)


@pytest.mark.parametrize("says", MISTAKES)
def test_a_wrong_call_of_a_view_says_what_it_needs(histories, model, says):
    with pytest.raises(ValueError, match=says):
        MISTAKES[says](histories, model)


def test_sliders_refuse_what_there_is_not(histories, model):
    env = ad.envs.CookieWorld()
    field = ad.views.PolicyField(env, env.tasks()[np.arange(2)])
    for name, value in {"hunger": 6, "strength": 3.5, "task": -1}.items():
        with pytest.raises(traitlets.TraitError):
            setattr(field, name, value)
    view = EpisodeAttention(model, histories[0])
    for name in ("episode", "step", "layer", "head", "attended"):
        with pytest.raises(traitlets.TraitError, match=f"`{name}` must be in .* got 99"):
            setattr(view, name, 99)
