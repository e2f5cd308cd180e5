"""Training in two processes: by Accelerate, on CPUs over gloo, to the losses of one."""

import os
import subprocess
import sys

import pytest
import torch

import adkit as ad
from adkit import store
from adkit.models.distill import main

ENV = ad.envs.DarkRoom(size=4, horizon=6)
SHAPE = dict(context=36, layers=2, heads=2, width=16, seed=3)
HOW = [f"--{name}={value}" for name, value in (SHAPE | {"steps": 12, "batch": 6}).items()]


@pytest.fixture(scope="module")
def histories(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "histories"
    source = ad.sources.QLearning()
    ad.collect(ENV, ENV.tasks()[:12], source, episodes=20, lifetimes=2, out=folder)
    return folder


def run(*command, **environment):
    inherited = {n: v for n, v in os.environ.items() if n not in ("WORLD_SIZE", "RANK")}
    environment = inherited | {"OMP_NUM_THREADS": "1"} | environment
    command = [sys.executable, *map(str, command)]
    how = {"capture_output": True, "text": True, "timeout": 300, "check": False}
    return subprocess.run(command, env=environment, **how)


def launch(kind, *arguments):
    flags = "--num_processes=2 --num_machines=1 --mixed_precision=no --dynamo_backend=no"
    command = ["accelerate.commands.launch", kind, *flags.split(), "--main_process_port=0"]
    command += ["-m", "adkit.models.distill", *arguments]
    return run("-m", *command, ACCELERATE_USE_CPU="true")


def test_two_processes_train_the_model_of_one(histories, tmp_path, capsys):
    how = [*HOW, "--precision=float32", "--short-episodes=2"]
    main([str(histories), str(tmp_path / "one"), *how, f"--checkpoint={tmp_path / 'c1'}"])
    assert "after 12 steps; processes: 1\n" in capsys.readouterr().out
    two = [histories, tmp_path / "two", *how, f"--checkpoint={tmp_path / 'c2'}"]
    done = launch("--multi_gpu", *two)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert done.stdout.count("loss") == 1, "one of them speaks"
    assert "after 12 steps; processes: 2\n" in done.stdout
    kind = "distillation checkpoint"
    logs = [store.load(tmp_path / name, kind)[1]["log"] for name in ("c1", "c2")]
    one, two = ([row["loss"] for row in log] for log in logs)
    assert len(one) == 12 and two == pytest.approx(one, abs=1e-4)
    begun = ad.CausalTransformer(ENV.spec, **SHAPE).state_dict()
    one, two = (ad.CausalTransformer.load(tmp_path / n).state_dict() for n in ("one", "two"))
    for name in begun:  # Muon multiplies in bfloat16, which makes much of a last bit
        rounded = 0.2 if name.startswith("blocks") else 0.02
        assert (two[name] - one[name]).norm() < rounded * (one[name] - begun[name]).norm(), name


def test_one_process_launched_for_two_does_not_train_as_if_there_were_two(histories, tmp_path):
    done = launch("--cpu", histories, tmp_path / "one", *HOW)
    assert done.returncode and "started one process instead of several" in done.stderr
    assert not (tmp_path / "one").exists()


def test_the_command_overwrites_nothing_and_lists_its_options(histories, tmp_path, capsys):
    for there in (histories, tmp_path):
        with pytest.raises(SystemExit):
            main([str(histories), str(there), *HOW])
        assert f"{there} exists, and nothing is overwritten" in capsys.readouterr().err
    ad.Histories.load(histories)
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    assert all(f"--{name}" in printed for name in ("context", "matrix-lr", "label-smoothing"))


LAUNCHED = """
import socket, sys
from accelerate import notebook_launcher

def train(histories, out=None):
    import adkit as ad
    from adkit.models.training import processes
    spec = ad.envs.DarkRoom(size=4, horizon=6).spec
    model = ad.CausalTransformer(spec, context=36, layers=1, heads=2, width=8)
    histories = ad.Histories.load(histories, mapped=True)
    log, team = ad.distill(model, histories, steps=3, batch=6, precision="float32"), processes()
    sys.stdout.write(f"LOSS {team.number} {team.count} {log.loss.iloc[-1]}\\n")
    sys.stdout.flush()
    if out and team.number == 0:
        model.save(out)

if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    notebook_launcher(train, args=(sys.argv[1], sys.argv[2]), num_processes=2, use_port=port)
    train(sys.argv[1])
"""


def test_the_launcher_of_notebooks_trains_the_model_of_one_process(histories, tmp_path):
    (tmp_path / "launched.py").write_text(LAUNCHED)
    done = run(tmp_path / "launched.py", histories, tmp_path / "model")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    said = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("LOSS")]
    assert sorted((n, count) for n, count, _ in said) == [("0", "1"), ("0", "2"), ("1", "2")]
    losses = [float(loss) for *_, loss in said]
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-4)
    begun = ad.CausalTransformer(ENV.spec, context=36, layers=1, heads=2, width=8).state_dict()
    trained = ad.CausalTransformer.load(tmp_path / "model").state_dict()
    assert not any(torch.equal(begun[n], trained[n]) for n in begun if n.startswith("blocks"))
