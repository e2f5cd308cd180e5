"""What one decision looks back at, over episodes: attention beside the lifetime it was recorded in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import anywidget
import numpy as np
import torch
import traitlets
from scipy.special import softmax

from adkit.histories import Histories
from adkit.models.taps import edit
from adkit.models.tokens import kept, window_starts
from adkit.models.transformer import CausalTransformer
from adkit.probing import ablate_head, attention_rollout
from adkit.probing.record import record
from adkit.protocols import Env
from adkit.rollout import collect
from adkit.sources import Random
from adkit.tables import has_optimum, optimal_returns
from adkit.views import page

FULL_AT_MOST = (
    16 * 2**20
)  # bytes of step-by-step attention sent to the browser; beyond it, rows on demand
PATTERN_AT_ONCE = (
    2**19
)  # entries of one head's attention held at a time: 11 windows of 210 tokens, one of 1,010


class EpisodeAttention(anywidget.AnyWidget):
    """One lifetime, one cursor (episode, step), and what the decision there attends to.

    Linked panels: the room with attention painted onto its cells, return per episode, attention per episode and per
    step, a map of every head, and the action probabilities - also without the selected head, and with the attended
    episode removed. `episode`, `step`, `layer` and `head` are two-way traits: read them, set them, `jslink` them.
    `head` counts the layer's heads, then their mean, then attention rollout up to this layer (Abnar & Zuidema 2020).
    The past is as a model with memory reads it: an amnesiac's, or a prompted agent's, own window was another.
    Attention is exact to 1/510 of each head's maximum. With `env`, the return panel shows random and optimum.
    """

    _esm = page.script("attention.js")

    episode = traitlets.Int(0).tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)
    layer = traitlets.Int(0).tag(sync=True)
    head = traitlets.Int(0).tag(sync=True)
    attended = traitlets.Int(-1).tag(sync=True)
    """The episode whose steps are shown; -1 for whichever is attended to most."""
    normalised = traitlets.Bool(False).tag(sync=True)
    """Divide by what uniform causal attention would give."""
    logarithmic = traitlets.Bool(False).tag(sync=True)
    show_goal = traitlets.Bool(False).tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)
    speed = traitlets.Int(10).tag(sync=True)
    """Steps a second."""
    data = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        model: CausalTransformer,
        lifetime: Histories,
        env: Env | None = None,
        *,
        episode: int | None = None,
        keep: int | None = None,
        action_names: Sequence[str] | None = None,
    ):
        if len(lifetime) != 1:
            raise ValueError(
                f"{len(lifetime)} lifetimes given; look at one: EpisodeAttention(model, rollouts[0])."
            )
        model.check_spec(lifetime.spec)
        names = [str(name) for name in action_names or range(model.spec.n_actions)]
        if len(names) != model.spec.n_actions:
            raise ValueError(
                f"action_names={names}; {model.spec.name} has {model.spec.n_actions} actions, name each."
            )
        if env is not None and env.spec != lifetime.spec:
            raise ValueError(
                f"env is {env!r} and the lifetime was lived in {lifetime.spec}; give the environment it was lived in."
            )
        if episode is not None and not 0 <= episode < lifetime.n_episodes:
            raise ValueError(
                f"episode={episode}; this lifetime has episodes 0 to {lifetime.n_episodes - 1}."
            )
        self.model, self.lifetime, self.action_names = model, lifetime, names
        self.starts = window_starts(lifetime.n_episodes, model.window, kept(model.window, keep))
        paid = np.flatnonzero(lifetime.episode_returns[0] > 0) if lifetime.n_episodes else []
        after = (
            min(paid[0] + 1, lifetime.n_episodes - 1) if len(paid) else 0
        )  # the first decisions that have something to recall
        layers = model.config["layers"]
        super().__init__(
            data=self._numbers(env),
            episode=int(after if episode is None else episode),
            layer=layers - 1,
            head=model.config["heads"],
        )
        self.on_msg(self._answer)

    # ---- traits ----

    @traitlets.validate("episode", "step", "layer", "head", "attended")
    def _in_range(self, proposal) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        if not self.data:
            return value
        least, most = {
            "episode": (0, self.data["episodes"] - 1),
            "step": (0, self.data["horizon"] - 1),
            "layer": (0, self.data["layers"] - 1),
            "head": (0, self.data["heads"] + 1),
            "attended": (-1, self.data["episodes"] - 1),
        }[name]
        if not least <= value <= max(least, most):
            raise traitlets.TraitError(
                f"{name}={value}; this lifetime and model allow {least} to {most}."
            )
        return value

    # ---- numbers ----

    def _numbers(self, env: Env | None) -> dict:
        """Everything the browser needs, once."""
        model, lifetime, spec = self.model, self.lifetime, self.lifetime.spec
        episodes, horizon = lifetime.n_episodes, spec.horizon
        layers, heads = model.config["layers"], model.config["heads"]
        kind = page.map_kind(lifetime)
        grid = (0, 0) if kind == "arms" else page.map_size(lifetime)
        about = {
            "episodes": episodes, "horizon": horizon, "window": model.window, "layers": layers, "heads": heads,
            "actions": spec.n_actions, "action_names": self.action_names, "columns": grid[0], "rows": grid[1],
            "kind": kind, "marks": page.marks(lifetime) if grid[0] else [], "optimum": None, "random": None,
        }  # fmt: skip
        if not episodes:
            return about
        if env is not None:
            tasks = lifetime.task_values[lifetime.task]
            if has_optimum(env):
                about["optimum"] = float(optimal_returns(env, tasks)[0])
            about["random"] = float(
                collect(env, tasks, Random(), episodes=8, lifetimes=50).returns.mean()
            )
        numbers = {
            "numbers": (lifetime.episode, "int32"),
            "lengths": (lifetime.length[0], "int32"),
            "starts": (self.starts, "int32"),
            "returns": (lifetime.episode_returns[0], "float32"),
            "cells": (np.rint(page.token_cells(lifetime)) if grid[0] else np.zeros(0), "int16"),
            "rewards": (lifetime.arrays["reward"][0], "float32"),
            "taken": (lifetime.arrays["action"][0], "uint8"),
        }
        chances = np.zeros((episodes, horizon, spec.n_actions), np.float32)
        size = episodes * horizon * layers * (heads + 2) * model.window * (horizon + 1)
        pooled = np.zeros((episodes, horizon, layers, heads + 2, model.window), np.float32)
        full = np.zeros(
            (episodes, horizon, layers, heads + 2, model.window * (horizon + 1))
            if size <= FULL_AT_MOST
            else 0,
            np.float32,
        )
        for mine, rows, attention, logits in self._windows(range(episodes)):
            for i, row in zip(mine, rows, strict=True):
                pooled[i] = (
                    attention[row].reshape(*attention[row].shape[:-1], model.window, -1).sum(-1)
                )
                chances[i] = softmax(logits[row], axis=-1)
                if len(full):
                    full[i] = attention[row]
        for name, values in (("pooled", pooled), ("full", full)):
            scale = (
                values.max(axis=(0, 1, 4), initial=0)
                if len(values)
                else np.zeros((layers, heads + 2))
            )
            if len(values):
                values *= (255 / np.maximum(scale, 1e-30))[..., None]
            numbers |= {
                name: (np.rint(values, out=values), "uint8"),
                f"{name}_scale": (scale, "float32"),
            }
        numbers["chances"] = chances, "float32"
        return about | {
            name: page.packed(values, dtype) for name, (values, dtype) in numbers.items()
        }

    def _windows(self, episodes: Sequence[int], without: int | None = None) -> Iterator[tuple]:
        """Run the windows in which `episodes` were acted, some at once, and yield for each batch

        (episodes (n,), where they are in what follows, attention (B, W, H, L, heads + 2, S), logits (B, W, H, A)).
        `without` leaves that episode out of the window, as if it had not happened.
        """
        episodes = np.asarray(episodes)
        starts = self.starts[episodes]
        # a window is as long as the episodes there are: all but the last window are full
        length = np.minimum(self.model.window, self.lifetime.n_episodes - starts)
        for size in np.unique(length):
            together = max(
                1, PATTERN_AT_ONCE // (int(size) * (self.lifetime.spec.horizon + 1)) ** 2
            )
            for some in _chunks(np.unique(starts[length == size]), together):
                arrays = self.lifetime.windows(np.zeros(len(some), int), some, int(size))
                mine = episodes[np.isin(starts, some)]
                places = [
                    (int(np.searchsorted(some, self.starts[e])), int(e - self.starts[e]))
                    for e in mine
                ]
                if without is not None:
                    gone = int(without - some[0])
                    arrays = {
                        name: np.delete(values, gone, axis=1) for name, values in arrays.items()
                    }
                    places = [(b, w - (w > gone)) for b, w in places]
                yield mine, places, *self._run(arrays)

    def _run(self, arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Attention (B, W, H, L, heads + 2, S) and logits (B, W, H, A) of whole windows (B, W, H, ...)."""
        batch, episodes = arrays["action"].shape[:2]
        windows = replace(
            self.lifetime, task=np.zeros(batch, int), arrays=arrays, episode=np.arange(episodes)
        )
        seen = record(self.model, windows, "blocks.*.attn.pattern", "logits")
        patterns = [
            seen[f"blocks.{layer}.attn.pattern"] for layer in range(self.model.config["layers"])
        ]
        heads, decisions = (
            self.model.config["heads"],
            slice(0, -1),
        )  # the closing token decides nothing
        attention = np.empty(
            (
                *patterns[0][:, :, decisions].shape[:3],
                len(patterns),
                heads + 2,
                patterns[0].shape[-1],
            ),
            np.float32,
        )
        for layer, (pattern, rollout) in enumerate(
            zip(patterns, attention_rollout(patterns), strict=True)
        ):
            attention[:, :, :, layer, :heads] = pattern[:, :, decisions]
            attention[:, :, :, layer, heads] = pattern[:, :, decisions].mean(3)
            attention[:, :, :, layer, heads + 1] = rollout[:, :, decisions]
        return attention, seen["logits"][:, :, decisions]

    # ---- what would be ----

    def probabilities(
        self,
        episode: int,
        step: int,
        *,
        ablate: tuple[int, int] | None = None,
        without: int | None = None,
    ) -> np.ndarray:
        """(A,) at one decision; with (layer, head) ablated, or with one earlier episode of the window left out.

        `head` as in the trait: the mean stands for all heads of the layer. Attention rollout is no head: ValueError.
        """
        if not (
            0 <= episode < self.lifetime.n_episodes and 0 <= step < self.lifetime.length[0, episode]
        ):
            raise ValueError(
                f"episode={episode}, step={step} is no decision; episodes are 0 to {self.lifetime.n_episodes - 1}."
            )
        if without is not None and not self.starts[episode] <= without < episode:
            raise ValueError(
                f"without={without}; episode {episode} has {self.starts[episode]} to {episode - 1} in its window."
            )
        with edit(self.model, _ablated(self.model, *ablate) if ablate else {}):
            ((_, (place,), _, logits),) = self._windows([episode], without)
        return softmax(logits[place][step])

    def _answer(self, widget, question: dict, buffers) -> None:
        """Answer the browser, also when that fails: it waits for a message with its key."""
        try:
            message, parts = self._reply(question)
        except Exception as error:
            self.send({"tell": "failed", "key": question.get("key"), "text": str(error)})
            raise
        self.send({"tell": question["ask"], "key": question["key"]} | message, parts)

    def _reply(self, question: dict) -> tuple[dict, list[bytes]]:
        """Step-by-step attention that the browser has not got, or a decision under interventions."""
        episode, step = int(question["episode"]), int(question["step"])
        if question["ask"] == "row":
            ((_, (place,), attention, _),) = self._windows([episode])
            return {}, [
                np.ascontiguousarray(attention[place][step], "<f4").tobytes()
            ]  # (L, heads + 2, S)
        layer, head, attended = (int(question[name]) for name in ("layer", "head", "attended"))
        message: dict = {"head": None, "episode": None}
        if head <= self.model.config["heads"]:  # attention rollout is no head
            message["head"] = self.probabilities(episode, step, ablate=(layer, head)).tolist()
        if self.starts[episode] <= attended < episode:
            message["episode"] = self.probabilities(episode, step, without=attended).tolist()
        return message, []

    # ---- without a kernel ----

    def to_html(self, path: str | Path) -> Path:
        """Write one self-contained file that works offline with its controls; step by step where it is small enough."""
        names = (
            "episode",
            "step",
            "layer",
            "head",
            "attended",
            "normalised",
            "logarithmic",
            "show_goal",
            "playing",
            "speed",
        )
        state = {name: getattr(self, name) for name in names}
        return page.page(
            path, "Attention over episodes", "attention.js", state | {"data": self.data}
        )

    def _repr_mimebundle_(self, **kwargs):
        text = f"EpisodeAttention: {self.lifetime.n_episodes} episodes of {self.lifetime.spec.name}"
        return page.with_picture(super()._repr_mimebundle_(**kwargs), self.png(), text)

    def png(self) -> bytes:
        """The view at its cursor, as a picture."""
        from matplotlib.figure import Figure

        canvas = Figure(figsize=(10.4, 4.4), dpi=100)
        if not self.lifetime.n_episodes:
            canvas.text(
                0.5,
                0.5,
                "This lifetime has no episodes: there is nothing to look back at.",
                ha="center",
            )
            return page.as_png(canvas)
        places = {
            "left": 0.02,
            "right": 0.99,
            "bottom": 0.07,
            "top": 0.93,
            "hspace": 0.55,
            "wspace": 0.1,
        }
        panels = canvas.subplot_mosaic(
            [["room", "returns"], ["room", "mass"], ["room", "steps"]], gridspec_kw=places
        )
        room, returns, mass, steps = panels.values()
        e, t = self.episode, min(self.step, int(self.lifetime.length[0, self.episode]) - 1)
        start, tokens, per_token = self.at_cursor()
        per_episode = per_token.sum(1)

        if self.data["columns"]:
            cells = page.token_cells(self.lifetime)
            painted = page.painted(
                page.map_size(self.lifetime), cells[start : e + 1][tokens], per_token[tokens]
            )
            marks = self.data["marks"] if self.show_goal else ()
            page.draw_room(room, painted, cells[e, : t + 1], marks, self.data["kind"])
        else:
            room.axis("off")
            room.text(0.5, 0.5, "this world has no map", ha="center")
        head = {self.data["heads"]: "mean of heads", self.data["heads"] + 1: "rollout"}.get(
            self.head, f"head {self.head}"
        )
        room.set_title(
            f"episode {self.lifetime.episode[e]}, step {t}: layer {self.layer}, {head}", fontsize=10
        )

        earned = self.lifetime.episode_returns[0]
        returns.plot(self.lifetime.episode, earned, color="#333333", linewidth=1.5)
        returns.axvline(self.lifetime.episode[e], color=page.CURSOR, linewidth=2)
        for name, colour in (("optimum", page.GOOD), ("random", "#777777")):
            if self.data[name] is not None:
                returns.axhline(self.data[name], color=colour, linestyle="--", linewidth=1)
        returns.set_title(
            "return per episode"
            if earned.any()
            else "return per episode: no reward in this lifetime",
            fontsize=10,
        )
        labels = [str(number) for number in self.lifetime.episode[start : e + 1]]
        mass.bar(labels, per_episode, color=page.ATTENTION)
        uniform = tokens.sum(1) / tokens.sum()
        mass.plot(labels, uniform, "_", color="#333333", markersize=14)
        mass.set_title("attention per episode (dashes: uniform attention)", fontsize=10)
        chosen = self.attended - start if start <= self.attended <= e else int(per_episode.argmax())
        steps.bar(
            np.arange(tokens[chosen].sum()), per_token[chosen][tokens[chosen]], color=page.ATTENTION
        )
        paid = np.flatnonzero(self.lifetime.arrays["reward"][0, start + chosen] > 0) + 1
        paid = paid[paid < tokens[chosen].sum()]
        steps.plot(paid, np.full(len(paid), per_token[chosen].max()), "^", color=page.REWARD)
        steps.set_title(
            f"attention per step of episode {labels[chosen]} (triangles: reward received)",
            fontsize=10,
        )
        for ax in (returns, mass, steps):
            ax.spines[["top", "right"]].set_visible(False)
            ax.tick_params(labelsize=8)
        return page.as_png(canvas)

    def at_cursor(self) -> tuple[int, np.ndarray, np.ndarray]:
        """First episode of the window; which of its tokens (w, H + 1) the decision can see; its attention on each (w, H + 1).

        Run anew, not read from what the browser has: exact. The decision at the cursor is in the last of the w episodes.
        """
        e, t = self.episode, min(self.step, int(self.lifetime.length[0, self.episode]) - 1)
        start = int(self.starts[e])
        ((_, (place,), attention, _),) = self._windows([e])
        per = self.lifetime.spec.horizon + 1
        last = np.append(
            self.lifetime.length[0, start:e], t
        )  # an earlier episode's closing token is seen too
        tokens = np.arange(per) <= last[:, None]
        per_token = attention[place][t, self.layer, self.head].reshape(-1, per)[: e + 1 - start]
        return start, tokens, per_token


def _ablated(model: CausalTransformer, layer: int, head: int) -> dict:
    """The edit that silences one head, or with the mean's number all heads, of a layer."""
    layers, heads = model.config["layers"], model.config["heads"]
    if not (0 <= layer < layers and 0 <= head <= heads):
        raise ValueError(
            f"ablate={(layer, head)}; layers are 0 to {layers - 1}, heads 0 to {heads - 1}, and {heads} for all."
        )
    return {f"blocks.{layer}.attn.z": torch.zeros_like if head == heads else ablate_head(head)}


def _chunks(values: np.ndarray, size: int) -> list[np.ndarray]:
    return [values[i : i + size] for i in range(0, len(values), size)]
