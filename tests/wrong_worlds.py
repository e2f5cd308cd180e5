"""Three wrong calls of what makes environments, sources, histories and models, and of what keeps them."""

from dataclasses import replace

import numpy as np
from wrong_things import (
    ARMS,
    HOLE,
    MAZE,
    NOTEBOOKS,
    ROOM,
    SPEC,
    broken,
    collect,
    creatures,
    foreteller,
    lives,
    model,
    nowhere,
    taken,
    transformer,
)

import adkit as ad
from adkit import artefacts, tables, testing

table = {
    "spec": ROOM.spec,
    "next_state": np.zeros((1, 4, 5, 1), int),
    "reward": 0,
    "observation": np.zeros(2),
    "start": np.eye(4)[0],
}
tabulated = lambda **wrong: tables.tables(**table | wrong)
rng = ad.Rng.of(0, "agent", np.arange(4))
recipe = lambda **how: ad.recipes.Recipe(**{"env": ROOM, "sources": {ad.sources.Random(): 1}, "episodes": 5} | how)
seeing = lambda: ad.CausalTransformer(MAZE.spec, 100, layers=1, width=8)
policy = lambda: ad.RecurrentPolicy(ROOM.spec)

WORLDS = {
    "EnvSpec": [
        lambda: ad.EnvSpec(**SPEC | {"n_actions": 1}),
        lambda: ad.EnvSpec(**SPEC | {"horizon": 0}),
        lambda: ad.EnvSpec(**SPEC | {"shape": (2,)}),
    ],
    "Tasks": [lambda: ad.Tasks({"a": np.zeros(2), "b": np.zeros(3)}), lambda: ad.Tasks({}), lambda: ROOM.tasks()["wind"]],
    "Tasks.of": [lambda: ad.Tasks.of([1, 2]), lambda: ad.Tasks.of({"goal": [[0, 0]]}), lambda: ad.Tasks.of(ROOM)],
    "Tasks.replace": [
        lambda: ROOM.tasks().replace(goal=np.zeros((3, 2))),
        lambda: ROOM.tasks()[:1].replace(goal=(1, 2)),
        lambda: ROOM.tasks().replace(goal=3),
    ],
    "Tasks.drawn": [lambda: ROOM.tasks().drawn(0), lambda: ROOM.tasks().drawn(17), lambda: ROOM.tasks().drawn(4, seed=-1)],
    "Tasks.split": [
        lambda: ROOM.tasks().split(1.0),
        lambda: ROOM.tasks().split(0.01),
        lambda: ROOM.tasks().split(0.5, by=("wind",)),
    ],
    "Rng.of": [lambda: ad.Rng.of(-1), lambda: ad.Rng.of(0.5), lambda: ad.Rng.of(0, 1.5)],
    "Rng.uniform": [lambda: rng.uniform(16), lambda: rng.uniform(-1), lambda: rng.uniform(0.5)],
    "Rng.integers": [lambda: rng.integers(0), lambda: rng.integers(-3), lambda: rng.integers(5, 16)],
    "Rng.at": [lambda: rng.at(-1), lambda: rng.at(0.5), lambda: rng.at(np.arange(3))],
    "envs.DarkRoom": [
        lambda: ad.envs.DarkRoom(size=1),
        lambda: ad.envs.DarkRoom(reward="sparse"),
        lambda: ad.envs.DarkRoom(start="left"),
    ],
    "envs.DarkRoom.task": [lambda: ROOM.task(goal=(9, 0)), lambda: ROOM.task(goal=3), lambda: ROOM.task(goal=(1, 2, 3))],
    "envs.DarkKeyToDoor": [
        lambda: ad.envs.DarkKeyToDoor(size=1),
        lambda: ad.envs.DarkKeyToDoor(start="left"),
        lambda: ad.envs.DarkKeyToDoor(horizon=0),
    ],
    "envs.DarkKeyToDoor.task": [
        lambda: ad.envs.DarkKeyToDoor().task(key=(0, 0), door=(9, 9)),
        lambda: ad.envs.DarkKeyToDoor().task(key=(-1, 0), door=(0, 0)),
        lambda: ad.envs.DarkKeyToDoor().task(key=0, door=(0, 0)),
    ],
    "envs.AdversarialBandit": [
        lambda: ad.envs.AdversarialBandit(arms=1),
        lambda: ad.envs.AdversarialBandit(horizon=0),
        lambda: ad.envs.AdversarialBandit(bias="left"),
    ],
    "envs.AdversarialBandit.task": [
        lambda: ARMS.task(means=(0.5,)),
        lambda: ARMS.task(means=(2,) * 10),
        lambda: ARMS.task(means=0.5),
    ],
    "envs.Watermaze": [
        lambda: ad.envs.Watermaze(view=(0, 0)),
        lambda: ad.envs.Watermaze(view="eyes"),
        lambda: ad.envs.Watermaze(ends="never"),
    ],
    "envs.Watermaze.task": [lambda: MAZE.task(goal=(2, 2)), lambda: MAZE.task(goal=0.5), lambda: MAZE.task(goal=(1, 2, 3))],
    "envs.CookieWorld": [
        lambda: ad.envs.CookieWorld(size=9),
        lambda: ad.envs.CookieWorld(size="5"),
        lambda: ad.envs.CookieWorld(horizon=0),
    ],
    "envs.CookieWorld.task": [
        lambda: HOLE.task(home=(0, 0), jar=(0, 1), garden=(4, 4)),
        lambda: HOLE.task(home=(0, 0), jar=(9, 9), garden=(4, 4)),
        lambda: HOLE.task(home=(0, 0), jar=(2, 2), garden=(4, 4), stock=2),
    ],
    "envs.CookieWorld.replay": [
        lambda: HOLE.replay(lives()),
        lambda: ad.envs.CookieWorld(size=7).replay(creatures()),
        lambda: ad.envs.CookieWorld(horizon=12).replay(creatures()),
    ],
    "envs.from_gymnasium": [
        lambda: ad.envs.from_gymnasium("Nonsense-v0"),
        lambda: ad.envs.from_gymnasium("Pendulum-v1"),
        lambda: ad.envs.from_gymnasium("CartPole-v1", horizon=0),
    ],
    "protocols.Env.reset": [
        lambda: ROOM.reset(HOLE.tasks()[:4], rng),
        lambda: MAZE.reset(ROOM.tasks()[:4].replace(goal=np.full((4, 2), 2.0)), rng),
        lambda: HOLE.reset(ROOM.tasks()[:4], rng),
    ],
    "protocols.Env.step": [
        lambda: ROOM.step(ROOM.reset(ROOM.tasks()[:4], rng)[0], ROOM.tasks()[:4], np.full(4, 5), rng),
        lambda: MAZE.step(MAZE.reset(MAZE.tasks()[:4], rng)[0], MAZE.tasks()[:4], np.zeros(3, int), rng),
        lambda: HOLE.step(HOLE.reset(HOLE.tasks()[:4], rng)[0], HOLE.tasks()[:4], np.zeros(4), rng),
    ],
    "tables.tables": [
        lambda: tabulated(next_state=np.full((1, 4, 5, 1), 7)),
        lambda: tabulated(observation=np.full((4, 2), 9)),
        lambda: tabulated(start=[1, 1, 0, 0]),
    ],
    "optimal_returns": [
        lambda: ad.optimal_returns(HOLE, HOLE.tasks()[:1]),
        lambda: ad.optimal_returns(ROOM, {}),
        lambda: ad.optimal_returns(ROOM, HOLE.tasks()[:2]),
    ],
    "pixels.render": [
        lambda: ad.pixels.render(np.zeros(2)),
        lambda: ad.pixels.render([2.0, 0, 0]),
        lambda: ad.pixels.render([0, 0, 0], dtype="int8"),
    ],
    # ---- sources ----
    "sources.QLearning": [
        lambda: ad.sources.QLearning(lr=0),
        lambda: ad.sources.QLearning(gamma=1.0),
        lambda: collect(env=MAZE, tasks=MAZE.tasks()[:1], agent=ad.sources.QLearning()),
    ],
    "sources.PosteriorSampling": [
        lambda: ad.sources.PosteriorSampling(noise=-1),
        lambda: ad.sources.PosteriorSampling(greed=-1),
        lambda: ad.sources.PosteriorSampling().start(ROOM.spec, rng),
    ],
    "sources.UCB": [lambda: collect(agent=ad.sources.UCB()), lambda: ad.sources.UCB(-1.0), lambda: ad.sources.UCB(float("nan"))],
    "sources.ThompsonSampling": [
        lambda: collect(agent=ad.sources.ThompsonSampling()),
        lambda: ad.sources.ThompsonSampling().start(HOLE.spec, rng),
        lambda: ad.sources.ThompsonSampling().start(MAZE.spec, rng),
    ],
    "sources.SystematicExplorer": [
        lambda: ad.sources.SystematicExplorer().start(ROOM.spec, rng),
        lambda: ad.collect(HOLE, HOLE.tasks()[:1], ad.sources.SystematicExplorer(), episodes=1),
        lambda: ad.collect(ARMS, ARMS.tasks()[:1], ad.sources.SystematicExplorer(), episodes=1),
    ],
    "sources.Optimal": [
        lambda: ad.sources.Optimal().start(ROOM.spec, rng),
        lambda: ad.collect(HOLE, HOLE.tasks()[:1], ad.sources.Optimal(), episodes=1),
        lambda: ad.sources.Optimal().start(HOLE.spec, rng),
    ],
    "sources.GoalSearch": [
        lambda: ad.sources.GoalSearch(noise=-1),
        lambda: ad.sources.GoalSearch(cells=0),
        lambda: collect(agent=ad.sources.GoalSearch()),
    ],
    "sources.PoseQLearning": [
        lambda: ad.sources.PoseQLearning(bins=(0, 1, 1)),
        lambda: ad.sources.PoseQLearning(lr=0),
        lambda: collect(agent=ad.sources.PoseQLearning()),
    ],
    "sources.ActorCritic": [
        lambda: ad.sources.ActorCritic(lr=-1),
        lambda: ad.sources.ActorCritic(gamma=2),
        lambda: ad.sources.ActorCritic(width=0),
    ],
    "sources.DQN": [lambda: ad.sources.DQN(lr=-1), lambda: ad.sources.DQN(gamma=2), lambda: ad.sources.DQN(width=0)],
    "sources.Shards": [
        lambda: ad.sources.Shards({"X": 1}),
        lambda: ad.sources.Shards(walk=(2, 0.1)),
        lambda: collect(agent=ad.sources.Shards()),
    ],
    "sources.StableBaselines3": [
        lambda: ad.sources.StableBaselines3("SAC"),
        lambda: ad.sources.StableBaselines3("PPO", seed=1),
        lambda: collect(agent=ad.sources.StableBaselines3("PPO", nonsense=1)),
    ],
    # ---- histories ----
    "collect": [lambda: collect(episodes=0), lambda: collect(driver="fast"), lambda: collect(retries=-1)],
    "Histories.episodes": [lambda: lives().episodes[9:], lambda: lives().episodes[[]], lambda: lives().episodes[6:6]],
    "Histories.subsample": [lambda: lives().subsample(0), lambda: lives().subsample(7), lambda: lives().subsample(0.5)],
    "Histories.windows": [
        lambda: lives().windows(np.array([0]), np.array([4]), 3),
        lambda: lives().windows(np.array([0]), np.array([-1]), 3),
        lambda: lives().windows(np.array([99]), np.array([0]), 3),
    ],
    "Histories.seen_as": [
        lambda: lives().seen_as("pose"),
        lambda: lives().seen_as((24, 32)),
        lambda: creatures().seen_as("nothing"),
    ],
    "Histories.concatenate": [
        lambda: ad.Histories.concatenate([lives(), creatures()]),
        lambda: ad.Histories.concatenate([lives(), lives(5)]),
        lambda: ad.Histories.concatenate([]),
    ],
    "Histories.save": [
        lambda: lives().save(taken()),
        lambda: lives().save(lives(5).save(nowhere() / "lives")),
        lambda: replace(lives(), arrays={}).save(nowhere() / "lives"),
    ],
    "Histories.assemble": [
        lambda: ad.Histories.assemble(nowhere() / "a", [lives(), creatures()], lives()),
        lambda: ad.Histories.assemble(nowhere() / "a", [lives(), lives(5)], lives()),
        lambda: ad.Histories.assemble(taken(), [lives()], lives()),
    ],
    "Histories.load": [
        lambda: ad.Histories.load(broken()),
        lambda: ad.Histories.load(NOTEBOOKS),
        lambda: ad.Histories.load(ad.find("dark_room/ad")),
    ],
    "Histories.to_minari": [
        lambda: lives().to_minari("no namespace", nowhere()),
        lambda: lives().to_minari("", nowhere()),
        lambda: [lives().to_minari("ab/cd-v0", folder) for folder in [nowhere()] * 2],
    ],
    "Histories.from_minari": [
        lambda: ad.Histories.from_minari("no namespace", nowhere()),
        lambda: ad.Histories.from_minari("ab/cd-v0", nowhere()),
        lambda: ad.Histories.from_minari("ab/cd", NOTEBOOKS),
    ],
    "Histories.to_parquet": [
        lambda: lives().to_parquet(taken()),
        lambda: lives().to_parquet(NOTEBOOKS),
        lambda: lives().to_parquet(lives().to_parquet(nowhere() / "lives.parquet")),
    ],
    "ParticleFilter": [
        lambda: ad.ParticleFilter(ad.sources.Shards(), particles=1),
        lambda: ad.ParticleFilter(ad.sources.Random()),
        lambda: ad.ParticleFilter("main"),
    ],
    "ParticleFilter.follow": [
        lambda: ad.ParticleFilter(ad.sources.Shards()).follow(lives()),
        lambda: ad.ParticleFilter(ad.sources.Shards()).follow(collect(env=MAZE, tasks=MAZE.tasks()[:1])),
        lambda: ad.ParticleFilter(ad.sources.Shards()).follow(collect(env=ARMS, tasks=ARMS.tasks()[:1])),
    ],
    # ---- models ----
    "CausalTransformer": [lambda: transformer(context=5), lambda: transformer(heads=3), lambda: transformer(layers=0)],
    "CausalTransformer.load": [
        lambda: ad.CausalTransformer.load(NOTEBOOKS),
        lambda: ad.CausalTransformer.load(lives().save(nowhere() / "lives")),
        lambda: ad.CausalTransformer.load(nowhere() / "model"),
    ],
    "CausalTransformer.save": [
        lambda: model().save(taken()),
        lambda: model().save(lives().save(nowhere() / "lives")),
        lambda: model().save(lives().save(nowhere() / "lives"), overwrite=True),
    ],
    "CausalTransformer.check_spec": [
        lambda: model().check_spec(HOLE.spec),
        lambda: model().check_spec(ARMS.spec),
        lambda: foreteller().check_spec(ad.envs.CookieWorld(size=7).spec),
    ],
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
        lambda: ad.pretrain_encoder(seeing(), lives()),
        lambda: ad.pretrain_encoder(seeing(), collect(env=MAZE, tasks=MAZE.tasks()[:1]), ahead=50),
    ],
    "distill_encoder": [
        lambda: ad.distill_encoder(model(), model(), lives()),
        lambda: ad.distill_encoder(seeing(), model(), lives()),
        lambda: ad.distill_encoder(*[seeing()] * 2, lives()),
    ],
    "distill_recurrent": [
        lambda: ad.distill_recurrent(policy(), creatures(), episodes=2),
        lambda: ad.distill_recurrent(policy(), lives(), episodes=2, steps=0),
        lambda: ad.distill_recurrent(policy(), lives(), episodes=99),
    ],
    "RecurrentPolicy.check_spec": [
        lambda: policy().check_spec(HOLE.spec),
        lambda: policy().check_spec(ARMS.spec),
        lambda: ad.RecurrentPolicy(HOLE.spec).check_spec(ad.envs.CookieWorld(size=7).spec),
    ],
    "RecurrentPolicy": [
        lambda: ad.RecurrentPolicy(ROOM.spec, width=0),
        lambda: ad.RecurrentPolicy(ROOM.spec, width=-3),
        lambda: ad.RecurrentPolicy(ROOM),
    ],
    "RecurrentPolicy.load": [
        lambda: ad.RecurrentPolicy.load(NOTEBOOKS),
        lambda: ad.RecurrentPolicy.load(ad.find("dark_room/ad")),
        lambda: ad.RecurrentPolicy.load(nowhere() / "policy"),
    ],
    "RecurrentPolicy.save": [
        lambda: policy().save(taken()),
        lambda: policy().save(lives().save(nowhere() / "lives")),
        lambda: policy().save(lives().save(nowhere() / "lives"), overwrite=True),
    ],
    "train_rl2": [
        lambda: ad.train_rl2(policy(), ROOM, ROOM.tasks(), steps=0),
        lambda: ad.train_rl2(policy(), HOLE, HOLE.tasks()),
        lambda: ad.train_rl2(policy(), ROOM, ROOM.tasks()[:0]),
    ],
    "RL2": [
        lambda: ad.RL2(policy(), memory="all"),
        lambda: ad.RL2(policy()).start(HOLE.spec, rng),
        lambda: collect(agent=ad.RL2(ad.RecurrentPolicy(HOLE.spec))),
    ],
    "recipes.Recipe": [
        lambda: recipe(sources={}),
        lambda: recipe(sources={ad.sources.Random(): 0}),
        lambda: recipe(eye="shut"),
    ],
    "RECIPES": [lambda: ad.RECIPES["dark rooms"], lambda: ad.RECIPES["DarkRoom"], lambda: ad.RECIPES[ROOM]],
    "recipes.Recipe.split": [
        lambda: recipe(share=1).split(0),
        lambda: recipe(held_out=("wind",)).split(0),
        lambda: recipe().split(-1),
    ],
    "recipes.Recipe.histories": [
        lambda: ad.RECIPES["dark room"].histories(HOLE.tasks()[:2], seed=0),
        lambda: ad.RECIPES["dark room"].histories(ROOM.tasks()[:0], seed=0),
        lambda: ad.RECIPES["dark room"].histories(ROOM.tasks()[:1], seed=-1),
    ],
    "recipes.Recipe.distil": [
        lambda: ad.RECIPES["dark room"].distil(creatures(), seed=0),
        lambda: ad.RECIPES["dark room"].distil(lives(), seed=0),
        lambda: recipe(training={"steps": 0}).distil(lives(), seed=0),
    ],
    # ---- keeping ----
    "find": [lambda: ad.find("no/such"), lambda: ad.find(""), lambda: ad.find("dark_room")],
    "artefacts.save": [
        lambda: artefacts.save(nowhere() / "a", "thing", {"../up.npy": np.zeros(2)}, {}),
        lambda: artefacts.save(lives().save(nowhere() / "a"), "thing", {"a.npy": np.zeros(2)}, {}),
        lambda: artefacts.save(nowhere() / "a", "thing", {"a.npy": np.array([object()])}, {}),
    ],
    "artefacts.assemble": [
        lambda: artefacts.assemble(nowhere() / "a", "thing", [{"../up": np.zeros(2)}], {}),
        lambda: artefacts.assemble(nowhere() / "a", "thing", [{"a": np.zeros(2)}, {"a": np.zeros((2, 2))}], {}),
        lambda: artefacts.assemble(nowhere() / "a", "thing", [{"a": np.zeros(2)}, {"a": np.zeros(2, int)}], {}),
    ],
    "artefacts.load": [
        lambda: artefacts.load(broken(), "histories"),
        lambda: artefacts.load(NOTEBOOKS, "histories"),
        lambda: artefacts.load(ad.find("dark_room/ad"), "histories"),
    ],
    "artefacts.verify": [
        lambda: artefacts.verify(broken(), "histories"),
        lambda: artefacts.verify(nowhere() / "a", "histories"),
        lambda: artefacts.verify(lives().save(nowhere() / "a"), "thing"),
    ],
    "testing.check_env": [
        lambda: testing.check_env(ROOM.tasks()),
        lambda: testing.check_env(ROOM, lifetimes=0),
        lambda: testing.check_env(ad.envs.DarkRoom),
    ],
    "testing.check_agent": [
        lambda: testing.check_agent(ad.sources.UCB(), ROOM),
        lambda: testing.check_agent(ROOM, ad.sources.UCB()),
        lambda: testing.check_agent(ad.sources.Random(), ROOM, episodes=0),
    ],
    "testing.check_histories": [
        lambda: testing.check_histories(lives().arrays),
        lambda: testing.check_histories(replace(lives(), arrays={})),
        lambda: testing.check_histories([lives()]),
    ],
    "setup_notebook": [
        lambda: ad.setup_notebook(need_mb=-1),
        lambda: ad.setup_notebook(need_mb=float("nan")),
        lambda: ad.setup_notebook(need_mb=0),
    ],
}
