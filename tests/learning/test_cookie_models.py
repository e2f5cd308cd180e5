"""A model's training and rollouts ignore the coordinates that only a source sees."""

from dataclasses import replace

import numpy as np

import adkit as ad
from adkit.cookieworld import world


def test_training_and_rollouts_ignore_hidden_coordinates():
    env = ad.envs.CookieWorld()
    histories = ad.collect(env, env.tasks()[::5000], ad.sources.Shards(), episodes=12)
    arrays = {name: values.copy() for name, values in histories.arrays.items()}
    for name in ("obs", "final_obs"):
        arrays[name][..., world.SEEN :] = 0
    logs = []
    for given in (histories, replace(histories, arrays=arrays)):
        model = ad.CausalTransformer(env.spec, context=64, layers=1, heads=2, width=16)
        logs.append(ad.distill(model, given, steps=3, batch=4)["loss"].tolist())
    assert logs[0] == logs[1]
    rollouts = ad.collect(env, env.tasks()[:3], ad.InContext(model), episodes=5)
    assert not rollouts.labels and rollouts.arrays["obs"].shape[-1] == 12
    assert np.isfinite(logs[0]).all()
