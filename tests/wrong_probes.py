"""Three wrong calls of statistics, and of what looks inside models."""

import numpy as np
from wrong_things import HOLE, MAZE, NOTEBOOKS, ROOM, creatures, hypotheses, lives, model, probe, resid

import adkit as ad
from adkit import probing, stats, taps

tokens = (8, 6, 7)  # of lives(): lifetimes, episodes, steps and one
same = lambda logits: logits[:, 0, 0, 0]
masses = lambda: probing.attention_masses(model(), lives())
steered = lambda: probing.steer(model(), lives(), "blocks.0.resid", np.ones(8), same, random=1)

PROBES = {
    "stats.bootstrap": [
        lambda: stats.bootstrap(np.zeros((0, 3))),
        lambda: stats.bootstrap(np.zeros(3)),
        lambda: stats.bootstrap(np.zeros((3, 2)), level=2),
    ],
    "stats.resamples": [
        lambda: stats.resamples(0),
        lambda: stats.resamples(4, [np.zeros(3)]),
        lambda: stats.resamples(4, draws=0),
    ],
    "stats.hierarchical": [
        lambda: stats.hierarchical(np.zeros(4), [np.zeros(3)]),
        lambda: stats.hierarchical(np.zeros(0)),
        lambda: stats.hierarchical(np.zeros(4), level=2),
    ],
    "stats.over_seeds": [
        lambda: stats.over_seeds([1.0]),
        lambda: stats.over_seeds([[1.0, 2.0]]),
        lambda: stats.over_seeds([1.0, 2.0], level=95),
    ],
    "stats.detectable": [
        lambda: stats.detectable(0.5),
        lambda: stats.detectable(stats.Interval(0.0, -1.0, 1.0), level=95),
        lambda: stats.detectable(stats.Interval(0.0, -1.0, 1.0), power=1.5),
    ],
    "stats.above": [lambda: stats.above(0.5), lambda: stats.above([]), lambda: stats.above(np.zeros((3, 2)))],
    "stats.drawn": [
        lambda: stats.drawn(np.zeros(0), [], same),
        lambda: stats.drawn(np.zeros((4, 2)), [], lambda means: means),
        lambda: stats.drawn(np.zeros(4), [np.zeros(3)], lambda means: means),
    ],
    "stats.improvement": [
        lambda: stats.improvement(np.zeros((3, 4))),
        lambda: stats.improvement(np.zeros((3, 2, 4)), share=0.8),
        lambda: stats.improvement(lives()),
    ],
    "stats.regret": [
        lambda: stats.regret(np.zeros((3, 4)), 1.0),
        lambda: stats.regret(np.zeros((3, 2, 4)), np.zeros(2)),
        lambda: stats.regret(lives(), 1.0),
    ],
    "stats.iqm": [lambda: stats.iqm([]), lambda: stats.iqm([1.0, np.nan]), lambda: stats.iqm(["a", "b"])],
    "stats.episodes_to": [
        lambda: stats.episodes_to(np.zeros(4), 1.0),
        lambda: stats.episodes_to(np.zeros((3, 2, 4)), 1.0, smooth=0),
        lambda: stats.episodes_to(np.zeros((3, 2, 4)), np.zeros(2)),
    ],
    "stats.speed_up": [
        lambda: stats.speed_up(np.zeros(4), np.zeros(4), 1.0),
        lambda: stats.speed_up(np.zeros((3, 2, 4)), np.zeros((3, 2, 0)), 1.0),
        lambda: stats.speed_up(np.zeros((3, 2, 4)), np.zeros((3, 2, 4)), np.nan),
    ],
    "stats.exchange_p": [
        lambda: stats.exchange_p([1.0], [1.0]),
        lambda: stats.exchange_p([1.0, 2.0], [[1.0]]),
        lambda: stats.exchange_p([1.0], [[np.nan]]),
    ],
    "stats.draws_of": [
        lambda: stats.draws_of(),
        lambda: stats.draws_of(null=np.zeros((2, 2))),
        lambda: stats.draws_of(null="many"),
    ],
    "stats.equivalent": [
        lambda: stats.equivalent([1.0, 2.0], -1),
        lambda: stats.equivalent([1.0], 0.5),
        lambda: stats.equivalent([1.0, 2.0], 0.5, groups=["a"]),
    ],
    "stats.holm": [lambda: stats.holm([[0.01, 0.02]]), lambda: stats.holm([1.5]), lambda: stats.holm([0.01, np.nan])],
    "stats.fdr": [lambda: stats.fdr([2.0]), lambda: stats.fdr([-0.1]), lambda: stats.fdr([[0.01, 0.02]])],
    # ---- inside ----
    "taps.names": [lambda: taps.names(lives()), lambda: taps.names("model"), lambda: taps.names(ad.InContext(model()))],
    "taps.matching": [
        lambda: taps.matching(model(), "blocks.9.resid"),
        lambda: taps.matching(model(), "resid"),
        lambda: taps.matching(model(), 3),
    ],
    "record": [
        lambda: ad.record(model(), lives(), "blocks.9.resid"),
        lambda: ad.record(model(), creatures(), "embed"),
        lambda: ad.record(model(), lives(), "embed", batch=0),
    ],
    "taps.gather": [
        lambda: taps.gather(model(), lives(), np.ones((8, 6), bool), "embed"),
        lambda: taps.gather(model(), lives(), np.ones(tokens, int), "embed"),
        lambda: taps.gather(model(), lives(), np.ones(tokens, bool), "blocks.9.resid"),
    ],
    "taps.resumable": [
        lambda: taps.resumable(lives(), model()),
        lambda: taps.resumable(model(), "lives"),
        lambda: taps.resumable(ad.InContext(model()), lives()),
    ],
    "taps.head_start": [
        lambda: taps.head_start(model(), lives()),
        lambda: taps.head_start(model(), lives(), "blocks.9.resid"),
        lambda: taps.head_start(model(), creatures(), "embed"),
    ],
    "taps.Recording.__getitem__": [
        lambda: resid()["embed"],
        lambda: resid()["blocks.*.resid"],
        lambda: ad.record(model(), lives(), "blocks.*.resid").array,
    ],
    "edit": [
        lambda: ad.edit(model(), {"blocks.9.resid": lambda x: x}).__enter__(),
        lambda: ad.edit(model(), {"embed": 3}).__enter__(),
        lambda: ad.edit(model(), ["embed"]).__enter__(),
    ],
    "probing.fit": [
        lambda: probing.fit(resid(), np.zeros(3)),
        lambda: probing.fit(resid(), np.zeros(4), l2=-1),
        lambda: probing.fit(resid(), np.arange(4.0), holdout="some"),
    ],
    "probing.Probe.level": [lambda: probe().level("B1"), lambda: probe().level("untrained"), lambda: probe().level(0)],
    "probing.Probe.within": [lambda: probe().within("B1"), lambda: probe().within("untrained"), lambda: probe().within(0)],
    "probing.Probe.over": [lambda: probe().over("B1"), lambda: probe().over("untrained"), lambda: probe().over(0)],
    "probing.Probe.phi": [lambda: probe().phi(), lambda: probe().phi(low="B0"), lambda: probe().phi("probe", high="B9")],
    "probing.Probe.headroom": [
        lambda: probe().headroom(),
        lambda: probe().headroom(low="B0"),
        lambda: probe().headroom("probe", "B9"),
    ],
    "probing.pool": [
        lambda: probing.pool([]),
        lambda: probing.pool([probe(), probing.fit(resid(), np.arange(8.0) % 4, groups=np.arange(8), permutations=0)]),
        lambda: probing.pool(probe()),
    ],
    "probing.erase": [
        lambda: probing.erase(resid(), np.zeros(3)),
        lambda: probing.erase(resid(), np.zeros(4), where=np.ones(3, bool)),
        lambda: probing.erase(np.zeros((4, 3)), np.full(4, np.nan)),
    ],
    "probing.Eraser.__call__": [
        lambda: probe().erase(np.zeros((2, 5))),
        lambda: probe().erase(resid()),
        lambda: probe().erase([1.0, 2.0]),
    ],
    "probing.Eraser.random": [lambda: probe().erase.random(0), lambda: probe().erase.random(-1), lambda: probe().erase.random(0.5)],
    "probing.erasure_effect": [
        lambda: probing.erasure_effect(model(), lives(), {}, same),
        lambda: probing.erasure_effect(model(), lives(), {"blocks.0.resid": probe().erase}, same, random=0),
        lambda: probing.erasure_effect(model(), lives(), {"blocks.0.resid": probe().erase}, same, at=np.ones((8, 6), bool)),
    ],
    "probing.action_loss": [
        lambda: probing.action_loss(lives(), where=np.ones((8, 6), bool)),
        lambda: probing.action_loss(lives(), where=np.ones((8, 6, 6))),
        lambda: probing.action_loss(lives(), policy=np.ones((8, 6, 6))),
    ],
    "probing.attention_masses": [
        lambda: probing.attention_masses(model(), lives(), batch=0),
        lambda: probing.attention_masses(model(), lives(), keep=99),
        lambda: probing.attention_masses(model(), creatures()),
    ],
    "probing.AttentionMasses.ratio": [
        lambda: masses().ratio("goal"),
        lambda: masses().ratio("restart", where=np.ones((8, 6), bool)),
        lambda: masses().ratio("restart", where=np.ones((8, 6, 6))),
    ],
    "probing.attention_rollout": [
        lambda: probing.attention_rollout([]),
        lambda: probing.attention_rollout([np.zeros((2, 3, 4))]),
        lambda: probing.attention_rollout([np.zeros((2, 3, 4, 1, 6))]),
    ],
    "probing.after_first_reward": [
        lambda: probing.after_first_reward(lives().returns),
        lambda: probing.after_first_reward([lives()]),
        lambda: probing.after_first_reward(ROOM),
    ],
    "probing.ablate_head": [
        lambda: ad.record(model(), lives(), changes={"blocks.0.attn.z": lambda x, cut: probing.ablate_head(2)(x)}),
        lambda: ad.record(model(), lives(), changes={"blocks.0.resid": lambda x, cut: probing.ablate_head(0)(x)}),
        lambda: probing.ablate_head("first"),
    ],
    "probing.erase_episode": [
        lambda: probing.erase_episode(lives(), np.zeros(3, int)),
        lambda: probing.erase_episode(lives(), np.full(8, 6)),
        lambda: probing.erase_episode(lives(), 2),
    ],
    "probing.possible": [
        lambda: probing.possible(MAZE, lives()),
        lambda: probing.possible(lambda lives: True, lives()),
        lambda: probing.possible(HOLE, lives()),
    ],
    "probing.counterfactual": [
        lambda: probing.counterfactual(lives(), ROOM, actions=np.zeros((8, 6, 6))),
        lambda: probing.counterfactual(lives(), ROOM, action=np.zeros((8, 6))),
        lambda: probing.counterfactual(lives(), ROOM, reward=np.ones((8, 6, 6))),
    ],
    "probing.patch": [
        lambda: probing.patch(model(), lives(), lives(5), "blocks.0.resid", same),
        lambda: probing.patch(model(), lives(), lives(), "nonsense", same),
        lambda: probing.patch(model(), creatures(), creatures(), "blocks.0.resid", same),
    ],
    "probing.difference_of_means": [
        lambda: probing.difference_of_means(np.zeros((4, 3)), np.zeros(4)),
        lambda: probing.difference_of_means(np.zeros((4, 3)), np.ones(4, bool)),
        lambda: probing.difference_of_means(np.zeros((4, 3)), np.ones(3, bool)),
    ],
    "probing.off_unembedding": [
        lambda: probing.off_unembedding(np.zeros(3), model()),
        lambda: probing.off_unembedding(np.zeros(8), model()),
        lambda: probing.off_unembedding(np.full(8, np.nan), model()),
    ],
    "probing.steer": [
        lambda: probing.steer(model(), lives(), "nonsense", np.ones(8), same),
        lambda: probing.steer(model(), lives(), "blocks.0.resid", np.ones(3), same),
        lambda: probing.steer(model(), lives(), "blocks.0.resid", np.ones(8), same, doses=(1, 2)),
    ],
    "probing.Steering.p": [
        lambda: steered().p("size"),
        lambda: steered().p(0),
        lambda: steered().p("KL"),
    ],
    "probing.load_hypotheses": [
        lambda: probing.load_hypotheses(NOTEBOOKS / "deviations.md"),
        lambda: probing.load_hypotheses(NOTEBOOKS / "no.yaml"),
        lambda: probing.load_hypotheses(NOTEBOOKS),
    ],
    "probing.check_hypotheses": [
        lambda: probing.check_hypotheses({}),
        lambda: probing.check_hypotheses({"gates": {"G0": {}}, "hypotheses": {}}),
        lambda: probing.check_hypotheses({"gates": [], "hypotheses": {}}),
    ],
    "probing.gate": [
        lambda: probing.gate({"gap": {"over": 1}}, {}),
        lambda: probing.gate({"gap": 0.5}, {}),
        lambda: probing.gate({"gap": {"at_least": 0.5}}, {"gap": "large"}),
    ],
    "probing.verdict": [
        lambda: probing.verdict({}, {}),
        lambda: probing.verdict(hypotheses()["hypotheses"]["H0"], {"savings": 1}, "H0"),
        lambda: probing.verdict(hypotheses(), {}),
    ],
    "probing.verdicts": [
        lambda: probing.verdicts(hypotheses(), {"H9": {}}),
        lambda: probing.verdicts(hypotheses(), {"H0": {"savings": 1}}),
        lambda: probing.verdicts({}, {}),
    ],
    "probing.verdict_table": [
        lambda: probing.verdict_table({}),
        lambda: probing.verdict_table({"H0": "supported"}),
        lambda: probing.verdict_table([1]),
    ],
    "probing.flips": [
        lambda: probing.flips(hypotheses(), {}, {"H2a.phi": 1}),
        lambda: probing.flips(hypotheses(), {}, {"H9.supported.phi.at_least": 1}),
        lambda: probing.flips(hypotheses(), {}, {"H2a.supported.phi.at_least": "much"}),
    ],
}
