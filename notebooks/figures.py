"""The runs behind notebook 09: every experiment of the paper that we redraw.

Each run is a process of one thread.

python notebooks/figures.py                 what data/paper_figures lacks, two runs at a time
python notebooks/figures.py tasks "hard |"   only runs that have one of these in their name
python notebooks/figures.py --list          what there is, and what is done

Each run that ends is written at once; started again, it goes on with the rest. A run whose settings
have changed is run anew.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

import adkit as ad
from adkit.models import tokens as token_layout

OUT = Path(__file__).resolve().parents[1] / "data" / "paper_figures"
SEEDS = (0, 1, 2)
SHIPPED = {
    "key to door": "key_to_door",
    "hard": "hard",
    "watermaze": "watermaze",
}  # the Dark Room's is made by notebook 02
POINTS = np.unique(
    np.r_[np.round(np.geomspace(1, 2000, 50)), 10, 20, 30, 50, 100, 200, 300, 500, 1000].astype(int)
)
"""Episodes, counted from 1, whose return is kept."""


@dataclass(frozen=True)
class Run:
    """One experiment at one setting and seed; the seed is also the split."""

    experiment: str
    setting: str
    seed: int
    live: Callable[[int], Iterator[tuple[str, np.ndarray]]]
    """Yields (curve, returns (task, lifetime, episode)), and what is to be kept.

    That is (name, model or histories).
    """
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
    def same(self) -> tuple:
        """Runs that have this in common, such as the middle of several sweeps, are one."""
        return getattr(self.live, "func", self.live), self.about, self.seed


# ---- what is run ----


def distilled(recipe: ad.recipes.Recipe, seed: int, expert: int | None = None):
    """Return (held-out tasks, model), trained from nothing on split `seed`.

    With `expert`, also a model of the last so many episodes alone.
    """
    train, test = recipe.split(seed)
    histories = recipe.histories(train, seed)
    parts = [histories] if expert is None else [histories, histories.episodes[-expert:]]
    return test, *(recipe.distil(part, seed)[0] for part in parts)


def first_source(recipe: ad.recipes.Recipe):
    """The source, or the first of several."""
    return next(iter(recipe.sources))


def optimum(env, tasks, episodes: int) -> np.ndarray:
    """(task, 1, episode) the most that can be had, as a curve."""
    return ad.optimal_returns(env, tasks)[:, None, None].repeat(episodes, 2)


def practised(recipe: ad.recipes.Recipe, seed: int, **training) -> ad.RL2:
    """RL2 on the recipe's training tasks."""
    policy = ad.RecurrentPolicy(recipe.env.spec, seed=seed)
    ad.train_rl2(policy, recipe.env, recipe.split(seed)[0], seed=seed, **training)
    return ad.RL2(policy)


def live(recipe, tasks, agent, episodes: int, seed: int, lifetimes: int = 1) -> np.ndarray:
    """(task, lifetime, episode) returns, on randomness that no training run has seen."""
    return ad.collect(
        recipe.env, tasks, agent, episodes=episodes, lifetimes=lifetimes, seed=10_000 + seed
    ).returns


def shipped(world: str, model: ad.CausalTransformer, env, tasks, seed: int, episodes: int = 20):
    """The first seed's model and a few of its rollouts, for whoever has no time to train one."""
    if seed == 0:
        yield f"{world}/ad", model
        yield (
            f"{world}/rollouts",
            ad.collect(env, tasks[:8], ad.InContext(model), episodes=episodes, seed=1),
        )


def main_results(name: str, episodes: int, lifetimes: int, seed: int):
    """Fig. 4: distilled, its source, expert distillation, and what bounds them, in one world."""
    recipe = ad.RECIPES[name]
    dear = (
        seed == 0 and name != "watermaze, pose teacher"
    )  # what costs much and is no claim of ours is run once
    test, model, *expert = distilled(
        recipe, seed, expert=max(2, recipe.episodes // recipe.every // 4) if dear else None
    )
    if name in SHIPPED:
        yield from shipped(SHIPPED[name], model, recipe.env, test, seed)
    run = lambda agent, n=episodes: live(recipe, test, agent, n, seed, lifetimes)
    yield "distilled", run(ad.InContext(model))
    yield "amnesiac", run(ad.InContext(model, memory="episode"))
    for i, source in enumerate(recipe.sources):
        yield f"source {i + 1}" if i else "source", run(source, max(episodes, recipe.episodes))
    yield "random", run(ad.sources.Random())
    if isinstance(first_source(recipe), ad.sources.PosteriorSampling):
        yield "systematic explorer", run(ad.sources.SystematicExplorer())
    for frozen in expert:
        yield "expert distillation", run(ad.InContext(frozen))
    if name in ("dark room", "key to door") and dear:
        yield "RL2", run(practised(recipe, seed))
    if recipe.env.spec.view and dear:
        blind = replace(recipe, env=replace(recipe.env, view="nothing"), eye="end to end")
        yield (
            "blind",
            live(blind, test, ad.InContext(distilled(blind, seed)[1]), episodes, seed, lifetimes),
        )
    yield "optimum", optimum(recipe.env, test, episodes)


def bandit(seed: int):
    """Fig. 3: trained where good arms have odd numbers; tested on odd, even and all arms.

    Returns add up over a lifetime.
    """
    recipe = ad.RECIPES["bandit"]
    test, model, expert = distilled(recipe, seed, expert=50)
    yield from shipped("bandit", model, recipe.env, test, seed, episodes=100)
    rl2 = practised(recipe, seed, steps=4_000_000, episodes_per_lifetime=100)
    for bias in ("odd", "even", "uniform"):
        env = replace(recipe.env, bias=bias, seed=77 + seed)  # other bandits than those of training
        agents = {
            "distilled": ad.InContext(model),
            "expert distillation": ad.InContext(expert),
            "RL2": rl2,
        }
        agents |= {
            "source": first_source(recipe),
            "UCB1": ad.sources.UCB(),
            "Thompson": ad.sources.ThompsonSampling(),
        }
        agents |= {"random": ad.sources.Random()}
        tasks = env.tasks()[:400]
        for name, agent in agents.items():
            yield (
                f"{bias}: {name}",
                ad.collect(env, tasks, agent, episodes=100, seed=10_000 + seed).returns.cumsum(2),
            )
        yield f"{bias}: optimum", optimum(env, tasks, 100).cumsum(2)


def prompting(seed: int):
    """Fig. 5: begin with the history of a learner that has come some of the way."""
    recipe = ad.RECIPES["dark room, q-learning"]
    test, model, expert = distilled(recipe, seed, expert=5)
    lifetimes = 8
    source = ad.collect(
        recipe.env,
        test,
        first_source(recipe),
        episodes=recipe.episodes,
        lifetimes=lifetimes,
        seed=seed + 77,
    )
    source = source.subsample(recipe.every)
    share = source.returns.mean((0, 1)) / ad.optimal_returns(recipe.env, test).mean()
    for at in dict.fromkeys(
        int(np.argmax(share >= min(part, share.max()))) for part in (0.05, 0.25, 0.5, 0.75, 0.95)
    ):
        for name, frozen in (("distilled", model), ("expert distillation", expert)):
            n = min(frozen.window - 1, 4)
            prompt = source.episodes[max(0, at + 1 - n) : at + 1]
            yield (
                f"{name} | {100 * share[at]:.0f}",
                live(recipe, test, ad.InContext(frozen, prompt=prompt), 50, seed, lifetimes),
            )
    yield "distilled | none", live(recipe, test, ad.InContext(model), 50, seed, lifetimes)


def single_stream(seed: int):
    """Fig. 6: one actor a task, every 10th episode of 800.

    Sampled as learned, and at a temperature that quiets exploration.
    """
    recipe = SINGLE_STREAM
    test, model = distilled(recipe, seed)
    for name, temperature in (("distilled", 0.3), ("distilled, temperature 1", 1.0)):
        yield name, live(recipe, test, ad.InContext(model, temperature=temperature), 60, seed)
    yield "source", live(recipe, test, first_source(recipe), recipe.episodes, seed)
    yield "optimum", optimum(recipe.env, test, recipe.episodes)


def permuted(seed: int):
    """Actions mean something else in every task: a model trained on this, and one that was not."""
    plain, mixed = ad.RECIPES["dark room, q-learning"], ad.RECIPES["permuted dark room"]
    _, model = distilled(plain, seed)
    test, relabelled = distilled(mixed, seed)
    usual = test.replace(actions=np.tile(np.arange(5), (len(test), 1)))
    for name, tasks in (("permuted", test), ("usual", usual)):
        for trained, frozen in (("trained without", model), ("trained with", relabelled)):
            yield f"{name} actions, {trained}", live(mixed, tasks, ad.InContext(frozen), 50, seed)
        yield (
            f"{name} actions, source",
            live(mixed, tasks, first_source(mixed), mixed.episodes, seed),
        )


def without(name: str, part: str, episodes: int, seed: int):
    """What a part of the token layout buys: a model trained and played without it."""
    recipe = changed(name, {})
    train, test = recipe.split(seed)
    model = ad.CausalTransformer(recipe.env.spec, **recipe.model, seed=seed)
    embed = model.embed_tokens
    if part in ("episode", "step"):  # positions: zero, and never trained
        getattr(embed, part).requires_grad_(False).zero_()
    elif part == "closing token":  # what an episode's last action led to is not told
        tell = embed.forward
        embed.forward = lambda tokens, position, dtype: tell(
            untold(tokens, position, recipe.env.spec), position, dtype
        )
    ad.distill(model, recipe.histories(train, seed), seed=seed, **recipe.training)
    yield "distilled", live(recipe, test, ad.InContext(model), episodes, seed)


def untold(tokens: token_layout.Tokens, position, spec: ad.EnvSpec) -> token_layout.Tokens:
    """The tokens, with every closing one saying "restart" and no more."""
    closing = (position % token_layout.slots(spec) == spec.horizon).expand(
        tokens.previous_action.shape
    )
    hidden = tokens.obs.masked_fill(closing[..., None], 0)
    return replace(
        tokens,
        obs=hidden,
        previous_action=tokens.previous_action.masked_fill(closing, spec.n_actions),
        previous_reward=tokens.previous_reward * ~closing,
    )


def recurrent(seed: int):
    """Fig. 14: the same histories distilled into a recurrent network, for about as long."""
    recipe = changed("key to door", {})
    train, test = recipe.split(seed)
    histories = recipe.histories(train, seed)
    policy = ad.RecurrentPolicy(recipe.env.spec, width=128, seed=seed)
    ad.distill_recurrent(policy, histories, episodes=recipe.episodes, **RECURRENT, seed=seed)
    yield "GRU", live(recipe, test, ad.RL2(policy), 30, seed)
    yield (
        "transformer",
        live(recipe, test, ad.InContext(recipe.distil(histories, seed)[0]), 30, seed),
    )


def variant(name: str, changes: dict, episodes: int, seed: int):
    """One recipe with something changed: how well the distilled model ends."""
    recipe = changed(name, changes)
    test, model = distilled(recipe, seed)
    yield "distilled", live(recipe, test, ad.InContext(model), episodes, seed)


def changed(name: str, changes: dict) -> ad.recipes.Recipe:
    """Return a recipe with other settings of its model, its training, or itself.

    Fewer steps and held-out tasks will do.
    """
    recipe = replace(ad.RECIPES[name], test_tasks=128)
    for part, fewer in (("model", {}), ("training", {"steps": 800})):
        recipe = replace(
            recipe, **{part: {**getattr(recipe, part), **fewer, **changes.get(part, {})}}
        )
    return replace(
        recipe, **{key: value for key, value in changes.items() if key not in ("model", "training")}
    )


def as_many_lifetimes(name: str, tasks: int) -> dict:
    """Fewer or more training tasks, with about as many lifetimes in all as the recipe has."""
    recipe = ad.RECIPES[name]
    usual = len(recipe.split(0)[0])
    return {
        "train_tasks": tasks,
        "share": 0.4,
        "sources": {a: max(1, n * usual // tasks) for a, n in recipe.sources.items()},
    }


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


def every_run() -> list[Run]:
    """All of them, those first that the others can do without least."""
    runs = []
    for seed in SEEDS:
        runs.append(Run("bandit", "", seed, bandit, repr(ad.RECIPES["bandit"])))
        for name, episodes, lifetimes in MAIN:
            about = f"{ad.RECIPES[name]} {episodes} {lifetimes}"
            runs.append(
                Run(
                    "main results",
                    name,
                    seed,
                    partial(main_results, name, episodes, lifetimes),
                    about,
                )
            )
        runs.append(
            Run("single stream", "", seed, single_stream, f"{SINGLE_STREAM} temperature 0.3")
        )
    for seed in SEEDS[:1]:
        runs.append(Run("permuted", "", seed, permuted, repr(ad.RECIPES["permuted dark room"])))
        runs.append(
            Run("prompting", "", seed, prompting, f"{ad.RECIPES['dark room, q-learning']} by share")
        )
        runs.append(
            Run("recurrent", "", seed, recurrent, f"{changed('key to door', {})} {RECURRENT}")
        )
        for part in ("episode", "step", "closing token"):
            live_it = partial(without, "key to door", part, 30)
            runs.append(
                Run(
                    "tokens",
                    f"without {part}",
                    seed,
                    live_it,
                    f"{changed('key to door', {})} 30 without {part}",
                )
            )
        for experiment, (name, episodes, settings) in VARIANTS.items():
            for setting, changes in settings.items():
                live_it = partial(variant, name, changes, episodes)
                runs.append(
                    Run(
                        experiment,
                        str(setting),
                        seed,
                        live_it,
                        f"{changed(name, changes)} {episodes}",
                    )
                )
    return runs


# ---- running them ----


def work(experiment: str, setting: str, seed: int, data: Path) -> tuple[pd.DataFrame, dict]:
    """Return the curves of one run, in a process of its own, and what it cost and came to.

    What is to be kept is saved below `data`.
    """
    import torch

    torch.set_num_threads(1)
    (run,) = (
        run
        for run in every_run()
        if (run.experiment, run.setting, run.seed) == (experiment, setting, seed)
    )
    wall, cpu, curves, lived = time.perf_counter(), time.process_time(), [], {}
    for curve, returns in run.live(seed):
        if hasattr(returns, "save"):
            returns.save(data / curve, overwrite=True)
            continue
        lived[curve] = returns
        points = POINTS[returns.shape[2] >= POINTS]
        by_task = returns.mean(1)  # (task, episode)
        spread = (
            by_task.std(0, ddof=1) / np.sqrt(len(by_task))
            if len(by_task) > 1
            else np.full(returns.shape[2], np.nan)
        )
        columns = {
            "episode": points,
            "return": by_task.mean(0)[points - 1],
            "standard_error": spread[points - 1],
        }
        curves.append(pd.DataFrame(columns).assign(curve=curve, last10=by_task[:, -10:].mean()))
    about = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    if {"distilled", "source", "optimum"} <= set(lived):
        about |= data_efficiency(lived["source"], lived["distilled"], 0.8 * lived["optimum"].mean())
    return pd.concat(curves), about


def data_efficiency(source: np.ndarray, distilled: np.ndarray, target: float) -> dict[str, float]:
    """Return the episodes of one lifetime until each reaches the target, and their ratio."""
    ratio = ad.stats.speed_up(source, distilled, target)
    episodes = {
        "source": ad.stats.episodes_to(source, target),
        "distilled": ad.stats.episodes_to(distilled, target),
    }
    return {f"{name}_episodes": n for name, n in episodes.items()} | {
        f"ratio_{name}": v for name, v in ratio._asdict().items()
    }


def keep(run: Run, curves: pd.DataFrame, about: dict, out: Path) -> None:
    """Put a run's rows into its experiment's table, in place of older ones; whole or not at all."""
    mine = {"setting": run.setting, "seed": run.seed}
    _replace(
        out / f"{run.experiment}.csv",
        curves.assign(**mine)[[*mine, "curve", "episode", "return", "standard_error", "last10"]],
        mine,
    )
    mine = {"experiment": run.experiment} | mine
    _replace(out / "runs.csv", pd.DataFrame([mine | {"key": run.key} | about]), mine)


def _replace(path: Path, rows: pd.DataFrame, of: dict) -> None:
    old = _read(path)
    if len(old):
        same = np.logical_and.reduce([old[name] == value for name, value in of.items()])
        rows = pd.concat([old[~same], rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    rows.to_csv(part, index=False, float_format="%.4g")
    os.replace(part, path)


def _read(path: Path) -> pd.DataFrame:
    return (
        pd.read_csv(path, dtype={"setting": str}).fillna({"setting": ""})
        if path.exists()
        else pd.DataFrame()
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    runs = every_run()
    names = ", ".join(dict.fromkeys(run.experiment for run in runs))
    parser.add_argument(
        "texts",
        nargs="*",
        metavar="TEXT",
        help=f"only runs that have one of these in their name, such as {names}",
    )
    parser.add_argument("--list", action="store_true", help="only say what there is")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="no more than this many")
    parser.add_argument("--at-once", type=int, default=2, help="processes; 2")
    parser.add_argument(
        "--out",
        type=Path,
        default=OUT,
        help="for tables; models that ship go beside it: data/paper_figures",
    )
    given = parser.parse_args(arguments)
    known = _read(given.out / "runs.csv")
    done = set(known["key"]) if len(known) else set()
    wanted = [
        run
        for run in runs
        if run.seed < given.seeds and any(text in run.key for text in given.texts or [""])
    ]
    if not wanted:
        parser.error(
            f"no run has {' or '.join(map(repr, given.texts))} in its name; --list shows them all."
        )
    left = [run for run in wanted if run.key not in done]
    print(f"{len(wanted)} runs, {len(wanted) - len(left)} of them done.", flush=True)
    if given.list:
        print(
            "\n".join(("  done  " if run.key in done else "  to do ") + run.key for run in wanted)
        )
        return 0
    began, failed = time.perf_counter(), 0
    with ProcessPoolExecutor(given.at_once, multiprocessing.get_context("spawn")) as pool:
        alike = {}
        for run in left:
            alike.setdefault(run.same, []).append(run)
        ask = lambda run: pool.submit(
            work, run.experiment, run.setting, run.seed, given.out.resolve().parent
        )
        futures = {ask(runs[0]): runs for runs in alike.values()}
        for i, future in enumerate(as_completed(futures)):
            (run, *_), minutes = futures[future], (time.perf_counter() - began) / 60
            if error := future.exception():
                failed += 1
                print(
                    f"{i + 1:3}/{len(futures)} {minutes:5.1f} min | {run.key} | FAILED: {error!r}",
                    flush=True,
                )
                continue
            curves, about = future.result()
            for run in futures[future]:
                keep(run, curves, about, given.out)
            late = curves.groupby("curve", sort=False)["last10"].first()
            shown = ", ".join(f"{name} {value:.3f}" for name, value in late.items())
            done = f"{i + 1:3}/{len(futures)} {minutes:5.1f} min | {run.key}"
            print(f"{done} | {about['cpu_s']:.0f} CPU s | last ten: {shown}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
