"""What models say to a person who made a mistake: a wrong call, and the sentence."""

import pytest

import adkit as ad

ROOM = ad.envs.DarkRoom(size=5, horizon=8)
POOL, BLIND = ad.envs.Watermaze(view="pose", n_tasks=3), ad.envs.Watermaze(view="nothing")
MADE = ad.collect(ROOM, ROOM.tasks(), ad.sources.Random(), episodes=4)


def model(env=ROOM, **how):
    return ad.CausalTransformer(env.spec, **{"context": 32, "layers": 1, "width": 16} | how)


def policy(env=ROOM):
    return ad.RecurrentPolicy(env.spec, width=8)


def play(agent, env=ROOM, n=1):
    return ad.collect(env, env.tasks()[:n], agent, episodes=1)


def seeing(view):
    return model(ad.envs.Watermaze(view=view, n_tasks=3), context=100)


WALKS = ad.collect(POOL, POOL.tasks(), ad.sources.Random(), episodes=2).seen_as((8, 8))

MISTAKES = [
    (lambda: model(context=15), r"`context` must hold at least two episodes \(horizon=8\), got 15; try context=80"),
    (lambda: model(heads=3), "`heads` must divide `width`, got layers=1, heads=3, width=16"),
    (lambda: play(ad.InContext(model()), ad.envs.DarkRoom()), "was made for DarkRoom with horizon=8, but DarkRoom has horizon=20"),
    (lambda: ad.distill(model(), MADE, steps=0), "`steps` and `batch` must be at least 1, got 0 and 64"),
    (lambda: ad.distill(model(), MADE, precision="int8"), '`precision` must be "auto", "float32" or "bfloat16", got \'int8\''),
    (lambda: ad.distill(model(), MADE.episodes[:1]), "have 1 episodes per lifetime, but the model's window has 4; .* context=16"),
    (lambda: ad.distill(model(), MADE, validation=ad.Validation(ROOM, MADE)), r"25 validation tasks are also training tasks \(\[0, 1"),
    (lambda: ad.distill(model(predictions=1), MADE, predict="eaten"), r"`predict` must be an episode label, one of \[\], .* got 'eaten'"),
    (lambda: ad.distill(model(predictions=1), MADE), "got None and predictions=1"),
    (lambda: ad.Schedule(decay=1.5), r"`decay` must be in \(0, 1\], got 1.5"),
    (lambda: ad.Schedule(short_episodes=0), "`short_episodes` must be positive, got 0"),
    (lambda: ad.InContext(model(), memory="week"), '`memory` must be "lifetime" or "episode", got \'week\''),
    (lambda: ad.InContext(model(), temperature=0), "`temperature` must be positive, got 0; for the likeliest action, try 1e-6"),
    (lambda: ad.InContext(model(), keep=4), "`keep` must be in 0 to 3 for a window of 4 episodes, got 4"),
    (lambda: ad.InContext(model(), prompt=MADE), r"`prompt` must have 1 to 3 episodes .* got 4; try prompt.episodes\[-3:\]"),
    (lambda: play(ad.InContext(model(), prompt=MADE.episodes[:1]), n=3), "one history per lifetime, in task-major order: 3 lifetimes, got 25"),
    (lambda: ad.record(model(), MADE, "nose"), r"no tap matches 'nose'; the model has embed, .*blocks.0.attn.pattern"),
    (lambda: policy(ad.envs.Watermaze()), r'no encoder for view=\(24, 32\); use view="pose"'),
    (lambda: play(ad.RL2(policy(POOL)), BLIND), "was made for Watermaze with view=pose, but Watermaze has view=nothing"),
    (lambda: ad.RL2(policy(), memory="week"), '`memory` must be "lifetime" or "episode", got \'week\''),
    (lambda: ad.train_rl2(policy(), ROOM, ROOM.tasks(), gamma=1.0), r"`gamma` must be in \[0, 1\), got 1.0"),
    (lambda: ad.distill_recurrent(policy(), MADE, episodes=9), "`episodes` must be in 1 to 4, which the histories have, got 9"),
    (lambda: ad.pretrain_encoder(seeing("pose"), WALKS), r"the model must see pictures, got view='pose'; try view=\(24, 32\)"),
    (lambda: ad.pretrain_encoder(seeing((8, 8)), WALKS, ahead=50), "no episode has more than ahead=50 steps; try ahead=49"),
    (lambda: ad.distill_encoder(seeing("nothing"), seeing("pose"), WALKS), "must both see something, .* got views 'nothing' and 'pose'"),
    (lambda: ad.distill_encoder(model(), seeing("pose"), WALKS), "must differ in their view alone, but differ in n_actions"),
]  # fmt: skip


@pytest.mark.parametrize(("mistake", "sentence"), MISTAKES)
def test_a_mistake_is_answered_with_a_sentence(mistake, sentence):
    with pytest.raises(ValueError, match=sentence):
        mistake()


def test_an_edit_of_another_shape_is_refused():
    with (
        ad.edit(net := model(), {"blocks.0.resid": lambda x: x[..., :1]}),
        pytest.raises(ValueError, match=r"must return the activation's shape \(1, 1, 16\), got"),
    ):
        play(ad.InContext(net))
