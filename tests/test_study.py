"""The study, judged: every measure that a hypothesis names comes out of the tables that are committed, and nothing else does."""

from pathlib import Path

import pytest
from study.verdicts import VERDICTS
from study import judge
from study import verdicts as judging

import adkit as ad

FOLDER = Path(ad.__file__).parents[1]
DATA = FOLDER / "data" / "cookie_world"


@pytest.fixture(scope="module")
def hypotheses():
    return judging.load_hypotheses(FOLDER / "notebooks" / "hypotheses.yaml")


@pytest.fixture(scope="module")
def tables():
    return judge.load(DATA)


@pytest.fixture(scope="module")
def measured(tables):
    return judge.measured(tables)


def test_every_measure_that_is_written_down_was_taken(hypotheses, measured):
    for name, rules in hypotheses["gates"].items():
        assert set(rules) <= set(measured[name])
    for name, entry in hypotheses["hypotheses"].items():
        named = {
            entry["measure"],
            *entry["supported"],
            *entry["refuted"],
            *entry["controls"],
            *entry.get("reported", []),
        }
        assert named - {"p_holm", "over_episode_shuffled"} <= set(
            measured[name]
        )  # the latter in the full profile alone


def test_every_hypothesis_gets_one_of_four_words(hypotheses, measured):
    judged = judging.verdicts(hypotheses, measured)
    assert set(judged) == set(hypotheses["hypotheses"])
    assert {one.verdict for one in judged.values()} <= set(VERDICTS)


YOKED = "yoked_auc", "yoked_auc_of_filter", "yoked_auc_of_gifts"


def test_a_cookie_counter_is_not_taken_for_drift(hypotheses, tables):
    confounded = tables | {
        "drift": tables["drift confounded"],
        "drift draws": tables["drift confounded draws"],
    }
    judged = judge.alone(hypotheses, confounded, "H2a", YOKED)
    failed = set(
        judged.rules.measure[
            ~judged.rules.passed & judged.rules.role.isin(["supported", "control"])
        ]
    )
    assert judged.verdict != "supported" and failed & {"phi", "headroom"}, judged


def test_a_bit_that_is_copied_is_not_taken_for_foresight(hypotheses, tables):
    copied = tables | {
        "hiding": tables["hiding copied"],
        "edits action only": tables["edits copied"],
    }
    judged = judge.alone(hypotheses, copied, "H4")
    assert judged.verdict != "supported" and judged.grade != "conditioned on inferred w", judged


def test_each_seed_is_judged_alone_too(hypotheses, tables):
    found = judge.by_seed(hypotheses, tables)
    assert list(found.index) == list(hypotheses["hypotheses"]) and {
        "seed 0",
        "seed 1",
        "seed 2",
    } <= set(found)
    assert found["mean, t-interval"].str.contains(r"\[").all()


def test_tables_hold_three_seeds_of_every_headline(tables):
    for name in {name for need in judge.NEEDED.values() for name in need} - {
        "false positives",
        "drift tolerance visible",
    }:
        assert tables[name]["seed"].nunique() >= 3, name


def test_what_is_missing_is_named(tables, tmp_path):
    with pytest.raises(
        ValueError, match="has no tables competence, compression, drift.*make study ARGS=standard"
    ):
        judge.load(tmp_path)
    with pytest.raises(ValueError, match="nothing measures H3; there are G0"):
        judge.measured(tables, ["H3"])
