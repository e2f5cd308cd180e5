"""What a person reads after a mistake with models, probing and views."""

import numpy as np
import pytest
import traitlets

import adkit as ad
from adkit.probing import ablate_head, difference_of_means, fit, patch
from adkit.probing.record import only_at
from adkit.views import EpisodeAttention, Player, SideBySide, learning_curves, replay

ROOM = ad.envs.DarkRoom(size=5, horizon=8)
POSES, BLIND = ad.envs.Watermaze(view="pose", n_tasks=3), ad.envs.Watermaze(view="nothing")
MADE = ad.collect(ROOM, ROOM.tasks(), ad.sources.Random(), episodes=4)
SWUM = ad.collect(POSES, POSES.tasks(), ad.sources.Random(), episodes=2).seen_as((8, 8))


def model(env=ROOM, **how):
    return ad.CausalTransformer(env.spec, **{"context": 32, "layers": 1, "width": 16} | how)


LONG = ad.collect(ROOM, ROOM.tasks()[:6], ad.sources.Random(), episodes=5)
WALKS = LONG.episodes[:4]
MODEL = model()
STREAM = np.random.default_rng(0).normal(size=(60, 12, 3))

LIVED = ad.collect(ROOM, ROOM.tasks(), ad.sources.Random(), episodes=8, lifetimes=4)
LAKE = ad.envs.from_gymnasium("FrozenLake-v1", horizon=8)


def lake():
    return ad.collect(LAKE, LAKE.tasks(), ad.sources.Random(), episodes=2)


def seeing(view):
    return model(ad.envs.Watermaze(view=view, n_tasks=3), context=100)


def policy(env=ROOM):
    return ad.RecurrentPolicy(env.spec, width=8)


def play(agent, env=ROOM, n=1):
    return ad.collect(env, env.tasks()[:n], agent, episodes=1)


def distill(model=model, **how):
    return ad.distill(model(), MADE, **how)


def prompted(prompt, **how):
    return ad.InContext(model(), prompt=prompt, **how)


MISTAKES = {
    "hold at least two episodes .* got 15; try context=80": lambda: model(context=15),
    "`heads` must divide `width`, got layers=1, heads=3, width=16": lambda: model(heads=3),
    "was made for DarkRoom with horizon=8, but DarkRoom has horizon=20; train a model": (
        lambda: play(ad.InContext(model()), ad.envs.DarkRoom())
    ),
    "`steps` and `batch` must be at least 1, got 0 and 64": lambda: distill(steps=0),
    r"`label_smoothing` must be in \[0, 1\), got -1.0; try 0.1": (
        lambda: distill(label_smoothing=-1.0)
    ),
    "`precision` must be .* got 'int8'": lambda: distill(precision="int8"),
    "have 1 episodes per lifetime, but the model's window has 4; .* with context=16": (
        lambda: ad.distill(model(), MADE.episodes[:1])
    ),
    r"25 validation tasks are also training tasks, such as {'goal': \[0, 0\]}; split the": (
        lambda: distill(validation=ad.Validation(ROOM, MADE))
    ),
    r"`predict` must be an episode label, one of \[\], .* got 'eaten' and predictions=1": (
        lambda: distill(lambda: model(predictions=1), predict="eaten")
    ),
    r"`decay` must be in \(0, 1\], got 1.5": lambda: ad.Schedule(decay=1.5),
    "`memory` must be .* got 'week'": lambda: ad.InContext(model(), memory="week"),
    "must be positive, got 0; .* try 1e-6": lambda: ad.InContext(model(), temperature=0),
    "0 to 3 for a window of 4 episodes, got 4": lambda: ad.InContext(model(), keep=4),
    r"must have 1 to 3 episodes .* try prompt.episodes\[-3:\]": lambda: prompted(MADE),
    "in task-major order: 3 lifetimes, got 25": lambda: play(prompted(MADE.episodes[:1]), n=3),
    "forgets a prompt at once": lambda: prompted(MADE.episodes[:1], memory="episode"),
    r"no tap matches 'nose'; the model has embed, .*blocks.0.attn.pattern": (
        lambda: ad.record(model(), MADE, "nose")
    ),
    r'no encoder for view=\(24, 32\); use view="pose"': lambda: policy(ad.envs.Watermaze()),
    "was made for Watermaze with view=pose, but Watermaze has view=nothing": (
        lambda: play(ad.RL2(policy(POSES)), BLIND)
    ),
    r"must see pictures, got view='pose'": lambda: ad.pretrain_encoder(seeing("pose"), SWUM),
    "`ahead` must be below 50, the longest episode, got 50": (
        lambda: ad.pretrain_encoder(seeing((8, 8)), SWUM, ahead=50)
    ),
    r"`array` needs a recording of one tap, got embed, blocks.0.resid.*recording\['embed'\]": (
        lambda: ad.record(MODEL, WALKS, "embed", "*resid").array
    ),
    r"`cut` needs an array \(6, 4, 9\) and more, got \(6, 4\)": (
        lambda: ad.record(MODEL, WALKS, changes={"embed": only_at(np.ones((6, 4), bool), abs)})
    ),
    r"labels must have one row per task, \d+, .* got \(99,\)": (
        lambda: fit(ad.record(MODEL, WALKS, "embed"), np.zeros(99))
    ),
    "labels must be finite at every token that is read; choose tokens with `where`": (
        lambda: fit(STREAM, np.full((60, 12), np.nan))
    ),
    "`holdout` must leave tokens for train, val and test, got none for val": (
        lambda: fit(STREAM, np.zeros((60, 12)), holdout=["train", "test"] * 30)
    ),
    "no stratum of `match` contains both high and low; use fewer matching variables": (
        lambda: difference_of_means(STREAM[:8, 0], np.arange(8) > 3, np.arange(8))
    ),
    r"`donor` must have one history per history of `base`, .* got \(5, 4\) in DarkRoom": (
        lambda: patch(MODEL, WALKS, WALKS[:5], "embed", np.sum)
    ),
    r"must fit in the model's window of 4 episodes, got 5; try base.episodes\[:4\]": (
        lambda: patch(MODEL, LONG, LONG, "embed", np.sum)
    ),
    r"`ablate_head` needs blocks.\*.attn.z \(B, heads, S, d\), got \(6, 36, 16\)": (
        lambda: ad.record(MODEL, WALKS, changes={"embed": lambda x, cut: ablate_head(0)(x)})
    ),
    "histories need names on a figure": lambda: learning_curves(LIVED),
    "need names on a figure; try {'distilled'": lambda: learning_curves({}),
    "FrozenLake-v1 has no map to draw": lambda: replay(lake()),
    "`lifetime` must be in 0 to 99, got 100": lambda: replay(LIVED, lifetime=100),
    "`episode` must be in 0 to 7, got 8": lambda: replay(LIVED[0], 8),
    "must have as many lifetimes, got .*100, .*1}; try": (
        lambda: Player({"a": LIVED, "b": LIVED[0]})
    ),
    "must show the same lifetimes, of equally many .*, got .*100, 8.*1, 8": (
        lambda: SideBySide({"a": replay(LIVED), "b": replay(LIVED[0])})
    ),
    "`env` must be the one of EnvSpec": (
        lambda: EpisodeAttention(MODEL, LIVED[0], ad.envs.DarkRoom())
    ),
    r"`action_names` must have 5, got \['up'\]": (
        lambda: EpisodeAttention(MODEL, LIVED[0], action_names=["up"])
    ),
    "`without` must be in 6 to 6, got 7": (
        lambda: EpisodeAttention(MODEL, LIVED[0]).probabilities(7, 2, without=7)
    ),
}


@pytest.mark.parametrize("sentence", MISTAKES)
def test_a_mistake_is_answered_with_a_sentence(sentence):
    with pytest.raises((ValueError, traitlets.TraitError), match=sentence):
        MISTAKES[sentence]()


def test_an_edit_of_another_shape_is_refused():
    with (
        ad.edit(net := model(), {"blocks.0.resid": lambda x: x[..., :1]}),
        pytest.raises(ValueError, match=r"must return the activation's shape \(1, 1, 16\), got"),
    ):
        play(ad.InContext(net))


def test_sliders_refuse_what_there_is_not():
    view = EpisodeAttention(MODEL, LIVED[0])
    for name in ("episode", "step", "layer", "head", "attended"):
        with pytest.raises(traitlets.TraitError, match=f"`{name}` must be in .* got 99"):
            setattr(view, name, 99)
