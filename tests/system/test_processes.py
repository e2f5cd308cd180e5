"""Training in two processes: by Accelerate, on CPUs over gloo, to the losses of one."""

import os
import subprocess
import sys

import pytest

import adkit as ad

ENV = ad.envs.DarkRoom(size=4, horizon=6)
TRAIN = """
import sys
import adkit as ad
from adkit.models.training import processes

def train(folder):
    histories = ad.Histories.load(f"{folder}/histories", mapped=True)
    model = ad.CausalTransformer(histories.spec, context=36, layers=2, heads=2, width=16, seed=3)
    log, team = ad.distill(model, histories, steps=12, batch=6, precision="float32"), processes()
    if team.number == 0:
        model.save(f"{folder}/of {team.count}")
        log.loss.to_csv(f"{folder}/of {team.count}.csv")
"""
ALONE = TRAIN + "\ntrain(sys.argv[1])\n"
NOTEBOOK = f"""
{TRAIN}
import socket
from accelerate import notebook_launcher

if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    notebook_launcher(train, args=(sys.argv[1],), num_processes=2, use_port=port)
"""
LAUNCH = [
    *("-m", "accelerate.commands.launch", "--num_processes=2", "--num_machines=1"),
    *("--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"),
]


def run(folder, script, *before):
    (folder / "train.py").write_text(script)
    inherited = {n: v for n, v in os.environ.items() if n not in ("WORLD_SIZE", "RANK")}
    environment = inherited | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, *before, str(folder / "train.py"), str(folder)]
    how = {"capture_output": True, "text": True, "timeout": 300, "check": False}
    return subprocess.run(command, env=environment, **how)


def trained(folder, processes):
    lines = (folder / f"of {processes}.csv").read_text().splitlines()[1:]
    model = ad.CausalTransformer.load(folder / f"of {processes}")
    return [float(line.split(",")[1]) for line in lines], model.state_dict()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    how = {"episodes": 20, "lifetimes": 2, "out": folder / "histories"}
    ad.collect(ENV, ENV.tasks()[:12], ad.sources.QLearning(), **how)
    return folder


def test_one_process_launched_for_two_does_not_train_as_if_there_were_two(folder):
    done = run(folder, ALONE, *LAUNCH, "--cpu")
    assert done.returncode and "started one process instead of several" in done.stderr
    assert not list(folder.glob("of *"))


@pytest.mark.parametrize(("script", "launch"), [(ALONE, [*LAUNCH, "--multi_gpu"]), (NOTEBOOK, [])])
def test_two_processes_train_the_model_of_one(folder, script, launch):
    for earlier in folder.glob("of *"):
        earlier.rename(folder / f"{script == ALONE} earlier {earlier.name}")
    for code, how in ((ALONE, []), (script, launch)):
        done = run(folder, code, *how)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    (losses, one), (shared, two) = trained(folder, 1), trained(folder, 2)
    assert len(losses) == 12 and shared == pytest.approx(losses, abs=1e-4)
    shape = dict(context=36, layers=2, heads=2, width=16, seed=3)
    begun = ad.CausalTransformer(ENV.spec, **shape).state_dict()
    for name in begun:  # Muon multiplies in bfloat16, which makes much of a last bit
        rounded = 0.2 if name.startswith("blocks") else 0.02
        assert (two[name] - one[name]).norm() < rounded * (one[name] - begun[name]).norm(), name
