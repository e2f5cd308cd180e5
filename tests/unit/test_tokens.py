"""The layout of tokens, by hand."""

import numpy as np

import adkit as ad
from adkit.models.tokens import NO_TARGET, sample_windows, tokenize, window_starts


def test_two_short_episodes_as_written_by_hand():
    """Horizon 3; the first episode ends after two steps: o0 o1 o2* empty | o0 o1 o2 o3*."""
    spec = ad.EnvSpec("x", n_actions=2, horizon=3, cardinality=(9,))
    windows = {
        "obs": np.array([[[1, 2, 0], [4, 5, 6]]])[..., None],
        "action": np.array([[[1, 0, 0], [0, 1, 1]]]),
        "reward": np.array([[[0, 7, 0], [1, 2, 3]]], np.float32),
        "terminated": np.array([[[0, 1, 0], [0, 0, 0]]], bool),
        "truncated": np.array([[[0, 0, 0], [0, 0, 1]]], bool),
        "final_obs": np.array([[[3], [7]]]),
    }
    tokens = tokenize(spec, windows, label=np.array([[0.5, 0.7]]))
    real = tokens.valid[0]
    assert real.tolist() == [True] * 3 + [False] + [True] * 4
    assert tokens.obs[0, :, 0].tolist() == [1, 2, 3, 0, 4, 5, 6, 7]
    assert tokens.previous_action[0, real].tolist() == [2, 1, 0, 2, 0, 1, 1]  # 2 is "restart"
    assert tokens.previous_reward[0, real].tolist() == [0, 0, 7, 0, 1, 2, 3]
    assert tokens.target[0].tolist() == [1, 0, NO_TARGET, NO_TARGET, 0, 1, 1, NO_TARGET]
    assert np.flatnonzero(~np.isnan(tokens.label[0])).tolist() == [0, 4]


def test_the_window_drops_whole_old_episodes():
    assert window_starts(12, 4, 2).tolist() == [0, 0, 0, 0, 2, 2, 4, 4, 6, 6, 8, 8]
    assert window_starts(5, 4, 3).tolist() == [0, 0, 0, 0, 1]
    assert window_starts(4, 1, 0).tolist() == [0, 1, 2, 3]


def test_a_share_of_windows_opens_the_lifetime(histories):
    rng = ad.Rng.of(0, "x", np.arange(2000))
    opening = histories.windows(np.arange(len(histories)), np.zeros(len(histories), int), 4)
    opening = {window.tobytes() for window in opening["action"]}
    for share, low, high in ((1.0, 1.0, 1.0), (0.5, 0.5, 0.75), (0.0, 0.1, 0.35)):
        drawn = sample_windows(histories, 4, 2000, share, rng)["action"]
        assert low <= np.mean([window.tobytes() in opening for window in drawn]) <= high
