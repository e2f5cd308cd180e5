"""The sentence a person reads after a wrong call of a view."""

import numpy as np
import pytest
import traitlets

import adkit as ad

LAKE = ad.envs.from_gymnasium("FrozenLake-v1", horizon=8)


def lake():
    return ad.collect(LAKE, LAKE.tasks(), ad.sources.Random(), episodes=2)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda h, m: ad.views.learning_curves(h), "histories need names on a figure"),
        (lambda h, m: ad.views.visits({}), "histories need names on a figure"),
        (
            lambda h, m: ad.views.learning_curves({"a": h}, x="hours"),
            '`x` must be "episodes" or "steps", got \'hours\'',
        ),
        (lambda h, m: ad.views.visits({"a": lake()}), r"no \(x, y\) observations"),
        (lambda h, m: ad.views.replay(lake()), "FrozenLake-v1 has no map to draw"),
        (lambda h, m: ad.views.replay(h), "must be one lifetime, got 100; try rollouts"),
        (lambda h, m: ad.views.replay(h[0], 8), "`episode` must be in 0 to 7, got 8"),
        (lambda h, m: ad.views.EpisodeAttention(m, h), "`lifetime` must hold one, got 100; try"),
        (
            lambda h, m: ad.views.EpisodeAttention(m, h[0], ad.envs.DarkRoom()),
            "`env` must be the one of the lifetime",
        ),
        (
            lambda h, m: ad.views.EpisodeAttention(m, h[0], action_names=["up"]),
            r"`action_names` must have 5, got \['up'\]",
        ),
        (
            lambda h, m: ad.views.EpisodeAttention(m, h[0]).probabilities(7, 2, without=7),
            "`without` must be in 6 to 6, got 7",
        ),
    ],
)
def test_a_wrong_call_of_a_view_says_what_it_needs(histories, model, call, says):
    with pytest.raises(ValueError, match=says):
        call(histories, model)


@pytest.mark.parametrize("name", ["episode", "step", "layer", "head", "attended"])
def test_traits_refuse_what_the_lifetime_does_not_have(histories, model, name):
    view = ad.views.EpisodeAttention(model, histories[0])
    with pytest.raises(traitlets.TraitError, match=f"`{name}` must be in .* got 99"):
        setattr(view, name, 99)


def test_sliders_of_shards_refuse_what_no_agent_has():
    env = ad.envs.CookieWorld()
    view = ad.views.PolicyField(env, env.tasks()[np.arange(2)])
    for name, value in {"hunger": 6, "strength": 3.5, "task": -1}.items():
        with pytest.raises(traitlets.TraitError):
            setattr(view, name, value)
