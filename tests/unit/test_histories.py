"""Histories: slicing, joining, showing and keeping."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from harm import resealed
from helpers import listed, same
from hypothesis import given, settings
from hypothesis import strategies as st

import adkit as ad
from adkit.store import ArtefactError


@settings(max_examples=30, deadline=None)
@given(
    k=st.integers(1, 8),
    rows=st.lists(st.integers(0, 99), min_size=1, max_size=7),
    cut=st.integers(1, 7),
)
def test_subsampling_slicing_and_indexing_commute(histories, k, rows, cut):
    assert same(histories.subsample(k)[rows], histories[rows].subsample(k))
    assert same(histories.episodes[:cut][rows], histories[rows].episodes[:cut])
    np.testing.assert_array_equal(histories.subsample(k).episode, np.arange(8)[::k])


def test_lifetimes_bring_their_tasks_along(histories):
    picked = histories[[5, 90, 91]]
    assert picked.tasks.index.tolist() == [1, 22] and picked.task.tolist() == [0, 1, 1]
    for uneven in (picked, histories[[90, 5]]):  # other numbers of lifetimes; another order
        with pytest.raises(ValueError, match=r"use \.episode_returns"):
            _ = uneven.returns
    assert len(histories[3]) == 1 and len(histories[-2:]) == 2
    assert len(histories[histories.task == 4]) == 4


def test_concatenating_the_parts_gives_the_whole(histories):
    assert same(ad.Histories.concatenate([histories[:38], histories[38:]]), histories)
    shuffled = ad.Histories.concatenate([histories[50:], histories[:50]])
    assert shuffled.returns.shape == (25, 4, 8)
    with pytest.raises(ValueError, match="must share spec and episode numbers, got 8 episodes"):
        ad.Histories.concatenate([histories, histories.subsample(2)])


def test_a_frame_has_one_row_per_episode(histories):
    some = histories.subsample(2)
    frame = some.to_frame()
    assert len(frame) == 100 * 4 and frame["return"].sum() == pytest.approx(some.reward.sum())
    assert frame.loc[frame.lifetime == 9, "episode"].tolist() == [0, 2, 4, 6]
    assert frame["goal"].iloc[4 * 9] == (0, 2) and isinstance(histories.tasks, pd.DataFrame)


def labelled(histories):
    """Return histories with labels and several task columns, none of them in alphabetical order."""
    goal, n = histories.task_values["goal"], len(histories.task_values)
    tasks = ad.Tasks({"goal": goal, "a": np.arange(n)[::-1], "text": np.array(["é"] * n)})
    shapes = {"mood": (100,), "daily": (100, 8), "felt": (100, 8, 8, 2)}
    labels = {name: np.arange(np.prod(of)).reshape(of) for name, of in shapes.items()}
    return replace(histories, task_values=tasks, arrays=histories.arrays | labels)


@pytest.mark.parametrize("mapped", [False, True])
def test_what_is_loaded_is_what_was_saved(tmp_path, histories, mapped):
    saved = labelled(histories)
    loaded = ad.Histories.load(saved.save(tmp_path / "h"), mapped)
    assert same(loaded, saved) and loaded.spec == saved.spec and loaded.about == saved.about
    assert list(loaded.arrays) == list(saved.arrays) and loaded.labels == ["mood", "daily", "felt"]
    assert loaded.tasks.equals(saved.tasks)
    assert same(saved[5:9].episodes[2:], loaded[5:9].episodes[2:])
    saved[5:9].episodes[2:].check()
    parts = [saved[50:], loaded[:50]]
    assert same(ad.Histories.concatenate(parts), ad.Histories.concatenate([saved[50:], saved[:50]]))
    assert loaded.arrays["reward"].flags.writeable == (not mapped)


def without(name):
    return lambda manifest: manifest["files"].pop(name)


def spec_of(**changed):
    return lambda manifest: manifest["about"]["spec"].update(changed)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without("action.npy"), "array 'action' is missing"),
        (without("task.npy"), "'task'"),
        (without("tasks.goal.npy"), "tasks need one column or more"),
        (lambda manifest: manifest["about"].pop("spec"), "'spec'"),
        (spec_of(cardinality=[5, 2]), r"obs\[..., 1\] are 0 to 4: out of range, 0 to 1"),
        (spec_of(n_actions=2), "actions are 0 to 4: out of range"),
        (spec_of(horizon=9), "need uint8"),
        (spec_of(size=3), "unexpected keyword argument 'size'"),
    ],
)
def test_what_a_stranger_says_of_arrays_must_fit_them(tmp_path, histories, change, says, mapped):
    path = histories.save(tmp_path / "h")
    resealed(path, change)
    with pytest.raises(ArtefactError, match=f"h does not hold complete histories: .*{says}"):
        ad.Histories.load(path, mapped)


ENDLESS = np.tile(np.arange(8) == 7, (100, 8, 1))
ENDLESS[3, 2] = False  # one episode of one lifetime


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("reward", np.full((100, 8, 8), np.nan, np.float32), "rewards hold NaN"),
        ("truncated", ENDLESS, "some episodes never end"),
        ("mood", np.array(1), r"label 'mood' is \(\)"),
        ("mood", np.zeros((100, 7)), r"label 'mood' is \(100, 7\)"),
    ],
)
def test_histories_that_are_none_are_not_saved(tmp_path, histories, name, values, says):
    wrong = replace(histories, arrays=histories.arrays | {name: values})
    with pytest.raises(ValueError, match=says):
        wrong.save(tmp_path / "h")
    assert not listed(tmp_path)
