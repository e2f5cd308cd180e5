"""The runs behind the notebooks: what is kept goes where it was asked for, and a job that is killed takes no other with it."""

import os
import signal
from pathlib import Path

NOTEBOOKS = str(Path(__file__).parents[1] / "notebooks")


def make(profile: str, folder: Path, name: str) -> float:
    """A job: "once" is killed the first time, "always" each time."""
    folder.mkdir(exist_ok=True)
    with open(folder / "tries", "a") as tries:
        tries.write(f"{name}\n")
    if name == "always" or (name == "once" and (folder / "tries").read_text().count("once") == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / name).touch()
    return 0.0


def test_a_job_that_is_killed_is_tried_once_more_and_takes_no_other_with_it(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.syspath_prepend(NOTEBOOKS)
    import shards

    needs = {"once": (), "beside": (), "after": ("once",), "always": (), "never": ("always",)}
    jobs = {name: shards.Job(name, need, None) for name, need in needs.items()}
    monkeypatch.setattr(shards, "every_job", lambda profile: jobs)
    monkeypatch.setattr(shards, "make", make)
    assert shards.run("smoke", tmp_path / "work", 2) == 2
    said = capsys.readouterr().out
    assert sorted((tmp_path / "work" / "tries").read_text().split()) == [
        "after",
        "always",
        "always",
        "beside",
        "once",
        "once",
    ]
    assert (
        said.count("| once | FAILED: BrokenProcessPool") == 1
        and said.count("| always | FAILED") == 2
    )
    assert "1 jobs wait for what failed: never" in said and "after | 0 CPU s" in said


def test_models_that_ship_go_beside_the_tables(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(NOTEBOOKS)
    import figures
    import torch

    import adkit as ad

    env = ad.envs.DarkRoom(4, 6)
    model = ad.CausalTransformer(env.spec, context=18, layers=1, heads=1, width=8)

    def live(seed: int):
        yield from figures.shipped("room", model, env, env.tasks(), seed, episodes=2)
        yield "distilled", ad.collect(env, env.tasks(), ad.sources.Random(), episodes=12).returns

    runs = [figures.Run("rise", "", seed, live, "1") for seed in (0, 1)]
    monkeypatch.setattr(figures, "every_run", lambda: runs)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    curves, _ = figures.work("rise", "", 1, tmp_path / "data")
    assert set(curves["curve"]) == {"distilled"} and not list(tmp_path.iterdir()), (
        "the first seed's alone"
    )
    figures.work("rise", "", 0, tmp_path / "data")
    assert ad.CausalTransformer.load(tmp_path / "data" / "room" / "ad").config == model.config
    assert len(ad.Histories.load(tmp_path / "data" / "room" / "rollouts")) == 8
