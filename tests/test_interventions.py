"""Erasing, patching, editing and steering a model: the effect where it must be, and none where it must not."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from helpers import scrambled
from study.counterfactuals import counterfactual, possible

import adkit as ad
from adkit.probing import (
    Patched,
    action_loss,
    difference_of_means,
    erase,
    erasure_effect,
    off_unembedding,
    patch,
    steer,
)
from adkit.probing import record as taps

ROOM = ad.envs.DarkRoom(size=5, horizon=8)
LAKE = ad.envs.from_gymnasium("FrozenLake-v1", horizon=8, is_slippery=False)  # episodes end early
LAST = "blocks.1.resid"


@dataclass(frozen=True)
class Script:
    """Takes given actions (N, E, H), whatever it sees: what `collect` makes of it is a counterfactual with its consequences."""

    actions: np.ndarray

    def start(self, spec, rng, episodes):
        return Scripted(self.actions.reshape(len(rng), -1))


class Scripted:
    def __init__(self, actions):
        self.actions, self.t = actions, 0

    def act(self, obs, first):
        return self.actions[:, self.t % self.actions.shape[1]]

    def update(self, transition):
        self.t += 1


@pytest.fixture(scope="module", params=[ROOM, LAKE], ids=["room", "lake"])
def world(request):
    """A random model, and six lifetimes of nine episodes: the window of four fills and is cut twice."""
    env = request.param
    model = scrambled(ad.CausalTransformer(env.spec, context=32, layers=2, heads=2, width=16))
    return model, ad.collect(
        env, env.tasks()[:1], ad.sources.PosteriorSampling(), episodes=9, lifetimes=6, seed=1
    )


@pytest.fixture(scope="module")
def pair(model):
    """Base histories, and donors that took another first action in the second episode, with all that followed from it."""
    base = ad.collect(ROOM, ROOM.tasks()[:6], ad.sources.Random(), episodes=4, seed=3)
    actions = base.arrays["action"].copy()
    actions[:, 1, 0] = (actions[:, 1, 0] + 1) % 5
    return base, ad.collect(ROOM, ROOM.tasks()[:6], Script(actions), episodes=4)


def prefers(action, where=(slice(None), -1, 7)):
    """The outcome (N,): logit of an action minus the mean, at one token of each lifetime."""
    return lambda logits: (logits - logits.mean(-1, keepdims=True))[(*where, action)]


# ---- edits that know where they are ----


def test_a_change_everywhere_is_an_edit_and_one_here_leaves_the_past_alone(world):
    model, lives = world
    shape = ad.record(model, lives, "logits").array.shape[:3]
    double = lambda x: 2 * x
    with ad.edit(model, {"blocks.0.resid": double}):
        edited = ad.record(model, lives, "logits", batch=4).array
    changed = ad.record(
        model, lives, "logits", batch=4, changes={"blocks.0.resid": lambda x, cut: double(x)}
    ).array
    np.testing.assert_array_equal(edited, changed)

    late = np.zeros(shape, bool)
    late[::2, 5, 1] = True  # episode 5 is in the second and third windows
    at = lambda x, cut: torch.where(cut(late)[..., None], double(x), x)
    moved = np.abs(
        ad.record(model, lives, "logits", changes={"blocks.0.resid": at}).array
        - ad.record(model, lives, "logits").array
    )
    assert (
        not moved[1::2].any()
        and not moved[:, :5].any()
        and not moved[:, 5, 0].any()
        and moved[::2, 5, 1].min() > 0
    )
    with pytest.raises(ValueError, match=r"`cut` needs an array \(6, 9, 9\) and more, got \(2,\)"):
        ad.record(model, lives, "logits", changes={"embed": lambda x, cut: x + cut(np.zeros(2))})


def test_a_run_that_resumes_is_the_whole_run(world):
    """From every stream between blocks, with and without a change there; all in one window."""
    model, lives = world
    lives = lives.episodes[:4]
    at = np.zeros((6, 4, 9), bool)
    at[::2, 1, 1] = True
    whole = ad.record(model, lives, "embed", "blocks.*.resid", "logits")
    for tap in ("embed", "blocks.0.resid", LAST):
        resume = ad.record(model, lives, tap, batch=4)
        for change in ({}, {tap: lambda x, cut: torch.where(cut(at)[..., None], x.flip(-1), x)}):
            again = ad.record(model, lives, LAST, "logits", changes=change, resume=resume)
            slow = ad.record(model, lives, LAST, "logits", changes=change)
            np.testing.assert_allclose(again["logits"], slow["logits"], atol=1e-6)
            np.testing.assert_allclose(again[LAST], slow[LAST], atol=1e-6)
            assert (np.abs(slow["logits"] - whole["logits"]).max() > 1e-3) == bool(change)
    early = ad.record(model, lives, "embed", resume=resume)  # nothing to resume from: run whole
    np.testing.assert_array_equal(early["embed"], whole["embed"])
    long = ad.record(model, world[1], LAST)
    np.testing.assert_array_equal(ad.record(model, world[1], LAST, resume=long)[LAST], long[LAST])


def test_what_is_gathered_is_what_was_recorded(world):
    model, lives = world
    at = np.random.default_rng(0).random((6, 9, 8)) < 0.3
    whole = ad.record(model, lives, "*resid")
    found = taps.gather(model, lives, at, "*resid", batch=4)
    for tap in whole.values:
        np.testing.assert_allclose(found[tap], whole[tap][:, :, :-1][at], atol=1e-6)


# ---- patching ----


def test_patching_a_history_with_itself_changes_nothing(world):
    model, lives = world
    everything = lambda logits: logits.reshape(len(logits), -1)
    for tap in ("embed", "blocks.*.resid", "blocks.*.attn.z"):
        patched = patch(model, lives, lives, tap, lambda logits: everything(logits)[:, 11], batch=4)
        assert np.abs(patched.moved).max() < 1e-6
    whole = patch(model, lives, lives, LAST, lambda logits: np.abs(everything(logits)).sum(1))
    assert np.abs(whole.moved).max() < 1e-6 * np.abs(whole.base).max()


def test_patching_the_whole_stream_brings_the_donors_behaviour(model, pair):
    base, donor = pair
    here, read = np.zeros((2, 6, 4, 9), bool)
    here[:, 1, :] = True
    read[:, 3, 7] = True
    patched = patch(
        model,
        base,
        donor,
        "*resid",
        prefers(0),
        positions={"edited episode": here, "reading token": read},
        batch=4,
    )
    assert (
        patched.taps == ("blocks.0.resid", LAST)
        and np.abs(patched.donor - patched.base).max() > 1e-3
    )
    np.testing.assert_allclose(
        patched.patched[1, 1], patched.donor, atol=1e-5
    )  # the last stream where it is read is the answer
    np.testing.assert_allclose(
        patched.share[1], [0, 1], atol=1e-4
    )  # and elsewhere nobody reads it any more
    assert np.abs(patched.moved[0, 0]).max() > 1e-3
    assert len(patched.to_frame()) == 2 * 2 * 6 and not patched.illusion.any()

    later = patch(
        model, base, donor, "*resid", prefers(0, (slice(None), 1, 0)), positions={"later": read}
    )
    assert not later.moved.any(), "the future moved the past"


def test_a_donor_whose_episodes_ended_at_other_times_gives_the_same_steps_activations(world):
    """In FrozenLake most episodes end early, at different steps: the same step is another place in the packed window."""
    model, lives = world
    base, donor = lives[:3].episodes[:4], lives[3:].episodes[:4]
    read = np.arange(9) <= np.minimum(base.length, donor.length)[..., None]
    read &= np.random.default_rng(0).random(read.shape) < 0.5
    told = lambda logits: np.where(read, logits[..., 0] - logits.mean(-1), 0).sum((1, 2))
    patched = patch(model, base, donor, "*resid", told, positions={"here": read}, batch=4)
    np.testing.assert_allclose(patched.patched[-1, 0], patched.donor, atol=1e-4)
    assert np.abs(patched.donor - patched.base).min() > 1e-3
    heads = patch(model, base, donor, "blocks.1.attn.z", told, positions={"here": read}, batch=4)
    assert np.abs(heads.moved).min() > 1e-4


def test_a_subspace_is_patched_alone_and_checked_against_the_whole(model, pair):
    base, donor = pair
    read = np.zeros((6, 4, 9), bool)
    read[:, 3, 7] = True
    how = {"positions": {"here": read}}
    rng = np.random.default_rng(0)
    whole = patch(model, base, donor, LAST, prefers(0), subspace=rng.normal(size=(16, 16)), **how)
    np.testing.assert_allclose(whole.patched, whole.full, atol=1e-5)
    one = patch(model, base, donor, LAST, prefers(0), subspace=rng.normal(size=16), **how)
    assert np.abs(one.patched - one.full).max() > 1e-3
    moves = lambda part, full: Patched(
        ("a",), ("b",), np.zeros(3), np.ones(3), np.full((1, 1, 3), part), np.full((1, 1, 3), full)
    )
    assert moves(0.8, 0.1).illusion.all() and not moves(0.8, 0.9).illusion.any()


def test_histories_of_other_shapes_are_not_patched(model, pair):
    base, donor = pair
    with pytest.raises(
        ValueError,
        match=r"base is \(6, 4\) lifetimes x episodes, donor \(5, 4\); patch like with like",
    ):
        patch(model, base, donor[:5], LAST, prefers(0))
    with pytest.raises(ValueError, match=r"positions 'x' of shape \(6, 4\); give bool \(6, 4, 9\)"):
        patch(model, base, donor, LAST, prefers(0), positions={"x": np.ones((6, 4), bool)})


# ---- counterfactual histories ----


@pytest.mark.parametrize(
    "env",
    [
        ROOM,
        ad.envs.DarkRoom(size=4, horizon=5, start="random", reward="once"),
        ad.envs.DarkKeyToDoor(size=4, horizon=9),
    ],
    ids=["room", "random start", "key to door"],
)
def test_what_was_lived_was_possible_and_what_pays_elsewhere_was_not(env):
    lives = ad.collect(env, env.tasks()[:8], ad.sources.Random(), episodes=5, seed=2)
    assert possible(env, lives).all()
    paid = lives.arrays["reward"].copy()
    paid[0, 0, 0] = 5
    with pytest.raises(
        ValueError,
        match="lifetime 0, episode 0, step 1: .* with reward 5.0 cannot have been; 1 of 8",
    ):
        counterfactual(lives, env, reward=paid)


def test_an_edited_action_needs_its_consequences():
    lives = ad.collect(ROOM, ROOM.tasks()[:6], ad.sources.Random(), episodes=4, seed=3)
    actions = lives.arrays["action"].copy()
    actions[2, 1, 0] = 0 if actions[2, 1, 0] else 1  # from the centre, every move leads elsewhere
    with pytest.raises(
        ValueError, match="lifetime 2, episode 1, step 1: .*Edit what follows from the change too"
    ):
        counterfactual(lives, ROOM, action=actions)
    consequences = ad.collect(ROOM, ROOM.tasks()[:6], Script(actions), episodes=4).arrays
    edited = counterfactual(
        lives, ROOM, action=actions, **{k: consequences[k] for k in ("obs", "reward", "final_obs")}
    )
    assert (edited.arrays["obs"] != lives.arrays["obs"]).any() and lives.arrays["action"][
        2, 1, 0
    ] != actions[2, 1, 0]
    ad.testing.check_histories(edited)


def test_what_comes_after_the_last_token_read_need_not_be_possible():
    lives = ad.collect(ROOM, ROOM.tasks()[:2], ad.sources.Random(), episodes=3)
    obs = lives.arrays["obs"].copy()
    obs[:, 1, 4] = [0, 4] if (obs[0, 1, 4] != [0, 4]).any() else [4, 0]
    before, at = np.zeros((2, 2, 3, 9), bool)
    before[:, 1, 3], at[:, 1, 4] = True, True
    assert (
        counterfactual(lives, ROOM, obs=obs, read=before).arrays["obs"][0, 1, 4].tolist()
        == obs[0, 1, 4].tolist()
    )
    with pytest.raises(ValueError, match="episode 1, step 4"):
        counterfactual(lives, ROOM, obs=obs, read=at)


def test_a_world_without_tables_says_itself_what_was_possible():
    lives = ad.collect(ROOM, ROOM.tasks()[:3], ad.sources.Random(), episodes=2)
    never_west = lambda h: np.concatenate(
        [np.ones((3, 2, 1), bool), h.arrays["action"] != 3], axis=2
    )

    class World:
        spec = ROOM.spec
        replay = staticmethod(never_west)

    for world in (never_west, World()):
        assert counterfactual(lives, world, action=np.zeros((3, 2, 8))).arrays["action"].max() == 0
        with pytest.raises(ValueError, match="after action 3"):
            counterfactual(lives, world, action=np.full((3, 2, 8), 3))
    with pytest.raises(
        ValueError, match=r"replay answered bool \(3,\); it must say bool \(3, 2, 9\)"
    ):
        possible(lambda h: np.ones(3, bool), lives)
    with pytest.raises(ValueError, match="Watermaze publishes neither replay"):
        possible(ad.envs.Watermaze(), lives)
    with pytest.raises(ValueError, match="an edit of 'action'"):
        counterfactual(lives, ROOM, action=np.zeros(3))


# ---- erasing ----


def test_erasing_what_is_used_costs_more_than_erasing_at_random(model, histories):
    """Judged against the model's own choices: the logit margin of action 0 is used, noise is not."""
    lives = histories[:40]
    stream = ad.record(model, lives, LAST)
    logits = ad.record(model, lives, "logits").array
    loss = action_loss(lives, policy=torch.as_tensor(logits[:, :, :-1]).softmax(-1).numpy())
    used = erasure_effect(
        model, lives, {LAST: erase(stream, logits[..., 0] - logits.mean(-1))}, loss, random=19
    )
    assert used.p == 0.05 and used.excess.mean() > 0.02
    noise = np.random.default_rng(0).normal(size=logits.shape[:3])
    unused = erasure_effect(model, lives, {LAST: erase(stream, noise)}, loss, random=19)
    assert unused.p > 0.05 and unused.excess.mean() < 0.02
    nowhere = erasure_effect(
        model, lives, {LAST: erase(stream, noise)}, loss, random=1, at=np.zeros(noise.shape, bool)
    )
    np.testing.assert_array_equal(nowhere.erased, nowhere.clean)


def test_the_loss_of_actions_is_cross_entropy_on_decisions_that_were_taken(world):
    model, lives = world
    logits = ad.record(model, lives, "logits").array
    log_p = torch.as_tensor(logits).log_softmax(-1).numpy()
    n, e = 3, 2
    steps = range(lives.length[n, e])
    by_hand = -np.mean([log_p[n, e, t, lives.arrays["action"][n, e, t]] for t in steps])
    where = np.zeros(lives.arrays["action"].shape, bool)
    where[n, e, : lives.length[n, e]] = True
    loss = action_loss(lives, where)(logits)
    assert loss[n] == pytest.approx(by_hand, rel=1e-5) and np.isnan(np.delete(loss, n)).all()
    with pytest.raises(ValueError, match="choose decisions that were taken"):
        action_loss(lives, np.ones((6, 9), bool))


# ---- steering ----


@pytest.fixture(scope="module")
def steered(model, histories):
    """The last stream steered towards action 0, which was planted in it: the head's own direction."""
    lives = histories[:40]
    far = np.zeros((40, 8, 9), bool)
    far[:, :4, :8] = True
    head = model.head.weight.detach().numpy().astype(float)
    vector = head[0] - head[1:].mean(0)
    outcome = lambda logits: prefers(0, (slice(None), slice(4, None), slice(8)))(logits).mean(
        (1, 2)
    )
    run = lambda v, random=1, **how: steer(
        model, lives, LAST, v, outcome, unrelated=far, random=random, **how
    )
    return run, vector


def test_a_planted_direction_has_a_dose_response(steered):
    run, vector = steered
    steering = run(vector, random=39)
    assert (
        steering.slope.low > 0
        and steering.spearman == pytest.approx(1)
        and steering.anti_steerable == 0
    )
    assert steering.p("norm") == steering.p("kl") == 1 / 40 and 0 < steering.ed50 < 4
    assert (
        steering.doses.tolist() == [-4, -2, -1, 0, 1, 2, 4]
        and steering.kl[3] == 0
        and (np.diff(steering.kl[3:]) > 0).all()
    )
    np.testing.assert_allclose(steering.reached_kl, steering.kl[[0, -1]].mean(), rtol=0.1)
    assert np.abs(steering.random_kl).mean() > np.abs(steering.random_norm).mean(), (
        "harmless vectors must grow to do equal harm"
    )


def test_a_random_direction_has_none_beyond_other_random_directions(steered):
    run, _ = steered
    rng = np.random.default_rng(3)
    assert (
        np.mean([run(rng.normal(size=16), random=9, doses=(-4, 4)).p("norm") for _ in range(3)])
        > 0.2
    )


def test_nothing_is_left_at_the_last_layer_without_the_unembedding(steered, model):
    run, vector = steered
    left, share = off_unembedding(vector + 0.1, model)
    assert share > 0.9 and off_unembedding(left, model)[1] < 1e-9
    off = run(left, doses=(-1, 1))
    assert np.abs(off.slope.estimate) < 0.2 * run(vector, doses=(-1, 1)).slope.estimate


def test_steering_acts_where_it_is_told_to(steered, model, histories):
    run, vector = steered
    nowhere_read, read = np.zeros((2, 40, 8, 9), bool)
    nowhere_read[:, :4], read[:, 4:] = True, True
    assert not run(vector, doses=(-1, 1), at=nowhere_read).swing.any()
    np.testing.assert_allclose(
        run(vector, doses=(-1, 1), at=read).slope.estimate,
        run(vector, doses=(-1, 1)).slope.estimate,
        rtol=0.1,
    )


def test_means_are_compared_within_matched_cells():
    """The label is confounded with the cell: unmatched, the difference points along the confound."""
    rng = np.random.default_rng(0)
    cell = rng.integers(5, size=400)
    high = rng.random(400) < cell / 5 + 0.1
    x = (
        10 * cell[:, None] * np.eye(3)[0]
        + high[:, None] * np.eye(3)[1]
        + 0.1 * rng.normal(size=(400, 3))
    )
    np.testing.assert_allclose(difference_of_means(x, high, cell), [0, 1, 0], atol=0.05)
    assert difference_of_means(x, high)[0] > 5
    with pytest.raises(ValueError, match="none of 400 cells of match has both"):
        difference_of_means(x, high, np.arange(400))
    with pytest.raises(ValueError, match=r"give \(n, D\), bool \(n,\), \(n,\)"):
        difference_of_means(x, high.astype(float))


def test_a_wrong_dose_or_vector_is_refused(steered):
    run, vector = steered
    for wrong in (dict(v=vector[:3]), dict(v=0 * vector), dict(v=vector, doses=(1, 2))):
        with pytest.raises(ValueError, match="doses of both signs"):
            run(**wrong)
    with pytest.raises(
        ValueError, match=r"random vectors \(2, 3\); give how many, at least 1, or \(R, 16\)"
    ):
        run(vector, random=np.ones((2, 3)))
