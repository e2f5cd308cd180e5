"""Attention of each decision to earlier episodes, beside the lifetime it was recorded in."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import cache

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
from adkit.views import maps, page

# Bytes of step-by-step attention sent to the browser; beyond it, rows are sent on demand.
FULL_AT_MOST = 16 * 2**20


class EpisodeAttention(page.LifetimeView):
    """A lifetime, a cursor (episode, step), and what the decision there attends to.

    Linked panels: the room with attention painted onto its cells, return per episode, attention per
    episode and per step, a map of every head, and the action probabilities, also without the
    selected head and with the attended episode removed. `lifetime`, `episode`, `step`, `layer` and
    `head` are two-way traits: read them, set them, `jslink` them. `head` counts the heads of the
    layer, then their mean, then attention rollout up to this layer (Abnar & Zuidema 2020).

    The past is as a model with memory reads it: an agent without memory, or with a prompt, acted
    from another window. Attention is exact to 1/510 of each head's maximum. With `env`, the return
    panel shows random and optimum. The view keeps the model as it is now: inside `with edit(...)`,
    edited.
    """

    _esm = page.script("attention.js")

    episode = traitlets.Int(0).tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)
    layer = traitlets.Int(0).tag(sync=True)
    head = traitlets.Int(0).tag(sync=True)
    attended = traitlets.Int(-1).tag(sync=True)
    """The episode whose steps are shown; -1 for the one attended to most."""
    normalised = traitlets.Bool(False).tag(sync=True)
    """Divide by what uniform causal attention would give."""
    logarithmic = traitlets.Bool(False).tag(sync=True)
    show_goal = traitlets.Bool(False).tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)
    speed = traitlets.Int(10).tag(sync=True)
    """Steps a second."""

    def __init__(
        self,
        model: CausalTransformer,
        histories: Histories,
        env: Env | None = None,
        *,
        lifetime: int = 0,
        episode: int | None = None,
        action_names: Sequence[str] | None = None,
    ):
        model.check_spec(histories.spec)
        if env is not None and env.spec != histories.spec:
            raise ValueError(f"`env` must be the one of {histories.spec}, got {env!r}")
        names = [str(name) for name in action_names or range(model.spec.n_actions)]
        if len(names) != model.spec.n_actions:
            raise ValueError(f"`action_names` must have {model.spec.n_actions}, got {names}")
        self.model, self.histories, self.env = deepcopy(model), histories, env
        self.action_names, self._reference = names, cache(self._reference)
        last, horizon, config = histories.n_episodes - 1, histories.spec.horizon, model.config
        self.starts = window_starts(last + 1, model.window, kept(model.window))
        limits = {"episode": last, "attended": last, "step": horizon - 1}
        limits |= {"layer": config["layers"] - 1, "head": config["heads"] + 1}
        at = {"lifetime": lifetime, "layer": limits["layer"], "head": config["heads"]}
        super().__init__([histories], limits, **at)
        if episode is None:  # the first decisions that can attend to a reward
            rewarded = histories.episode_returns[lifetime] > 0
            episode = min(rewarded.argmax() + 1, last) if rewarded.any() else 0
        self.episode = int(episode)
        self.on_msg(self._answer)

    @property
    def shown(self) -> Histories:
        """Return the lifetime that is shown."""
        return self.histories[self.lifetime]

    # ---- numbers ----

    def _reference(self, task: int) -> dict:
        """Return the random and the optimal return on a task, None where not known."""
        found: dict = {"random": None, "optimum": None}
        if self.env is not None:
            tasks = self.histories.task_values[[task]]
            rollouts = collect(self.env, tasks, Random(), episodes=8, lifetimes=50)
            found["random"] = float(rollouts.returns.mean())
            if has_optimum(self.env):
                found["optimum"] = float(optimal_returns(self.env, tasks)[0])
        return found

    def numbers(self, lifetime: int) -> dict:
        """Return sizes, attention, action probabilities and the lifetime; arrays are packed."""
        one = self.histories[lifetime]
        numbers = maps.packed(one) | self._reference(int(self.histories.task[lifetime]))
        numbers |= {"lifetime": lifetime, "action_names": self.action_names}
        return numbers | self._attention(one)

    def _attention(self, one: Histories) -> dict:
        """Return what the model attends to and would do in a lifetime, and what was done."""
        window, config = self.model.window, self.model.config
        episodes, horizon = one.n_episodes, one.spec.horizon
        shape = episodes, horizon, config["layers"], config["heads"] + 2
        pooled = np.zeros((*shape, window), np.float32)
        chances = np.zeros((episodes, horizon, one.spec.n_actions), np.float32)
        tokens = window * (horizon + 1)
        whole = np.prod(shape) * tokens <= FULL_AT_MOST
        full = np.zeros((*shape, tokens if whole else 0), np.float32)
        for start in np.unique(self.starts):
            acted = np.flatnonzero(self.starts == start)
            attention, logits = (values[acted - start] for values in self._window(one, start))
            pooled[acted] = attention.reshape(*attention.shape[:-1], window, -1).sum(-1)
            chances[acted] = softmax(logits, axis=-1)
            if whole:
                full[acted] = attention
        return {
            "episodes": episodes,
            "horizon": horizon,
            "window": window,
            "layers": config["layers"],
            "heads": config["heads"],
            "actions": one.spec.n_actions,
            "starts": page.packed(self.starts, "int32"),
            "rewards": page.packed(one.arrays["reward"][0], "float32"),
            "taken": page.packed(one.arrays["action"][0], "uint8"),
            "chances": page.packed(chances, "float32"),
            **_quantised("pooled", pooled),
            **_quantised("full", full),
        }

    def _window(
        self, one: Histories, start: int, without: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return attention (w, H, L, heads + 2, S) and logits (w, H, A) of a window of w episodes.

        `without` leaves an episode of the lifetime out, as if it had not happened.
        """
        window = np.arange(start, min(start + self.model.window, one.n_episodes))
        some = one.episodes[window[window != without]]
        seen = record(self.model, some, "blocks.*.attn.pattern", "logits")
        *patterns, logits = seen.values.values()
        layers = [
            np.concatenate([heads, heads.mean(3, keepdims=True), rollout[..., None, :]], axis=3)
            for heads, rollout in zip(patterns, attention_rollout(patterns), strict=True)
        ]
        # an episode's last token decides nothing
        return np.stack(layers, axis=3)[0, :, :-1], logits[0, :, :-1]

    # ---- interventions ----

    def probabilities(
        self,
        episode: int,
        step: int,
        *,
        ablate: tuple[int, int] | None = None,
        without: int | None = None,
    ) -> np.ndarray:
        """Return (A,) action probabilities at one decision, perhaps under an intervention.

        `ablate` is a (layer, head); the number after the last head ablates all heads of the layer.
        `without` is an earlier episode of the window to leave out.
        """
        if not 0 <= step < self.histories.length[self.lifetime, episode]:
            raise ValueError(f"episode {episode} has no step {step}")
        start = self.starts[episode]
        if without is not None and not start <= without < episode:
            raise ValueError(f"`without` must be in {start} to {episode - 1}, got {without}")
        changes = {}
        if ablate:
            layer, head = ablate
            every = head == self.model.config["heads"]
            changes[f"blocks.{layer}.attn.z"] = torch.zeros_like if every else ablate_head(head)
        with edit(self.model, changes):
            _, logits = self._window(self.shown, start, without)
        return softmax(logits[episode - start - (without is not None), step])

    def _answer(self, widget, question: dict, buffers) -> None:
        """Answer the browser, also on failure: it waits for a message with its key."""
        try:
            message, parts = self._reply(question)
        except Exception as error:
            self.send({"tell": "failed", "key": question.get("key"), "text": str(error)})
            raise
        self.send({"tell": question["ask"], "key": question["key"]} | message, parts)

    def _reply(self, question: dict) -> tuple[dict, list[bytes]]:
        """Return step-by-step attention on demand, or a decision under interventions."""
        episode, step = int(question["episode"]), int(question["step"])
        if question["ask"] == "row":
            start = self.starts[episode]
            attention, _ = self._window(self.shown, start)
            row = attention[episode - start, step].astype("<f4")  # (L, heads + 2, S)
            return {}, [row.tobytes()]
        layer, head, attended = (int(question[name]) for name in ("layer", "head", "attended"))
        message: dict = {"head": None, "episode": None}
        if head <= self.model.config["heads"]:  # attention rollout cannot be ablated
            message["head"] = self.probabilities(episode, step, ablate=(layer, head)).tolist()
        if self.starts[episode] <= attended < episode:
            message["episode"] = self.probabilities(episode, step, without=attended).tolist()
        return message, []

    def describe(self) -> str:
        """Return the number of episodes and the name of the environment."""
        what = f"{self.histories.n_episodes} episodes of {self.histories.spec.name}"
        return f"EpisodeAttention: {what}"


def _quantised(name: str, values: np.ndarray) -> dict:
    """Return values (E, H, L, heads + 2, S) as bytes, with a scale for each head of each layer.

    Overwrites `values`.
    """
    scale = values.max(axis=(0, 1, 4), initial=0)  # (L, heads + 2)
    values *= (255 / np.maximum(scale, 1e-30))[..., None]
    values = np.rint(values, out=values)
    return {name: page.packed(values, "uint8"), f"{name}_scale": page.packed(scale, "float32")}
