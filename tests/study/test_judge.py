"""Every measure that a hypothesis names comes out of the shipped tables, and confounds fail."""

import pytest
from probed import NOTEBOOKS
from study import judge

YOKED = "yoked_auc", "yoked_auc_of_filter", "yoked_auc_of_gifts"
ONE_SEED = {"false positives", "drift tolerance visible"}


@pytest.fixture(scope="module")
def tables():
    return judge.load(NOTEBOOKS.parent / "data" / "cookie_world")


def test_registered_measures_and_no_others_are_taken(hypotheses, tables):
    measured = judge.measured(tables)
    for name, rules in hypotheses["gates"].items():
        assert set(measured[name]) == set(rules)
    in_full_profile = {"over_episode_shuffled"}
    for name, entry in hypotheses["hypotheses"].items():
        rules = entry["supported"], entry["refuted"], entry["controls"]
        named = {"null"}.union(*rules, *entry.get("grades", {}).values(), entry.get("reported", ()))
        assert set(measured[name]) - {"p"} == named - {"p_holm"} - in_full_profile


def test_a_cookie_counter_is_not_taken_for_drift(hypotheses, tables):
    planted = {"drift": "drift confounded", "drift draws": "drift confounded draws"}
    confounded = tables | {name: tables[other] for name, other in planted.items()}
    judged = judge.alone(hypotheses, confounded, "H2a", YOKED)
    failed = judged.rules[~judged.rules.passed & judged.rules.role.isin(["supported", "control"])]
    assert judged.verdict != "supported" and {"phi", "headroom"} & set(failed.measure)


def test_a_copied_bit_is_not_taken_for_planning(hypotheses, tables):
    planted = {"hiding": "hiding copied", "edits action only": "edits copied"}
    copied = tables | {name: tables[other] for name, other in planted.items()}
    judged = judge.alone(hypotheses, copied, "H4")
    assert judged.verdict != "supported" and judged.grade != "conditioned on inferred w"


def test_each_seed_is_judged_alone_too(hypotheses, tables):
    table = judge.by_seed(hypotheses, tables)
    assert list(table.index) == list(hypotheses["hypotheses"])
    assert {"seed 0", "seed 1", "seed 2"} <= set(table)
    assert all(low < mean < high for mean, low, high in table["estimate"])
    needed = {name for _, *names in judge.MEASURES.values() for name in names}
    assert all(tables[name]["seed"].nunique() >= 3 for name in needed - ONE_SEED)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no tables competence, .*make study ARGS=standard"):
        judge.load(tmp_path)
