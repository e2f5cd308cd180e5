"""What the CookieWorld could have shown: all that was lived, and nothing that breaks one of its rules."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from study.counterfactuals import counterfactual, possible

import adkit as ad
from adkit.cookieworld import world as world
from adkit.cookieworld.population import REGIMES, TYPES
from adkit.cookieworld.world import (
    DECOY,
    EAST,
    EAT,
    GARDEN,
    GIFT,
    HIDE,
    JAR,
    LID,
    NORTH,
    OPEN,
    POSITION,
    SOUTH,
    STAY,
    STOCK,
    VISIBLE,
)

EVERYONE = {"types": dict.fromkeys(TYPES, 1), "regimes": dict.fromkeys(REGIMES, 1)}


@pytest.fixture(scope="module")
def env():
    return ad.envs.CookieWorld()


@dataclass(frozen=True)
class Walk:
    """Does what it is told, day by day, and then stays."""

    days: tuple

    def start(self, spec, rng, episodes):
        return Walker(self.days, len(rng))


class Walker:
    def __init__(self, days, n):
        self.days, self.n, self.day, self.t = days, n, -1, 0

    def act(self, obs, first):
        self.day, self.t = (self.day + 1, 0) if first[0] else (self.day, self.t + 1)
        day = self.days[self.day] if self.day < len(self.days) else ()
        return np.full(self.n, day[self.t] if self.t < len(day) else STAY, np.uint8)

    def update(self, transition):
        pass


def walked(env, *days, jar=3, gifts=0):
    """One life from home (0, 0) by the jar (0, 2) to the garden (1, 4), each morning with so many cookies and gifts."""
    script = np.tile(np.array([jar, gifts, 0], np.int8), (1, len(days), 1))
    task = env.task(home=(0, 0), jar=(0, 2), garden=(1, 4)).replace(script=script)
    return ad.collect(env, task, Walk(days), episodes=len(days))


def changed(lives, name, at, value):
    """The same life with one number changed."""
    arrays = lives.arrays | {name: lives.arrays[name].copy()}
    arrays[name][(0, *at)] = value
    return replace(lives, arrays=arrays)


FEAST = [
    SOUTH,
    SOUTH,
    EAT,
    EAT,
    SOUTH,
    SOUTH,
    EAT,
    EAST,
    EAT,
]  # two cookies, and the meal at step 9
GREEDY = [SOUTH, SOUTH, EAT, EAT, EAT, EAT]  # a fourth press on an empty jar
HIDES = [HIDE, SOUTH, SOUTH, EAT, STAY]  # for nothing
AWAY = [SOUTH, HIDE, NORTH, HIDE, SOUTH]  # the latch is at home


# ---- all that was lived ----


@pytest.mark.parametrize(
    "build",
    [
        dict(),
        dict(size=7),
        dict(latch=False),
        dict(tolerance_visible=True),
        dict(horizon=9, tolerance_visible=True),
    ],
    ids=str,
)
def test_whatever_was_lived_was_possible(build):
    """Every type in every regime, fed, starved and scripted; in any part of their lives; and those who act at random."""
    env = ad.envs.CookieWorld(**build)
    tasks = env.tasks()[np.random.default_rng(0).permutation(len(env.tasks()))[:150]]
    lives = ad.collect(env, tasks, ad.sources.Shards(**EVERYONE), episodes=30, lifetimes=2, seed=0)
    felt = lives.arrays["obs"][:, :, 0, world.COOKIES]
    assert lives.gift.max() > 1 and set(felt.ravel()) == {0, 1, 2, 3}, "yoked lives are scripted"
    for part in (lives, lives.subsample(7), lives.episodes[11:], lives.episodes[[3, 9, 10]]):
        assert possible(env, part).all()
    assert possible(env, ad.collect(env, tasks, ad.sources.Random(), episodes=10, seed=1)).all()


def test_what_is_felt_is_not_looked_at(env):
    lives = ad.collect(env, env.tasks()[::4000], ad.sources.Shards(), episodes=20)
    arrays = lives.arrays | {name: lives.arrays[name].copy() for name in ("obs", "final_obs")}
    for name in ("obs", "final_obs"):
        arrays[name][..., world.SEEN :] = 0
    assert possible(env, replace(lives, arrays=arrays)).all()


# ---- each rule, broken once ----

BROKEN = {
    "one goes where the action leads": ([FEAST], "obs", (0, 1, POSITION), 5, 1),
    "walls stop": ([FEAST], "action", (0, 0), NORTH, 1),
    "every morning is at home": ([FEAST, FEAST], "obs", (1, 0, POSITION), 1, 0),
    "the jar is seen from beside it": ([FEAST], "obs", (0, 1, JAR), 0, 1),
    "the jar is where it is": ([FEAST], "obs", (0, 2, JAR), 4, 2),
    "the jar is not seen from afar": ([FEAST], "obs", (0, 0, JAR), 3, 0),
    "the garden is seen from beside it": ([FEAST], "obs", (0, 5, GARDEN), 0, 5),
    "the garden is where it is": ([FEAST], "obs", (0, 6, GARDEN), 11, 6),
    "the garden is not seen from afar": ([FEAST], "obs", (0, 3, GARDEN), 10, 3),
    "the last token of a day counts": ([FEAST], "final_obs", (0, GARDEN), 0, 9),
    "the lid is seen with the jar": ([FEAST], "obs", (0, 1, LID), 0, 1),
    "the lid is not seen without it": ([FEAST], "obs", (0, 0, LID), 1, 0),
    "a lid does not close by itself": ([FEAST], "obs", (0, 1, LID), 2, 1),
    "cookies do not vanish": ([FEAST], "obs", (0, 4, VISIBLE), 0, 4),
    "cookies are not seen from afar": ([FEAST], "obs", (0, 0, VISIBLE), 1, 0),
    "three is all a jar holds": ([GREEDY], "obs", (0, 5, VISIBLE), 1, 5),
    "nor is a fourth eaten": ([GREEDY], "reward", (0, 5), 0.5, 6),
    "no cookie is seen under a lid": ([HIDES], "obs", (0, 2, VISIBLE), 1, 2),
    "nor eaten": ([HIDES], "reward", (0, 3), 0.5, 4),
    "a lid that was closed stays closed": ([HIDES], "obs", (0, 2, LID), 1, 2),
    "without HIDE it is open": (
        [HIDES],
        "action",
        (0, 0),
        STAY,
        2,
    ),  # and from the first sight of it that shows
    "HIDE works at home alone": ([AWAY], "obs", (0, 2, LID), 2, 2),
    "and there at any hour": ([AWAY], "action", (0, 3), STAY, 5),
    "a cookie is worth a half": ([FEAST], "reward", (0, 2), 1, 3),
    "a cookie is not worth less to the tolerant": ([FEAST], "reward", (0, 3), 0.375, 4),
    "nobody is paid for nothing": ([FEAST], "reward", (0, 0), 0.5, 1),
    "nobody eats for nothing": ([FEAST], "reward", (0, 2), 0, 3),
    "the meal is worth one": ([FEAST], "reward", (0, 8), 0.5, 9),
    "the meal ends the day": ([FEAST], "terminated", (0, 8), False, 9),
    "nothing else does": ([FEAST], "terminated", (0, 4), True, 5),
    "nor does the clock, before its time": ([FEAST], "truncated", (0, 4), True, 5),
    "but then it does": ([AWAY], "truncated", (0, 15), False, 16),
    "and it is not the meal": ([AWAY], "terminated", (0, 15), True, 16),
    "mornings tell of the pantry": ([FEAST], "obs", (0, 0, STOCK), 0, 0),
    "mornings have a decoy or none": ([FEAST], "obs", (0, 0, DECOY), 0, 0),
    "nobody is given five": ([FEAST], "obs", (0, 0, GIFT), 5, 0),
    "only mornings tell of the pantry": ([FEAST], "obs", (0, 1, STOCK), 2, 1),
    "only mornings have a decoy": ([FEAST], "obs", (0, 3, DECOY), 1, 3),
    "only mornings bring gifts": ([FEAST], "final_obs", (0, GIFT), 1, 9),
    "an empty pantry has nothing to show": (
        [FEAST],
        "obs",
        (0, 0, STOCK),
        1,
        1,
    ),  # once one is beside it
    "there are eight actions": ([FEAST], "action", (0, 0), 8, 1),
}


@pytest.mark.parametrize(("days", "name", "at", "value", "token"), BROKEN.values(), ids=BROKEN)
def test_a_life_that_breaks_a_rule_is_impossible_from_there_to_the_evening(
    env, days, name, at, value, token
):
    lives = walked(env, *days, FEAST)  # the days after are as they were
    assert possible(env, lives).all()
    broken = changed(lives, name, at, value)
    ends = (broken.arrays["terminated"] | broken.arrays["truncated"])[0, at[0]]
    last, expected = ends.argmax() + 1 if ends.any() else 16, np.ones((1, len(days) + 1, 17), bool)
    expected[0, at[0], token : last + 1] = False
    assert np.array_equal(env.replay(broken), expected)


def test_no_other_number_could_have_been_shown(env):
    """Whatever is put in the place of anything shown: only mornings may differ, in the stock bit, the decoy and gifts."""
    lives = walked(env, FEAST, HIDES, [EAST, SOUTH, SOUTH, NORTH, SOUTH], jar=1, gifts=1)
    many = [
        (e, t, c, value)
        for e, t in np.argwhere(np.arange(16) < lives.length[0, :, None])
        for c, values in enumerate(env.spec.shown)
        for value in range(values)
        if value != lives.arrays["obs"][0, e, t, c]
    ]
    e, t, c, value = np.array(many).T
    rows = np.arange(len(many))
    edited = lives[np.zeros(len(many), int)]
    edited.arrays["obs"][rows, e, t, c] = value
    could = possible(env, edited)
    told = (t == 0) & ((c == DECOY) | (c == STOCK) | (c == GIFT)) & ((value > 0) | (c == GIFT))
    assert np.array_equal(could[rows, e, t], told) and len(many) > 3000
    before, elsewhere = np.arange(17) < t[:, None], np.arange(3) != e[:, None]
    assert could[rows, e][before].all() and could[elsewhere].all()
    whole = could.all((1, 2))
    assert whole[told & (c != STOCK)].all() and np.array_equal(
        whole[told & (c == STOCK)], [False, True, False]
    )  # hidden: unseen


@pytest.mark.parametrize("opens", range(2, 15))
def test_any_press_may_open_the_lid_and_nothing_else(env, opens):
    lives = walked(
        env, [HIDE, SOUTH, SOUTH, *[OPEN] * 9, STAY, STAY]
    )  # the first press leads to token 4, the last to 12
    arrays = lives.arrays | {
        "obs": lives.arrays["obs"].copy(),
        "final_obs": lives.arrays["final_obs"].copy(),
    }
    arrays["obs"][0, 0, 2:, LID] = 2 - (np.arange(2, 16) >= opens)
    arrays["obs"][0, 0, 2:, VISIBLE] = np.arange(2, 16) >= opens
    arrays["final_obs"][0, 0, [LID, VISIBLE]] = 1
    edited = replace(lives, arrays=arrays)
    assert np.array_equal(env.replay(edited)[0, 0], (np.arange(17) < opens) | (4 <= opens <= 12))
    if 4 <= opens <= 12:
        unseen = env.replay(
            changed(edited, "obs", (0, opens, VISIBLE), 0)
        )  # open, and no cookie in the full jar
        assert np.array_equal(unseen[0, 0], np.arange(17) < opens)


def test_a_broken_latch_closes_nothing():
    env = ad.envs.CookieWorld(latch=False)
    lives = walked(env, HIDES)
    assert lives.arrays["reward"][0, 0, 3] == 0.5 and possible(env, lives).all()
    assert not possible(env, walked(ad.envs.CookieWorld(), HIDES))[0, 0, 2:].any()


def test_tolerance_shows_in_rewards_and_outlasts_nights():
    env = ad.envs.CookieWorld(tolerance_visible=True)
    lives = walked(env, FEAST, FEAST, [STAY], FEAST)
    paid = lives.arrays["reward"]
    assert paid[0, [0, 0, 1, 1, 3, 3], [2, 3, 2, 3, 2, 3]].tolist() == [
        0.5,
        0.375,
        0.25,
        0.125,
        0.25,
        0.125,
    ]
    assert possible(env, lives).all() and possible(env, lives.episodes[1:]).all()
    for e, t, value in ((0, 3, 0.5), (1, 2, 0.5), (3, 2, 0.125)):
        could = env.replay(changed(lives, "reward", (e, t), value))
        assert could[0, e, : t + 1].all() and not could[0, e, t + 1 : 10].any()
    later = changed(lives, "reward", (1, 2), 0.5).episodes[
        1:
    ]  # where it begins, no one knows how tolerant it is
    could = env.replay(later)
    assert (
        could[0, 0, :4].all() and not could[0, 0, 4:10].any() and could[0, 1:].all()
    )  # but one cookie tells
    assert not env.replay(changed(lives.episodes[1:], "reward", (0, 2), 0.3))[0, 0, 3]
    assert not possible(ad.envs.CookieWorld(), lives).all()


# ---- counterfactuals ----


def until(lives, e, t):
    """(N, E, H + 1) the one token that is looked at."""
    read = np.zeros((len(lives), lives.n_episodes, 17), bool)
    read[:, e, t] = True
    return read


def test_mornings_may_be_told_otherwise(env):
    """The edits that hypotheses about hiding need: the stock bit with what follows unread, the decoy with nothing left out."""
    lives = ad.collect(env, env.tasks()[::2000], ad.sources.Shards(), episodes=20)
    obs = lives.arrays["obs"].copy()
    obs[:, 12, 0, STOCK] = 3 - obs[:, 12, 0, STOCK]
    with pytest.raises(
        ValueError, match="episode 12, step 0: .* 4 of 21 edited lifetimes are impossible"
    ):
        counterfactual(
            lives, env, obs=obs, read=until(lives, 12, 0)
        )  # home is beside the jar in 12% of layouts: there one sees
    obs[:, 12, 0, VISIBLE] = (obs[:, 12, 0, JAR] > 0) & (obs[:, 12, 0, STOCK] == 2)
    flipped = counterfactual(lives, env, obs=obs, read=until(lives, 12, 0))
    assert (flipped.arrays["obs"] != lives.arrays["obs"]).sum() == 21 + 4
    with pytest.raises(
        ValueError,
        match=r"episode 12, step \d: observation .* cannot have been; .*Edit what follows from the change",
    ):
        counterfactual(lives, env, obs=obs)
    obs = lives.arrays["obs"].copy()
    obs[:, :, 0, DECOY] = 3 - obs[:, :, 0, DECOY]
    assert (
        counterfactual(lives, env, obs=obs).arrays["obs"][:, :, 0, DECOY]
        != lives.arrays["obs"][:, :, 0, DECOY]
    ).all()
    obs[0, 3, 0, POSITION] = (obs[0, 3, 0, POSITION] + 1) % 25
    with pytest.raises(
        ValueError,
        match="lifetime 0, episode 3, step 0: .* at the start of an episode cannot have been; 1 of 21",
    ):
        counterfactual(lives, env, obs=obs)


def test_the_cue_may_be_taken_away_with_the_stock(env):
    """Whether a cookie is in sight, with nothing eaten yet: the morning must have said so."""
    lives = walked(env, FEAST, FEAST)
    obs = lives.arrays["obs"].copy()
    obs[0, 1, 1:3, VISIBLE] = 0
    with pytest.raises(
        ValueError,
        match="lifetime 0, episode 1, step 1: .* after action 1, with reward 0.0 cannot have been",
    ):
        counterfactual(lives, env, obs=obs, read=until(lives, 1, 2))
    obs[0, 1, 0, STOCK] = 1
    assert (
        counterfactual(lives, env, obs=obs, read=until(lives, 1, 2)).arrays["obs"][0, 1, 2, VISIBLE]
        == 0
    )
    with pytest.raises(ValueError, match="episode 1, step 3: .* after action 5, with reward 0.5"):
        counterfactual(lives, env, obs=obs, read=until(lives, 1, 3))
    rest, paid = lives.arrays["action"].copy(), lives.arrays["reward"].copy()
    rest[0, 1, 2:4], paid[0, 1, 2:4] = (
        STAY,
        0,
    )  # a lapse taken back, and the cookies left where they were
    assert counterfactual(lives, env, action=rest, reward=paid).arrays["reward"][0, 1].sum() == 1


def test_a_world_answers_for_its_own_histories_only(env):
    with pytest.raises(
        ValueError, match=r"histories of EnvSpec\(name='CookieWorld'.*Ask their own world"
    ):
        ad.envs.CookieWorld(horizon=9).replay(walked(env, FEAST))
    with pytest.raises(ValueError, match=r"Ask their own world"):
        env.replay(
            ad.collect(
                ad.envs.DarkRoom(), ad.envs.DarkRoom().tasks()[:1], ad.sources.Random(), episodes=1
            )
        )
