"""The experiments of the paper that notebook 10 redraws; `paper_runs.py` runs them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

import adkit as ad
from adkit.models import tokens as token_layout

SEEDS = (0, 1, 2)
SHIPPED = {"key to door": "key_to_door", "hard": "hard", "watermaze": "watermaze"}
"""Worlds whose first model goes to data/; the Dark Room's is made by notebook 02."""
Curves = Iterator[tuple[str, object]]
"""(curve, returns (task, lifetime, episode)), or (name, model or histories) to be saved."""


@dataclass(frozen=True)
class Run:
    """One experiment at one setting and seed; the seed is also the split."""

    experiment: str
    setting: str
    seed: int
    curves: Callable[[int], Curves]
    """Of the seed."""
    about: str
    """Its recipe's settings, as text: a change of them makes the run a new one.

    What its function itself says, such as RL2's steps or a second recipe that it compares with, is
    not in it: after a change there, remove its rows from runs.csv.
    """

    @property
    def key(self) -> str:
        digest = hashlib.sha256(self.about.encode()).hexdigest()[:8]
        return f"{self.experiment} | {self.setting} | seed {self.seed} | {digest}"

    @property
    def work(self) -> tuple:
        """Runs that have this in common, such as the middle of several sweeps, are one."""
        return getattr(self.curves, "func", self.curves), self.about, self.seed


# ---- parts of several experiments ----


def distilled(recipe: ad.recipes.Recipe, seed: int, expert: int | None = None):
    """Return (held-out tasks, model), trained from nothing on split `seed`.

    With `expert`, also a model of the last so many episodes alone.
    """
    train, test = recipe.split(seed)
    histories = recipe.histories(train, seed)
    parts = [histories] if expert is None else [histories, histories.episodes[-expert:]]
    return test, *(recipe.distil(part, seed)[0] for part in parts)


def first_source(recipe: ad.recipes.Recipe):
    """Return the source, or the first of several."""
    return next(iter(recipe.sources))


def optimum(env, tasks, episodes: int) -> np.ndarray:
    """Return (task, 1, episode) the highest possible return, as a curve."""
    return ad.optimal_returns(env, tasks)[:, None, None].repeat(episodes, 2)


def rl2(recipe: ad.recipes.Recipe, seed: int, **training) -> ad.RL2:
    """Return RL2, trained on the recipe's training tasks."""
    policy = ad.RecurrentPolicy(recipe.env.spec, seed=seed)
    ad.train_rl2(policy, recipe.env, recipe.split(seed)[0], seed=seed, **training)
    return ad.RL2(policy)


def returns(env, tasks, agent, episodes: int, seed: int, lifetimes: int = 1) -> np.ndarray:
    """Return (task, lifetime, episode) returns, on randomness that no training run has seen."""
    how = {"episodes": episodes, "lifetimes": lifetimes, "seed": 10_000 + seed}
    return ad.collect(env, tasks, agent, **how).returns


def shipped(world: str, model, env, tasks, seed: int, episodes: int = 20) -> Curves:
    """Yield the first seed's model and a few of its rollouts, to go with this repository."""
    if seed == 0:
        rollouts = ad.collect(env, tasks[:8], ad.InContext(model), episodes=episodes, seed=1)
        yield from {f"{world}/ad": model, f"{world}/rollouts": rollouts}.items()


def changed(name: str, changes: dict) -> ad.recipes.Recipe:
    """Return a recipe with other settings of its model, its training, or itself.

    Fewer steps and held-out tasks will do.
    """
    recipe = replace(ad.RECIPES[name], test_tasks=128)
    model = {**recipe.model, **changes.get("model", {})}
    training = {**recipe.training, "steps": 800, **changes.get("training", {})}
    return replace(recipe, **changes | {"model": model, "training": training})


# ---- experiments ----


def main_results(name: str, episodes: int, lifetimes: int, seed: int) -> Curves:
    """Fig. 4: distilled, its source, expert distillation, and what bounds them, in one world."""
    recipe = ad.RECIPES[name]
    # what costs much and is no claim of ours is run once
    dear = seed == 0 and name != "watermaze, pose teacher"
    expert = max(2, recipe.episodes // recipe.every // 4) if dear else None
    test, model, *experts = distilled(recipe, seed, expert)
    if name in SHIPPED:
        yield from shipped(SHIPPED[name], model, recipe.env, test, seed)
    run = lambda agent, n=episodes: returns(recipe.env, test, agent, n, seed, lifetimes)
    yield "distilled", run(ad.InContext(model))
    yield "no memory", run(ad.InContext(model, memory="episode"))
    for i, source in enumerate(recipe.sources):
        yield f"source {i + 1}" if i else "source", run(source, max(episodes, recipe.episodes))
    yield "random", run(ad.sources.Random())
    if isinstance(first_source(recipe), ad.sources.PosteriorSampling):
        yield "systematic explorer", run(ad.sources.SystematicExplorer())
    for frozen in experts:
        yield "expert distillation", run(ad.InContext(frozen))
    if name in ("dark room", "key to door") and dear:
        yield "RL2", run(rl2(recipe, seed))
    if recipe.env.spec.view and dear:
        blind = replace(recipe, env=replace(recipe.env, view="nothing"), eye="end to end")
        agent = ad.InContext(distilled(blind, seed)[1])
        yield "blind", returns(blind.env, test, agent, episodes, seed, lifetimes)
    yield "optimum", optimum(recipe.env, test, episodes)


def bandit(seed: int) -> Curves:
    """Fig. 3: trained where good arms have odd numbers; tested on odd, even and all arms.

    Returns add up over a lifetime.
    """
    recipe = ad.RECIPES["bandit"]
    test, model, expert = distilled(recipe, seed, expert=50)
    yield from shipped("bandit", model, recipe.env, test, seed, episodes=100)
    agents = {
        "distilled": ad.InContext(model),
        "expert distillation": ad.InContext(expert),
        "RL2": rl2(recipe, seed, steps=4_000_000, episodes_per_lifetime=100),
        "source": first_source(recipe),
        "UCB1": ad.sources.UCB(),
        "Thompson": ad.sources.ThompsonSampling(),
        "random": ad.sources.Random(),
    }
    for bias in ("odd", "even", "uniform"):
        env = replace(recipe.env, bias=bias, seed=77 + seed)  # other bandits than those of training
        tasks = env.tasks()[:400]
        for name, agent in agents.items():
            yield f"{bias}: {name}", returns(env, tasks, agent, 100, seed).cumsum(2)
        yield f"{bias}: optimum", optimum(env, tasks, 100).cumsum(2)


def prompting(seed: int) -> Curves:
    """Fig. 5: begin with the history of a learner that has come some of the way."""
    recipe = ad.RECIPES["dark room, q-learning"]
    test, model, expert = distilled(recipe, seed, expert=5)
    how = {"episodes": recipe.episodes, "lifetimes": 8, "every": recipe.every}
    source = ad.collect(recipe.env, test, first_source(recipe), seed=seed + 77, **how)
    share = source.returns.mean((0, 1)) / ad.optimal_returns(recipe.env, test).mean()
    reached = [np.argmax(share >= min(part, share.max())) for part in (0.05, 0.25, 0.5, 0.75, 0.95)]
    run = lambda agent: returns(recipe.env, test, agent, 50, seed, lifetimes=8)
    for at in dict.fromkeys(map(int, reached)):
        for name, frozen in (("distilled", model), ("expert distillation", expert)):
            n = min(frozen.window - 1, 4)
            prompt = source.episodes[max(0, at + 1 - n) : at + 1]
            yield f"{name} | {100 * share[at]:.0f}", run(ad.InContext(frozen, prompt=prompt))
    yield "distilled | none", run(ad.InContext(model))


def single_stream(seed: int) -> Curves:
    """Fig. 6: one actor a task, every 10th episode of 800.

    Sampled as learned, and at a temperature that quiets exploration.
    """
    recipe = SINGLE_STREAM
    test, model = distilled(recipe, seed)
    for name, temperature in (("distilled", 0.3), ("distilled, temperature 1", 1.0)):
        agent = ad.InContext(model, temperature=temperature)
        yield name, returns(recipe.env, test, agent, 60, seed)
    yield "source", returns(recipe.env, test, first_source(recipe), recipe.episodes, seed)
    yield "optimum", optimum(recipe.env, test, recipe.episodes)


def permuted(seed: int) -> Curves:
    """Actions mean something else in every task: a model trained on this, and one that was not."""
    plain, mixed = ad.RECIPES["dark room, q-learning"], ad.RECIPES["permuted dark room"]
    _, model = distilled(plain, seed)
    test, relabelled = distilled(mixed, seed)
    usual = test.replace(actions=np.tile(np.arange(5), (len(test), 1)))
    for name, tasks in (("permuted", test), ("usual", usual)):
        run = lambda agent, n, tasks=tasks: returns(mixed.env, tasks, agent, n, seed)
        yield f"{name} actions, trained without", run(ad.InContext(model), 50)
        yield f"{name} actions, trained with", run(ad.InContext(relabelled), 50)
        yield f"{name} actions, source", run(first_source(mixed), mixed.episodes)


def without(part: str, seed: int) -> Curves:
    """What a part of the token layout buys: a model trained and played without it."""
    recipe = changed("key to door", {})
    train, test = recipe.split(seed)
    model = ad.CausalTransformer(recipe.env.spec, **recipe.model, seed=seed)
    embed = model.embed_tokens
    if part in ("episode", "step"):  # positions: zero, and never trained
        getattr(embed, part).requires_grad_(False).zero_()
    elif part == "closing token":
        forward, spec = embed.forward, recipe.env.spec
        embed.forward = lambda tokens, position, dtype: forward(
            without_closing(tokens, position, spec), position, dtype
        )
    ad.distill(model, recipe.histories(train, seed), seed=seed, **recipe.training)
    yield "distilled", returns(recipe.env, test, ad.InContext(model), 30, seed)


def without_closing(tokens, position, spec: ad.EnvSpec) -> token_layout.Tokens:
    """Return tokens of which every closing one says "restart", not what the last action led to."""
    closing = position % (spec.horizon + 1) == spec.horizon
    closing = closing.expand(tokens.previous_action.shape)
    return replace(
        tokens,
        obs=tokens.obs.masked_fill(closing[..., None], 0),
        previous_action=tokens.previous_action.masked_fill(closing, spec.n_actions),
        previous_reward=tokens.previous_reward * ~closing,
    )


def recurrent(seed: int) -> Curves:
    """Fig. 14: the same histories distilled into a recurrent network, for about as long."""
    recipe = changed("key to door", {})
    train, test = recipe.split(seed)
    histories = recipe.histories(train, seed)
    policy = ad.RecurrentPolicy(recipe.env.spec, width=128, seed=seed)
    ad.distill_recurrent(policy, histories, episodes=recipe.episodes, **RECURRENT, seed=seed)
    yield "GRU", returns(recipe.env, test, ad.RL2(policy), 30, seed)
    model, _ = recipe.distil(histories, seed)
    yield "transformer", returns(recipe.env, test, ad.InContext(model), 30, seed)


def variant(name: str, changes: dict, episodes: int, seed: int) -> Curves:
    """One recipe with something changed: how well the distilled model ends."""
    recipe = changed(name, changes)
    test, model = distilled(recipe, seed)
    yield "distilled", returns(recipe.env, test, ad.InContext(model), episodes, seed)


def as_many_lifetimes(name: str, tasks: int) -> dict:
    """Fewer or more training tasks, with about as many lifetimes in all as the recipe has."""
    recipe = ad.RECIPES[name]
    usual = len(recipe.split(0)[0])
    sources = {a: max(1, n * usual // tasks) for a, n in recipe.sources.items()}
    return {"train_tasks": tasks, "share": 0.4, "sources": sources}


SINGLE_STREAM = replace(
    ad.RECIPES["key to door, q-learning"],
    sources={ad.sources.QLearning(lr=1.0, gamma=0.95, epsilon=0.8, exploration=1.0, phases=3): 1},
    episodes=800,
    share=0.8,
    training={"steps": 1000, "batch": 12, "schedule": ad.Schedule(short_episodes=2)},
)
RECURRENT = {"steps": 800}
SIZES = {  # experiment: argument of the model, its values
    "context size": ("context", (100, 150, 200, 300, 400)),
    "width": ("width", (16, 32, 64, 128)),
    "layers": ("layers", (1, 2, 4, 6)),
    "heads": ("heads", (1, 2, 4, 8)),
}
SMOOTHING = {a: {"training": {"label_smoothing": a}} for a in (0.0, 0.1, 0.2, 0.3)}
TASKS = {n: as_many_lifetimes("key to door", n) for n in (1, 9, 37, 151, 606, 2424)}
VARIANTS = {  # experiment: recipe, episodes, {setting: what is changed}
    name: ("key to door", 30, {n: {"model": {argument: n}} for n in values})
    for name, (argument, values) in SIZES.items()
}
VARIANTS |= {"label smoothing": ("hard", 50, SMOOTHING), "tasks": ("key to door", 30, TASKS)}
MAIN = (  # recipe, episodes, lifetimes
    ("key to door", 30, 1),
    ("hard", 60, 3),
    ("dark room", 50, 8),
    ("key to door, held-out cells", 30, 1),
    ("key to door, q-learning", 60, 1),
    ("hard, q-learning", 100, 4),
    ("dark room, q-learning", 50, 8),
    ("watermaze", 40, 1),
    ("watermaze, pose teacher", 40, 1),
    ("watermaze, q-learning", 60, 1),
)


def every_run() -> Iterator[Run]:
    """Yield all runs, the most important first."""
    for seed in SEEDS:
        yield Run("bandit", "", seed, bandit, repr(ad.RECIPES["bandit"]))
        for name, episodes, lifetimes in MAIN:
            curves = partial(main_results, name, episodes, lifetimes)
            about = f"{ad.RECIPES[name]} {episodes} {lifetimes}"
            yield Run("main results", name, seed, curves, about)
        yield Run("single stream", "", seed, single_stream, f"{SINGLE_STREAM} temperature 0.3")
    yield Run("permuted", "", 0, permuted, repr(ad.RECIPES["permuted dark room"]))
    yield Run("prompting", "", 0, prompting, f"{ad.RECIPES['dark room, q-learning']} by share")
    usual = changed("key to door", {})
    yield Run("recurrent", "", 0, recurrent, f"{usual} {RECURRENT}")
    for part in ("episode", "step", "closing token"):
        setting = f"without {part}"
        yield Run("tokens", setting, 0, partial(without, part), f"{usual} 30 {setting}")
    for experiment, (name, episodes, settings) in VARIANTS.items():
        for setting, changes in settings.items():
            curves = partial(variant, name, changes, episodes)
            about = f"{changed(name, changes)} {episodes}"
            yield Run(experiment, str(setting), 0, curves, about)
