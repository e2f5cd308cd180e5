"""The jobs of the study: in order, resumable, and a killed one takes no other with it."""

import os
import signal
from pathlib import Path

import pytest
from study import jobs, run
from study.jobs import PROFILES


@pytest.mark.parametrize("profile", PROFILES)
def test_every_job_comes_after_what_it_needs(profile):
    seen = set()
    for name, (_, *needs) in jobs.every_job(PROFILES[profile], Path()).items():
        assert set(needs) <= seen, f"{name} needs a job that comes later"
        seen.add(name)


def test_results_of_other_settings_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "every_job", lambda *_: {})
    call = ["smoke", "--work", str(tmp_path)]
    assert run.main(call) == run.main(call) == 0
    monkeypatch.setattr(jobs, "FIRST_ACTION_WEIGHT", 1.0)
    with pytest.raises(SystemExit, match="smoke holds results of other training; move it away"):
        run.main(call)


def make(profile: str, folder: Path, name: str) -> float:
    """Stand in for a job: "once" is killed at its first try, "always" at each."""
    folder.mkdir(exist_ok=True)
    with open(folder / "tries", "a") as tries:
        tries.write(f"{name}\n")
    tried = (folder / "tries").read_text().split().count(name)
    if name == "always" or (name == "once" and tried == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / name).touch()
    return 0.0


def test_a_killed_job_is_tried_once_more_and_takes_no_other_with_it(tmp_path, monkeypatch, capsys):
    planted = dict.fromkeys(("once", "beside", "always"), (None,))
    planted |= {"after": (None, "once"), "never": (None, "always")}
    monkeypatch.setattr(jobs, "every_job", lambda *_: planted)
    monkeypatch.setattr(run, "make", make)
    assert run.run("smoke", tmp_path / "work", 2) == 2
    output = capsys.readouterr().out
    tries = sorted((tmp_path / "work" / "tries").read_text().split())
    assert tries == ["after", "always", "always", "beside", "once", "once"]
    assert output.count("| once | FAILED: BrokenProcessPool") == 1
    assert "1 jobs wait for what failed: never" in output and "after | 0 CPU s" in output
