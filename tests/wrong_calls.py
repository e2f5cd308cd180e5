"""Three wrong calls of each public function: `python tests/wrong_calls.py` prints the table of what they say."""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

import adkit as ad
from adkit import cookies, edits, stats, study
from adkit.endpoints import compression, drift

ROOM = ad.envs.DarkRoom(size=4, horizon=6)
HOLE = ad.envs.CookieWorld()
SPEC = {"name": "x", "n_actions": 2, "horizon": 5, "cardinality": (3,)}
NOTEBOOKS = Path(ad.__file__).parents[1] / "notebooks"


@cache
def lives(episodes: int = 6) -> ad.Histories:
    return ad.collect(ROOM, ROOM.tasks()[:4], ad.sources.Random(), episodes=episodes, lifetimes=2)


@cache
def model() -> ad.CausalTransformer:
    return ad.CausalTransformer(ROOM.spec, context=24, layers=2, heads=2, width=8)


@cache
def creatures() -> ad.Histories:
    return ad.collect(HOLE, HOLE.tasks()[:4], ad.sources.Shards(), episodes=3)


@cache
def resid() -> ad.taps.Recording:
    return ad.record(model(), lives(), "blocks.0.resid")


@cache
def hypotheses() -> dict:
    return ad.probing.load_hypotheses(NOTEBOOKS / "hypotheses.yaml")


def saved() -> Path:
    folder = Path(tempfile.mkdtemp())
    lives().save(folder / "lives")
    (folder / "lives" / "obs.npy").write_bytes(b"nonsense")
    return folder / "lives"


def collect(**how):
    return ad.collect(**{"env": ROOM, "tasks": ROOM.tasks(), "agent": ad.sources.Random(), "episodes": 1} | how)


def transformer(**how):
    return ad.CausalTransformer(**{"spec": ROOM.spec, "context": 24, "layers": 1, "width": 8} | how)


CALLS = {
    # ---- environments and tasks ----
    "EnvSpec": [
        lambda: ad.EnvSpec(**SPEC | {"n_actions": 1}),
        lambda: ad.EnvSpec(**SPEC | {"horizon": 0}),
        lambda: ad.EnvSpec(**SPEC | {"shape": (2,)}),
    ],
    "Tasks": [lambda: ad.Tasks({"a": np.zeros(2), "b": np.zeros(3)}), lambda: ad.Tasks.of([1, 2]), lambda: ROOM.tasks()["wind"]],
    "Tasks.split": [
        lambda: ROOM.tasks().split(1.0),
        lambda: ROOM.tasks().split(0.01),
        lambda: ROOM.tasks().split(0.5, by=("wind",)),
    ],
    "DarkRoom": [lambda: ad.envs.DarkRoom(size=1), lambda: ad.envs.DarkRoom(reward="sparse"), lambda: ROOM.task(goal=(9, 0))],
    "DarkKeyToDoor": [
        lambda: ad.envs.DarkKeyToDoor(size=1),
        lambda: ad.envs.DarkKeyToDoor(start="left"),
        lambda: ad.envs.DarkKeyToDoor().task(key=(0, 0), door=(9, 9)),
    ],
    "AdversarialBandit": [
        lambda: ad.envs.AdversarialBandit(arms=1),
        lambda: ad.envs.AdversarialBandit(horizon=0),
        lambda: ad.envs.AdversarialBandit(bias="left"),
    ],
    "Watermaze": [
        lambda: ad.envs.Watermaze(view=(0, 0)),
        lambda: ad.envs.Watermaze(view=(10_000, 10_000)),
        lambda: ad.envs.Watermaze(ends="never"),
    ],
    "CookieWorld": [
        lambda: ad.envs.CookieWorld(size=9),
        lambda: ad.envs.CookieWorld(horizon=0),
        lambda: HOLE.task(home=(0, 0), jar=(0, 1), garden=(4, 4)),
    ],
    "from_gymnasium": [
        lambda: ad.envs.from_gymnasium("Nonsense-v0"),
        lambda: ad.envs.from_gymnasium("Pendulum-v1"),
        lambda: ad.envs.from_gymnasium("CartPole-v1", horizon=0),
    ],
    "optimal_returns": [
        lambda: ad.optimal_returns(HOLE, HOLE.tasks()[:1]),
        lambda: ad.optimal_returns(ROOM, {}),
        lambda: ad.optimal_returns(ROOM, [1, 2]),
    ],
    # ---- sources ----
    "QLearning": [
        lambda: ad.sources.QLearning(lr=0),
        lambda: ad.sources.QLearning(gamma=1.0),
        lambda: collect(env=ad.envs.Watermaze(), tasks=ad.envs.Watermaze().tasks()[:1], agent=ad.sources.QLearning()),
    ],
    "PosteriorSampling": [
        lambda: ad.sources.PosteriorSampling(noise=-1),
        lambda: ad.sources.PosteriorSampling(greed=-1),
        lambda: ad.sources.PosteriorSampling().start(ROOM.spec, ad.Rng.of(0)),
    ],
    "UCB": [lambda: collect(agent=ad.sources.UCB()), lambda: ad.sources.UCB(-1.0), lambda: ad.sources.UCB(float("nan"))],
    "ThompsonSampling": [
        lambda: collect(agent=ad.sources.ThompsonSampling()),
        lambda: ad.sources.ThompsonSampling().start(HOLE.spec, ad.Rng.of(0)),
        lambda: ad.sources.ThompsonSampling().start(ROOM.spec, ad.Rng.of(0)),
    ],
    "SystematicExplorer": [
        lambda: ad.sources.SystematicExplorer().start(ROOM.spec, ad.Rng.of(0)),
        lambda: ad.collect(HOLE, HOLE.tasks()[:1], ad.sources.SystematicExplorer(), episodes=1),
        lambda: ad.collect(
            ad.envs.AdversarialBandit(), ad.envs.AdversarialBandit().tasks()[:1], ad.sources.SystematicExplorer(), episodes=0
        ),
    ],
    "Optimal": [
        lambda: ad.sources.Optimal().start(ROOM.spec, ad.Rng.of(0)),
        lambda: ad.collect(HOLE, HOLE.tasks()[:1], ad.sources.Optimal(), episodes=1),
        lambda: collect(agent=ad.sources.Optimal(), lifetimes=0),
    ],
    "GoalSearch": [
        lambda: ad.sources.GoalSearch(noise=-1),
        lambda: ad.sources.GoalSearch(noise=2),
        lambda: collect(agent=ad.sources.GoalSearch()),
    ],
    "PoseQLearning": [
        lambda: ad.sources.PoseQLearning(bins=(0, 1, 1)),
        lambda: ad.sources.PoseQLearning(lr=0),
        lambda: collect(agent=ad.sources.PoseQLearning()),
    ],
    "ActorCritic": [
        lambda: ad.sources.ActorCritic(lr=-1),
        lambda: ad.sources.ActorCritic(gamma=2),
        lambda: ad.sources.ActorCritic(width=0),
    ],
    "DQN": [lambda: ad.sources.DQN(lr=-1), lambda: ad.sources.DQN(gamma=2), lambda: ad.sources.DQN(width=0)],
    "Shards": [
        lambda: ad.sources.Shards({"X": 1}),
        lambda: ad.sources.Shards(walk=(2, 0.1)),
        lambda: collect(agent=ad.sources.Shards()),
    ],
    "StableBaselines3": [
        lambda: ad.sources.StableBaselines3("SAC"),
        lambda: ad.sources.StableBaselines3("PPO", seed=1),
        lambda: collect(agent=ad.sources.StableBaselines3("PPO", nonsense=1)),
    ],
    # ---- histories ----
    "collect": [lambda: collect(episodes=0), lambda: collect(driver="fast"), lambda: collect(retries=-1)],
    "Rng": [lambda: ad.Rng.of(-1), lambda: ad.Rng.of(0.5), lambda: ad.Rng.of("0")],
    "Histories.subsample": [lambda: lives().subsample(0), lambda: lives().subsample(7), lambda: lives().subsample(-1)],
    "Histories.episodes": [lambda: lives().episodes[9:], lambda: lives().episodes[[]], lambda: lives().episodes[6:6]],
    "Histories.windows": [
        lambda: lives().windows(np.array([0]), np.array([4]), 3),
        lambda: lives().windows(np.array([0]), np.array([-1]), 3),
        lambda: lives().windows(np.array([0]), np.array([0]), 0),
    ],
    "Histories.concatenate": [
        lambda: ad.Histories.concatenate([lives(), creatures()]),
        lambda: ad.Histories.concatenate([lives(), lives(5)]),
        lambda: ad.Histories.concatenate([]),
    ],
    "Histories.load": [
        lambda: ad.Histories.load(saved()),
        lambda: ad.Histories.load(NOTEBOOKS),
        lambda: ad.Histories.load(ad.find("dark_room/ad")),
    ],
    "Histories.to_minari": [
        lambda: lives().to_minari("no namespace", tempfile.mkdtemp()),
        lambda: lives().to_minari("a/b", tempfile.mkdtemp()),
        lambda: lives().to_minari("", tempfile.mkdtemp()),
    ],
    "ParticleFilter": [
        lambda: ad.ParticleFilter(ad.sources.Shards(), particles=1),
        lambda: ad.ParticleFilter(ad.sources.Shards()).follow(lives()),
        lambda: ad.ParticleFilter(ad.sources.Random()),
    ],
    "stats.bootstrap": [
        lambda: stats.bootstrap(np.zeros((0, 3))),
        lambda: stats.bootstrap(np.zeros(3)),
        lambda: stats.bootstrap(np.zeros((3, 2)), level=2),
    ],
    "stats.hierarchical": [
        lambda: stats.hierarchical(np.zeros(4), [np.zeros(3)]),
        lambda: stats.hierarchical(np.zeros(0)),
        lambda: stats.hierarchical(np.zeros(4), level=2),
    ],
    "stats.exchange_p": [
        lambda: stats.exchange_p([1.0], [1.0]),
        lambda: stats.exchange_p([1.0, 2.0], [[1.0]]),
        lambda: stats.exchange_p([1.0], [[np.nan]]),
    ],
    # ---- models ----
    "CausalTransformer": [lambda: transformer(context=5), lambda: transformer(heads=3), lambda: transformer(layers=0)],
    "distill": [
        lambda: ad.distill(transformer(), creatures()),
        lambda: ad.distill(transformer(), lives(), steps=0),
        lambda: ad.distill(transformer(), lives(), lr=-1),
    ],
    "InContext": [
        lambda: ad.InContext(model(), memory="all"),
        lambda: ad.InContext(model(), temperature=0),
        lambda: ad.InContext(model(), prompt=lives()),
    ],
    "pretrain_encoder": [
        lambda: ad.pretrain_encoder(model(), lives()),
        lambda: ad.pretrain_encoder(model(), lives(), steps=0),
        lambda: ad.pretrain_encoder(model(), creatures()),
    ],
    "distill_encoder": [
        lambda: ad.distill_encoder(model(), model(), lives()),
        lambda: ad.distill_encoder(model(), model(), lives(), steps=0),
        lambda: ad.distill_encoder(model(), model(), creatures()),
    ],
    "distill_recurrent": [
        lambda: ad.distill_recurrent(ad.RecurrentPolicy(ROOM.spec), creatures(), episodes=2),
        lambda: ad.distill_recurrent(ad.RecurrentPolicy(ROOM.spec), lives(), episodes=2, steps=0),
        lambda: ad.distill_recurrent(ad.RecurrentPolicy(ROOM.spec), lives(), episodes=99),
    ],
    "RecurrentPolicy": [
        lambda: ad.RecurrentPolicy(ROOM.spec, width=0),
        lambda: ad.RecurrentPolicy(ROOM.spec, width=-3),
        lambda: ad.RecurrentPolicy.load(NOTEBOOKS),
    ],
    "train_rl2": [
        lambda: ad.train_rl2(ad.RecurrentPolicy(ROOM.spec), ROOM, ROOM.tasks(), steps=0),
        lambda: ad.train_rl2(ad.RecurrentPolicy(ROOM.spec), HOLE, HOLE.tasks()),
        lambda: ad.train_rl2(ad.RecurrentPolicy(ROOM.spec), ROOM, ROOM.tasks()[:0]),
    ],
    "RL2": [
        lambda: ad.RL2(ad.RecurrentPolicy(ROOM.spec), memory="all"),
        lambda: ad.RL2(ad.RecurrentPolicy(ROOM.spec)).start(HOLE.spec, ad.Rng.of(0)),
        lambda: collect(agent=ad.RL2(ad.RecurrentPolicy(HOLE.spec))),
    ],
    "find": [lambda: ad.find("no/such"), lambda: ad.find(""), lambda: ad.find("dark_room")],
    # ---- inside ----
    "record": [
        lambda: ad.record(model(), lives(), "blocks.9.resid"),
        lambda: ad.record(model(), creatures(), "embed"),
        lambda: ad.record(model(), lives(), "embed", batch=0),
    ],
    "edit": [
        lambda: ad.edit(model(), {"blocks.9.resid": lambda x: x}).__enter__(),
        lambda: ad.edit(model(), {"nonsense": lambda x: x}).__enter__(),
        lambda: ad.edit(model(), {"embed": 3}).__enter__(),
    ],
    "probing.fit": [
        lambda: ad.probing.fit(resid(), np.zeros(3)),
        lambda: ad.probing.fit(resid(), np.zeros(4), l2=-1),
        lambda: ad.probing.fit(resid(), np.arange(4.0), holdout="some"),
    ],
    "probing.erase": [
        lambda: ad.probing.erase(resid(), np.zeros(3)),
        lambda: ad.probing.erase(resid(), np.zeros(4), where=np.ones(3, bool)),
        lambda: ad.probing.erase(np.zeros((4, 3)), np.full(4, np.nan)),
    ],
    "probing.steer": [
        lambda: ad.probing.steer(model(), lives(), "nonsense", np.zeros(8), lambda x: x),
        lambda: ad.probing.steer(model(), lives(), "blocks.0.resid", np.zeros(3), lambda x: x),
        lambda: ad.probing.steer(model(), lives(), "blocks.0.resid", np.zeros(8), lambda x: x),
    ],
    "probing.patch": [
        lambda: ad.probing.patch(model(), lives(), lives(5), "blocks.0.resid", np.ptp),
        lambda: ad.probing.patch(model(), lives(), lives(), "nonsense", np.ptp),
        lambda: ad.probing.patch(model(), creatures(), creatures(), "blocks.0.resid", np.ptp),
    ],
    "probing.load_hypotheses": [
        lambda: ad.probing.load_hypotheses(NOTEBOOKS / "deviations.md"),
        lambda: ad.probing.load_hypotheses(NOTEBOOKS / "no.yaml"),
        lambda: ad.probing.check_hypotheses({"gates": {"G0": {}}, "hypotheses": {}}),
    ],
    "probing.verdicts": [
        lambda: ad.probing.verdicts(hypotheses(), {"H9": {}}),
        lambda: ad.probing.verdicts(hypotheses(), {"H0": {"savings": 1}}),
        lambda: ad.probing.flips(hypotheses(), {}, {"H2a.phi": 1}),
    ],
    # ---- the study ----
    "cookies.judged": [
        lambda: cookies.judged("train", 4),
        lambda: cookies.judged("test", 4, corpus="D1"),
        lambda: cookies.judged("test", 0),
    ],
    "edits.edit": [
        lambda: edits.edit("gift", creatures(), 1),
        lambda: edits.edit("cue", creatures(), 0),
        lambda: edits.edit("cue", creatures(), 3),
    ],
    "endpoints": [
        lambda: compression.per_life(creatures(), "planner"),
        lambda: compression.per_life(lives(), "model"),
        lambda: drift.per_life(model(), {"test": creatures()}, {}),
    ],
    "study": [lambda: study.load(NOTEBOOKS), lambda: study.measured({}, ["H9"]), lambda: study.measured({}, ["H0"])],
    # ---- pictures ----
    "learning_curves": [
        lambda: ad.views.learning_curves({}),
        lambda: ad.views.learning_curves({"a": lives()}, x="hours"),
        lambda: ad.views.learning_curves(lives()),
    ],
    "result_curves": [
        lambda: ad.views.result_curves(pd.DataFrame({"x": [1]}), "x", "y", "by"),
        lambda: ad.views.result_curves(pd.DataFrame({"x": [], "y": [], "by": []}), "x", "y", "by"),
        lambda: ad.views.result_curves(pd.DataFrame({"x": [1], "y": [1]}), "x", "y", "by"),
    ],
    "EpisodeAttention": [
        lambda: ad.views.EpisodeAttention(model(), lives()),
        lambda: ad.views.EpisodeAttention(model(), creatures()[0]),
        lambda: ad.views.EpisodeAttention(model(), lives()[0], keep=99),
    ],
    "Player": [
        lambda: ad.views.Player({}),
        lambda: ad.views.Player({"a": lives()}),
        lambda: ad.views.Player({"a": lives()[0]}, episode=99),
    ],
    "PolicyField": [
        lambda: ad.views.PolicyField(ROOM, ROOM.tasks()),
        lambda: ad.views.PolicyField(HOLE, HOLE.tasks()[:0]),
        lambda: ad.views.PolicyField(HOLE, HOLE.tasks()[:2], task=5),
    ],
    "heat_map": [
        lambda: ad.views.heat_map(pd.DataFrame()),
        lambda: ad.views.heat_map(pd.DataFrame([[np.nan]])),
        lambda: ad.views.heat_map(pd.DataFrame([[-1.0]])),
    ],
    "drift": [
        lambda: ad.views.drift({}),
        lambda: ad.views.drift({"a": np.zeros(3)}),
        lambda: ad.views.drift({"a": np.zeros((0, 3))}),
    ],
    "lifetime": [
        lambda: ad.views.lifetime(pd.DataFrame({"history": []})),
        lambda: ad.views.lifetime(pd.DataFrame({"history": [1]}), 2),
        lambda: ad.views.lifetime(pd.DataFrame({"x": [1]})),
    ],
    "visits": [
        lambda: ad.views.visits({"a": creatures()}),
        lambda: ad.views.visit_shares(creatures()),
        lambda: ad.views.visits({}),
    ],
    "setup_notebook": [
        lambda: ad.setup_notebook(need_mb=-1),
        lambda: ad.setup_notebook(need_mb=float("nan")),
        lambda: ad.setup_notebook(need_mb=0),
    ],
}


def message(call) -> str:
    """What a wrong call says; "" if it says nothing."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    for name, calls in CALLS.items():
        for call in calls:
            print(f"| {name} | {message(call)[:400]} |", flush=True)
