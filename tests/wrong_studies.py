"""Three wrong calls of what judges creatures, and of pictures."""

import numpy as np
import pandas as pd
from wrong_things import (
    EMPTY,
    HOLE,
    NOTEBOOKS,
    ODD,
    ROOM,
    creatures,
    edited,
    foreteller,
    hypotheses,
    judged,
    lives,
    model,
    nowhere,
    parts,
    readings,
    strangers,
)

import adkit as ad
from adkit import anatomy, checks, cookies, edits, probing, study, views
from adkit.endpoints import competence, compression, drift, erasure, hiding, instruments, steering

look = lambda: views.EpisodeAttention(model(), lives()[0])

ratio = lambda means: means[..., 0] / means[..., 1]

STUDIES = {
    # ---- creatures ----
    "anatomy.heads": [
        lambda: anatomy.heads(ROOM, ROOM.tasks()[:1]),
        lambda: anatomy.heads(HOLE, HOLE.tasks()[:2], np.zeros((2, 2, 25))),
        lambda: anatomy.heads(HOLE, ROOM.tasks()[:1]),
    ],
    "anatomy.policy": [
        lambda: anatomy.policy(HOLE, HOLE.tasks()[:1], -1.0),
        lambda: anatomy.policy(HOLE, HOLE.tasks()[:1], 1.0, hunger=9),
        lambda: anatomy.policy(ROOM, ROOM.tasks()[:1], 1.0),
    ],
    "anatomy.detour": [lambda: anatomy.detour(ROOM.tasks()), lambda: anatomy.detour(HOLE), lambda: anatomy.detour([(0, 0)])],
    "anatomy.hiding": [
        lambda: anatomy.hiding(HOLE, HOLE.tasks()[:1], [-1.0]),
        lambda: anatomy.hiding(HOLE, HOLE.tasks()[:1], []),
        lambda: anatomy.hiding(ROOM, ROOM.tasks()[:1], [1.0]),
    ],
    "anatomy.balance": [lambda: anatomy.balance(-1, 1), lambda: anatomy.balance(1, 0), lambda: anatomy.balance(np.nan, 1)],
    "cookies.world": [lambda: cookies.world("D1"), lambda: cookies.world(5), lambda: cookies.world("Main")],
    "cookies.population": [lambda: cookies.population("D1"), lambda: cookies.population(5), lambda: cookies.population("Main")],
    "cookies.lives": [lambda: cookies.lives("D1", 4, 0), lambda: cookies.lives("main", 0, 0), lambda: cookies.lives("main", 4, -1)],
    "cookies.judged": [
        lambda: cookies.judged("train", 4),
        lambda: cookies.judged("test", 10**6),
        lambda: cookies.judged("test", 0),
    ],
    "checks.creatures": [
        lambda: checks.creatures(lives()),
        lambda: checks.creatures(creatures(), "belief_rel"),
        lambda: checks.creatures(judged(), "w"),
    ],
    "cookies.balance": [
        lambda: cookies.balance(lives()),
        lambda: cookies.balance(strangers()),
        lambda: cookies.balance(creatures().arrays),
    ],
    "cookies.sites": [lambda: cookies.sites(lives()), lambda: cookies.sites(creatures())["home"], lambda: cookies.sites(ODD)],
    "cookies.directed": [
        lambda: cookies.directed(lives()),
        lambda: cookies.directed(creatures(), "pantry"),
        lambda: cookies.directed(creatures(), "rho"),
    ],
    "cookies.log_odds": [lambda: cookies.log_odds(2.0), lambda: cookies.log_odds([0.5, -1]), lambda: cookies.log_odds(np.nan)],
    "cookies.eaten": [lambda: cookies.eaten(lives()), lambda: cookies.eaten(ODD), lambda: cookies.eaten(creatures().arrays)],
    "cookies.exposure": [
        lambda: cookies.exposure(lives()),
        lambda: cookies.exposure(ODD),
        lambda: cookies.exposure(creatures().arrays),
    ],
    "cookies.cookies_ahead": [
        lambda: cookies.cookies_ahead(lives()),
        lambda: cookies.cookies_ahead(creatures(), 0),
        lambda: cookies.cookies_ahead(creatures(), 0.5),
    ],
    "cookies.table": [
        lambda: cookies.table(lives()),
        lambda: cookies.table(creatures()),
        lambda: cookies.table(judged(), w=np.zeros(3)),
    ],
    "cookies.interval": [
        lambda: cookies.interval(ODD, ["odd"]),
        lambda: cookies.interval(pd.DataFrame({"seed": [0], "orbit": [0]}), ["phi"]),
        lambda: cookies.interval(pd.DataFrame({"seed": [], "orbit": [], "phi": []}), ["phi"]),
    ],
    "cookies.against": [
        lambda: cookies.against(ODD, ["odd"], ratio),
        lambda: cookies.against(edited(), ["effect", "filter"], ratio),
        lambda: cookies.against(edited()[:0], ["history", "orbit"], ratio),
    ],
    "edits.edit": [
        lambda: edits.edit("gift", creatures(), 1),
        lambda: edits.edit("cue", creatures(), 0),
        lambda: edits.edit("cue", lives(), 1),
    ],
    "edits.asked": [
        lambda: edits.asked("gift", creatures(), np.ones((4, 3, 16, 8))),
        lambda: edits.asked("cue", creatures(), np.ones((4, 3, 16))),
        lambda: edits.asked("cue", lives(), np.ones((8, 6, 6, 8))),
    ],
    "edits.effects": [
        lambda: edits.effects(creatures(), lambda lives: lives, [1]),
        lambda: edits.effects(judged(), lambda lives: np.zeros(3), [1]),
        lambda: edits.effects(judged(), lambda lives: lives.arrays["pi"], []),
    ],
    "endpoints.competence.predictions": [
        lambda: competence.predictions(model(), creatures()),
        lambda: competence.predictions(ad.InContext(model()), lives()),
        lambda: competence.predictions(foreteller(), lives()),
    ],
    "endpoints.competence.per_life": [
        lambda: competence.per_life(lives(), np.ones((8, 6, 6, 8))),
        lambda: competence.per_life(creatures(), np.ones((4, 3, 16, 8))),
        lambda: competence.per_life(judged(), np.ones((4, 10, 16))),
    ],
    "endpoints.competence.rollouts": [
        lambda: competence.rollouts(model(), n=1, days=1),
        lambda: competence.rollouts(foreteller(), n=0),
        lambda: competence.rollouts(foreteller(), n=10**6),
    ],
    "endpoints.competence.returns_per_life": [
        lambda: competence.returns_per_life(lives()),
        lambda: competence.returns_per_life(creatures()),
        lambda: competence.returns_per_life(ODD),
    ],
    "endpoints.competence.compared": [
        lambda: competence.compared(ODD, ODD),
        lambda: competence.compared(EMPTY, EMPTY),
        lambda: competence.compared(ODD, EMPTY),
    ],
    "endpoints.competence.gap_closed": [
        lambda: competence.gap_closed(ODD),
        lambda: competence.gap_closed(EMPTY),
        lambda: competence.gap_closed(edited(), site="home"),
    ],
    "endpoints.competence.improvement": [
        lambda: competence.improvement(ODD),
        lambda: competence.improvement(EMPTY),
        lambda: competence.improvement(edited()),
    ],
    "endpoints.competence.effect": [
        lambda: competence.effect(ODD, "stock"),
        lambda: competence.effect(edited(), "gift"),
        lambda: competence.effect(edited(), "stock", "X"),
    ],
    "endpoints.competence.effect_ratio": [
        lambda: competence.effect_ratio(ODD, "stock"),
        lambda: competence.effect_ratio(edited(), "gift"),
        lambda: competence.effect_ratio(edited(), "stock", "X"),
    ],
    "endpoints.competence.change_ratio": [
        lambda: competence.change_ratio(ODD, "stock"),
        lambda: competence.change_ratio(edited(), "gift"),
        lambda: competence.change_ratio(edited(), "stock"),
    ],
    "endpoints.competence.measured_competence": [
        lambda: competence.measured_competence(ODD, ODD, edited()),
        lambda: competence.measured_competence(edited(), ODD, ODD),
        lambda: competence.measured_competence(EMPTY, EMPTY, EMPTY),
    ],
    "endpoints.competence.measured_activation": [
        lambda: competence.measured_activation(ODD, ODD, edited()),
        lambda: competence.measured_activation(edited(), edited(), edited()),
        lambda: competence.measured_activation(EMPTY, EMPTY, EMPTY),
    ],
    "endpoints.compression.per_life": [
        lambda: compression.per_life(creatures(), "planner"),
        lambda: compression.per_life(lives(), "model"),
        lambda: compression.per_life(creatures(), "model", site="home"),
    ],
    "endpoints.compression.code": [
        lambda: compression.code(ODD),
        lambda: compression.code(EMPTY),
        lambda: compression.code(edited()),
    ],
    "endpoints.compression.saved": [
        lambda: compression.saved(np.zeros(3)),
        lambda: compression.saved(np.zeros((2, 5))),
        lambda: compression.saved(1.0),
    ],
    "endpoints.compression.measured": [
        lambda: compression.measured(ODD),
        lambda: compression.measured(EMPTY),
        lambda: compression.measured(edited()),
    ],
    "endpoints.drift.untrained": [
        lambda: drift.untrained(ad.InContext(model())),
        lambda: drift.untrained(lives()),
        lambda: drift.untrained("model"),
    ],
    "endpoints.drift.tolerance": [
        lambda: drift.tolerance(lives()),
        lambda: drift.tolerance(ODD),
        lambda: drift.tolerance(creatures().arrays),
    ],
    "endpoints.drift.per_life": [
        lambda: drift.per_life(foreteller(), {"test": creatures()}, {}),
        lambda: drift.per_life(foreteller(), parts(creatures()), {}),
        lambda: drift.per_life(foreteller(), parts(judged()), {}, site="home"),
    ],
    "endpoints.drift.readings": [
        lambda: drift.readings(foreteller(), {"test": creatures()}),
        lambda: drift.readings(foreteller(), parts(creatures())),
        lambda: drift.readings(foreteller(), parts(judged()), site="home"),
    ],
    "endpoints.drift.measured": [
        lambda: drift.measured(ODD, ODD),
        lambda: drift.measured(EMPTY, EMPTY),
        lambda: drift.measured(edited(), ODD),
    ],
    "endpoints.drift.measured_controls": [
        lambda: drift.measured_controls(ODD),
        lambda: drift.measured_controls(EMPTY),
        lambda: drift.measured_controls(edited()),
    ],
    "endpoints.drift.over_counting": [
        lambda: drift.over_counting(ODD),
        lambda: drift.over_counting(EMPTY),
        lambda: drift.over_counting(edited()),
    ],
    "endpoints.erasure.choose": [
        lambda: erasure.choose(foreteller(1), parts(judged())),
        lambda: erasure.choose(foreteller(), {"test": judged()}),
        lambda: erasure.choose(foreteller(), parts(creatures())),
    ],
    "endpoints.erasure.some": [
        lambda: erasure.some(lives(), 10),
        lambda: erasure.some(strangers(), 10),
        lambda: erasure.some(judged(), 1),
    ],
    "endpoints.erasure.per_life": [
        lambda: erasure.per_life(foreteller(), {}, None),
        lambda: erasure.per_life(foreteller(), parts(creatures()), None),
        lambda: erasure.per_life(foreteller(), parts(judged()), "blocks.0.resid"),
    ],
    "endpoints.erasure.measured": [
        lambda: erasure.measured(ODD, ODD),
        lambda: erasure.measured(EMPTY, EMPTY),
        lambda: erasure.measured(edited(), ODD),
    ],
    "endpoints.hiding.per_life": [
        lambda: hiding.per_life(lives(), np.ones((8, 6, 6, 8))),
        lambda: hiding.per_life(creatures(), np.ones((4, 3, 16, 8))),
        lambda: hiding.per_life(judged(), np.ones((4, 10, 16))),
    ],
    "endpoints.hiding.copied": [
        lambda: hiding.copied(lives()),
        lambda: hiding.copied(creatures()),
        lambda: hiding.copied(strangers()),
    ],
    "endpoints.hiding.auc": [lambda: hiding.auc(ODD), lambda: hiding.auc(EMPTY), lambda: hiding.auc(edited(), who="nobody")],
    "endpoints.hiding.auc_share": [
        lambda: hiding.auc_share(ODD),
        lambda: hiding.auc_share(EMPTY),
        lambda: hiding.auc_share(edited()),
    ],
    "endpoints.hiding.measured_random": [
        lambda: hiding.measured_random(ODD),
        lambda: hiding.measured_random(EMPTY),
        lambda: hiding.measured_random(edited()),
    ],
    "endpoints.hiding.measured": [
        lambda: hiding.measured(ODD, ODD, ODD),
        lambda: hiding.measured(EMPTY, EMPTY, EMPTY),
        lambda: hiding.measured(edited(), edited(), edited()),
    ],
    "endpoints.instruments.checked": [
        lambda: instruments.checked(foreteller(), lives()),
        lambda: instruments.checked(foreteller(), strangers()),
        lambda: instruments.checked(foreteller(), judged(), tap="blocks.9.resid"),
    ],
    "endpoints.instruments.false_positives": [
        lambda: instruments.false_positives(runs=0),
        lambda: instruments.false_positives(lives=3),
        lambda: instruments.false_positives(width=0),
    ],
    "endpoints.steering.vectors": [
        lambda: steering.vectors(foreteller(), lives(), "blocks.0.resid", 2),
        lambda: steering.vectors(foreteller(), creatures(), "blocks.0.resid", 2),
        lambda: steering.vectors(foreteller(), judged(), "blocks.9.resid", 2),
    ],
    "endpoints.steering.per_life": [
        lambda: steering.per_life(foreteller(), {"test": judged()}, "blocks.0.resid"),
        lambda: steering.per_life(foreteller(), parts(creatures()), "blocks.0.resid"),
        lambda: steering.per_life(foreteller(), parts(judged()), "blocks.9.resid"),
    ],
    "endpoints.steering.measured": [
        lambda: steering.measured(ODD, ODD),
        lambda: steering.measured(EMPTY, EMPTY),
        lambda: steering.measured(edited(), ODD),
    ],
    "study.load": [lambda: study.load(NOTEBOOKS), lambda: study.load(nowhere()), lambda: study.load(nowhere() / "no")],
    "study.measured": [
        lambda: study.measured({}, ["H9"]),
        lambda: study.measured({}, ["H0"]),
        lambda: study.measured({"compression": ODD}, ["H0"]),
    ],
    "study.by_seed": [
        lambda: study.by_seed(hypotheses(), {}),
        lambda: study.by_seed({}, {}),
        lambda: study.by_seed(hypotheses(), dict.fromkeys(study.NEEDED, ODD)),
    ],
    "study.alone": [
        lambda: study.alone(hypotheses(), {}, "H9"),
        lambda: study.alone(hypotheses(), {}, "H0"),
        lambda: study.alone({}, {}, "H0"),
    ],
    # ---- pictures ----
    "views.learning_curves": [
        lambda: views.learning_curves({}),
        lambda: views.learning_curves({"a": lives()}, x="hours"),
        lambda: views.learning_curves(lives()),
    ],
    "views.result_curves": [
        lambda: views.result_curves(ODD, "x", "y", "by"),
        lambda: views.result_curves(pd.DataFrame({"x": [], "y": [], "by": []}), "x", "y", "by"),
        lambda: views.result_curves(pd.DataFrame({"x": [1], "y": [1]}), "x", "y", "by"),
    ],
    "views.verdict": [
        lambda: views.verdict("supported"),
        lambda: views.verdict({}),
        lambda: views.verdict(probing.verdicts(hypotheses(), {})),
    ],
    "views.verdicts": [lambda: views.verdicts({}), lambda: views.verdicts({"H0": "supported"}), lambda: views.verdicts([1])],
    "views.EpisodeAttention": [
        lambda: views.EpisodeAttention(model(), lives()),
        lambda: views.EpisodeAttention(model(), creatures()[0]),
        lambda: views.EpisodeAttention(model(), lives()[0], keep=99),
    ],
    "views.EpisodeAttention.probabilities": [
        lambda: look().probabilities(9, 0),
        lambda: look().probabilities(2, 0, without=5),
        lambda: look().probabilities(2, 0, ablate=(9, 0)),
    ],
    "views.EpisodeAttention.to_html": [
        lambda: look().to_html(nowhere()),
        lambda: look().to_html(nowhere() / "no" / "a.html"),
        lambda: look().to_html(""),
    ],
    "views.Player": [
        lambda: views.Player({}),
        lambda: views.Player({"a": lives()}),
        lambda: views.Player({"a": lives()[0]}, episode=99),
    ],
    "views.Player.to_html": [
        lambda: views.Player({"a": lives()[0]}).to_html(nowhere()),
        lambda: views.Player({"a": lives()[0]}).to_html(nowhere() / "no" / "a.html"),
        lambda: views.Player({"a": lives()[0]}).to_html(""),
    ],
    "views.Replay": [
        lambda: views.Replay(lives()),
        lambda: views.Replay(lives()[0], episode=6),
        lambda: views.Replay([lives()[0]]),
    ],
    "views.replay": [
        lambda: views.replay(lives()),
        lambda: views.replay(lives()[0], episode=6),
        lambda: views.replay([lives()[0]]),
    ],
    "views.PolicyField": [
        lambda: views.PolicyField(ROOM, ROOM.tasks()),
        lambda: views.PolicyField(HOLE, HOLE.tasks()[:0]),
        lambda: views.PolicyField(HOLE, HOLE.tasks()[:2], task=5),
    ],
    "views.PolicyField.to_html": [
        lambda: views.PolicyField(HOLE, HOLE.tasks()[:1]).to_html(nowhere()),
        lambda: views.PolicyField(HOLE, HOLE.tasks()[:1]).to_html(nowhere() / "no" / "a.html"),
        lambda: views.PolicyField(HOLE, HOLE.tasks()[:1]).to_html(""),
    ],
    "views.arrow_fields": [
        lambda: views.arrow_fields({}, HOLE.tasks()[:1]),
        lambda: views.arrow_fields({"cookie": np.zeros((24, 8))}, HOLE.tasks()[:1]),
        lambda: views.arrow_fields({"cookie": np.zeros((25, 8))}, HOLE.tasks()[:2]),
    ],
    "views.heat_map": [
        lambda: views.heat_map(EMPTY),
        lambda: views.heat_map(pd.DataFrame([[np.nan]])),
        lambda: views.heat_map(pd.DataFrame([[-1.0]])),
    ],
    "views.drift": [lambda: views.drift({}), lambda: views.drift({"a": np.zeros(3)}), lambda: views.drift({"a": np.zeros((0, 3))})],
    "views.lifetime": [
        lambda: views.lifetime(ODD),
        lambda: views.lifetime(readings(), 2),
        lambda: views.lifetime(readings()[:0]),
    ],
    "views.visits": [lambda: views.visits({"a": creatures()}), lambda: views.visits(lives()), lambda: views.visits({})],
    "views.visit_shares": [
        lambda: views.visit_shares(creatures()),
        lambda: views.visit_shares({"a": lives()}),
        lambda: views.visit_shares(ROOM),
    ],
}
