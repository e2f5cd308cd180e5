"""Histories and artefacts: slicing, showing, keeping, and everything that can go wrong with a folder."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from helpers import same
from hypothesis import given, settings
from hypothesis import strategies as st

import adkit as ad
from adkit import store
from adkit.store import ArtefactError
from adkit.testing import check_histories


def test_axes_are_lifetime_and_transition(env, histories):
    assert histories.obs.shape == (100, 64, 2) and histories.action.shape == (100, 64)
    assert histories.returns.shape == (25, 4, 8) and histories.first.sum() == 800
    assert histories.final_obs.shape == (100, 8, 2) and len(histories) == 100
    np.testing.assert_array_equal(
        histories.returns[7, 2], histories.reward[7 * 4 + 2].reshape(8, 8).sum(1)
    )
    check_histories(histories)


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
    with pytest.raises(ValueError, match="use .episode_returns"):
        _ = picked.returns
    assert (
        len(histories[3]) == 1
        and len(histories[-2:]) == 2
        and len(histories[histories.task == 4]) == 4
    )


def test_concatenating_the_parts_gives_the_whole(histories):
    assert same(ad.Histories.concatenate([histories[:38], histories[38:]]), histories)
    shuffled = ad.Histories.concatenate([histories[50:], histories[:50]])
    assert shuffled.returns.shape == (25, 4, 8)
    with pytest.raises(ValueError, match="share their spec"):
        ad.Histories.concatenate([histories, histories.subsample(2)])


def test_a_frame_has_one_row_per_episode(histories):
    frame = histories.subsample(2).to_frame()
    assert len(frame) == 100 * 4 and frame["return"].sum() == pytest.approx(
        histories.subsample(2).reward.sum()
    )
    assert frame.loc[frame.lifetime == 9, "episode"].tolist() == [0, 2, 4, 6] and frame[
        "goal"
    ].iloc[4 * 9] == (0, 2)
    assert isinstance(histories.tasks, pd.DataFrame)


def test_a_person_sees_what_they_hold(histories):
    for text in (repr(histories), histories._repr_html_()):
        assert all(
            word in text
            for word in (
                "25 tasks, 100 lifetimes",
                "8 of 8 steps",
                "PosteriorSampling",
                "DarkRoom(size=5",
            )
        )


def test_early_endings_leave_the_rest_of_an_episode_empty():
    env = ad.envs.from_gymnasium("FrozenLake-v1", horizon=30)
    life = ad.collect(env, env.tasks(), ad.sources.Random(), episodes=20, lifetimes=3)
    assert life.length.min() < 30 and life.arrays["terminated"].any()
    check_histories(life)
    assert life.length.tolist() == life.to_frame()["length"].to_numpy().reshape(3, 20).tolist()


def test_saving_the_same_is_a_no_op_and_saving_other_content_is_refused(tmp_path, histories):
    path = histories.save(tmp_path / "h")
    stamp = os.stat(path / "manifest.json").st_mtime_ns
    histories.save(path)
    assert os.stat(path / "manifest.json").st_mtime_ns == stamp
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
        histories[:4].save(path)
    assert same(ad.Histories.load(path), histories)
    histories[:4].save(path, overwrite=True)
    assert len(ad.Histories.load(path)) == 4 and os.listdir(tmp_path) == ["h"]


@pytest.mark.parametrize(
    ("function", "call"), [("fsync", 1), ("fsync", 5), ("rename", 1), ("rename", 2)]
)
@pytest.mark.parametrize("existing", [False, True])
def test_an_interrupted_save_leaves_nothing_half_written(
    tmp_path, monkeypatch, histories, function, call, existing
):
    if existing:
        histories[:4].save(tmp_path / "h")
    real, calls = getattr(os, function), []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, function, interrupted)
        if function == "fsync" or call == 1 or existing:
            with pytest.raises(KeyboardInterrupt):
                histories.save(tmp_path / "h", overwrite=existing)
            assert os.listdir(tmp_path) == (["h"] if existing else [])
    if existing:
        assert same(ad.Histories.load(tmp_path / "h"), histories[:4])
    histories.save(tmp_path / "h", overwrite=True)
    assert same(ad.Histories.load(tmp_path / "h"), histories)


def test_a_crash_between_the_two_renames_of_an_overwrite_is_mended_by_the_next_look(
    tmp_path, histories
):
    histories[:4].save(tmp_path / "h")
    os.rename(tmp_path / "h", tmp_path / ".h.old")  # what a power cut leaves
    assert same(ad.Histories.load(tmp_path / "h"), histories[:4]) and os.listdir(tmp_path) == ["h"]


def damage(path, how):
    manifest = json.loads((path / "manifest.json").read_text())
    if how == "gone":
        shutil.rmtree(path)
    elif how == "a file":
        shutil.rmtree(path)
        path.write_text("hello")
    elif how == "no manifest":
        (path / "manifest.json").unlink()
    elif how == "array missing":
        (path / "action.npy").unlink()
    elif how == "truncated":
        (path / "action.npy").write_bytes((path / "action.npy").read_bytes()[:-7])
    elif how == "not JSON":
        (path / "manifest.json").write_text("{")
    else:
        manifest |= {
            "other version": {"format": 99},
            "other kind": {"kind": "cake"},
            "no files": {"files": None},
        }.get(how, {})
        if how == "escape":
            manifest["files"]["../../etc/passwd"] = manifest["files"].pop("action.npy")
        if how == "array unlisted":
            del manifest["files"]["action.npy"]
        manifest = store.seal(manifest) if how != "seal broken" else manifest | {"about": {}}
        (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("gone", "not a folder"), ("a file", "not a folder"), ("no manifest", "has no manifest.json"),
        ("array missing", "action.npy is missing"), ("seal broken", "does not match its own sha256"),
        ("truncated", "truncated"), ("not JSON", "cannot be read"), ("other version", "format 99"), ("other kind", "holds 'cake'"),
("no files", "cannot be read"), ("escape", "not a plain file"), ("array unlisted", "'action' is missing"),
    ],
)  # fmt: skip
def test_a_damaged_folder_is_named_and_explained(tmp_path, histories, how, says):
    path = histories[:4].save(tmp_path / "h")
    damage(path, how)
    with pytest.raises((ArtefactError, FileNotFoundError), match=says):
        ad.Histories.load(path)


def test_find_prefers_what_this_checkout_made(tmp_path, monkeypatch, histories):
    monkeypatch.setenv("ADKIT_ROOT", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="run the notebook that makes it"):
        ad.find("room/h")
    histories[:2].save(tmp_path / "data/room/h")
    assert ad.find("room/h") == tmp_path / "data/room/h"
    histories[:2].save(tmp_path / "runs/room/h")
    assert ad.find("room/h") == tmp_path / "runs/room/h"
