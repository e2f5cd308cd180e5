"""DESIGN.md's ninth property: every config field changes something."""

from dataclasses import fields, replace
from inspect import signature

import pytest
from helpers import same, scrambled

import adkit as ad
from adkit import sources
from adkit.envs import CookieWorld, DarkRoom, Watermaze, from_gymnasium

ROOM, ONCE = DarkRoom(5, 8), DarkRoom(5, 8, reward="once")
MAZE, COOKIES = Watermaze(ends="platform"), CookieWorld()
MODEL = scrambled(ad.CausalTransformer(ROOM.spec, context=32, layers=2, heads=2, width=16))

AC = dict(layers=1, width=16, lr=1e-3, gamma=0.5, lam=0.5, entropy=0.3, value_weight=2.0, unroll=9)
OF_DQN = dict(layers=1, width=8, lr=1e-3, gamma=0.5, lam=0.0, epsilon=0.5, batch=3, rollout=20)
OF_DQN |= dict(overlap=0, capacity=20, offline=0.0, target_update=2, clip=1e-4)
Q = dict(lr=0.1, gamma=0.5, initial_q=0.0, epsilon=0.1, exploration=0.2, phases=2)
POSE_Q = dict(bins=(5, 5, 4), lr=0.1, gamma=0.5, epsilon=0.1, final_epsilon=0.4, exploration=0.2)
SHARDS = dict(types={"R": 1}, regimes={"D2": 1}, stock={}, lr=0.5, walk=(0.1, 0.3), labelled=False)
FILTER = dict(source=sources.Shards(types={"S": 1}), particles=20, updates=False, seed=1)
OF_ROOM = dict(size=6, horizon=9, reward="once", start="random", permuted=True)
POOL = dict(horizon=20, view="pose", ends="platform", n_tasks=3, seed=1)
CASES = [  # a world and who acts there, or an agent and its world; another value of each field
    (ROOM, sources.QLearning(), OF_ROOM),
    (Watermaze(), sources.GoalSearch(), POOL),
    (COOKIES, sources.Shards(regimes={"D1": 1}), dict(size=7, horizon=9, tolerance_visible=True)),
    (sources.QLearning(), ROOM, Q),
    # in a room that goes on rewarding there is always something to gain
    (sources.PosteriorSampling(), ONCE, dict(noise=0.5, greed=20.0, forgetting=0.9, rest=True)),
    # in a room every discount walks the same shortest paths
    (sources.PosteriorSampling(noise=0.0), from_gymnasium("FrozenLake-v1"), dict(gamma=0.2)),
    (sources.ActorCritic(), ROOM, AC),
    (sources.DQN(width=16, batch=4), ROOM, OF_DQN),
    (sources.GoalSearch(), MAZE, dict(noise=0.3, cells=30)),
    (sources.PoseQLearning(), MAZE, POSE_Q),
    (sources.Shards(), COOKIES, SHARDS),
    (ad.InContext(MODEL), ROOM, dict(memory="episode", temperature=3.0, keep=3)),
    (ad.ParticleFilter(sources.Shards(), particles=30), COOKIES, FILTER),
]
NO_SETTINGS = {"family", "tasks", "model", "prompt"}  # or tested elsewhere


def outcome(config, beside) -> ad.Histories:
    """Return histories of a world or an agent, or of shard agents as a filter sees them."""
    follows = isinstance(config, ad.ParticleFilter)
    env, agent = (config, beside) if hasattr(config, "reset") else (beside, config)
    agent = sources.Shards() if follows else agent
    made = ad.collect(env, env.tasks()[:20], agent, episodes=8 if follows else 40)
    return replace(made, arrays=config.follow(made)) if follows else made


@pytest.mark.parametrize(
    ("config", "beside", "field", "value"),
    [(*case, name, value) for *case, changed in CASES for name, value in changed.items()],
    ids=lambda given: type(given).__name__ if hasattr(given, "__dict__") else str(given),
)
def test_property_09_every_config_field_changes_something(config, beside, field, value):
    usual, changed = outcome(config, beside), outcome(replace(config, **{field: value}), beside)
    assert not same(usual, changed) or usual.spec != changed.spec


def test_property_09_no_config_field_is_forgotten():
    for kind in {type(config) for config, _, _ in CASES}:
        tried = {name for config, _, of in CASES if type(config) is kind for name in of}
        assert {field.name for field in fields(kind)} - NO_SETTINGS == tried, f"try it: {kind}"


OF_TRAINING = {"steps": 7, "batch": 5, "seed": 1, "label_smoothing": 0.3}
OF_TRAINING |= {"first_action_weight": 4.0, "precision": "bfloat16"}
OF_SCHEDULE = {"lr": 1e-3, "matrix_lr": 0.1, "weight_decay": 50.0, "warm_up": 3}
OF_SCHEDULE |= {"decay": 1.0, "from_start": 0.0, "short": 0.0, "short_episodes": 2}
ARGUMENTS = {
    ad.CausalTransformer: dict(context=48, layers=1, heads=1, width=24, seed=1),
    ad.distill: OF_TRAINING,
    ad.Schedule: OF_SCHEDULE,
}
GIVEN = {"spec", "model", "histories", "schedule", "predictions", "predict", "validation"}
GIVEN |= {"checkpoint"}  # no settings, or tested elsewhere


@pytest.mark.parametrize(
    ("of", "name"), [(of, name) for of, values in ARGUMENTS.items() for name in values]
)
def test_property_09_every_argument_of_model_and_training_changes_something(histories, of, name):
    assert set(signature(of).parameters) - GIVEN == set(ARGUMENTS[of]), "give a new one a value"

    def loss(**changed):
        how = {kind: changed if kind is of else {} for kind in ARGUMENTS}
        shape = {"context": 32, "layers": 2, "heads": 2, "width": 16} | how[ad.CausalTransformer]
        steps = 60 if name == "decay" else 6  # the rate falls after it has warmed up
        training = {"steps": steps, "batch": 4, "precision": "float32"} | how[ad.distill]
        model, schedule = ad.CausalTransformer(ROOM.spec, **shape), ad.Schedule(**how[ad.Schedule])
        return ad.distill(model, histories, schedule=schedule, **training).loss.tolist()

    assert loss() != loss(**{name: ARGUMENTS[of][name]})
