"""Training in several processes: launched by Accelerate, on two CPUs over gloo, to the losses and weights of one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import adkit as ad
from adkit import artefacts
from adkit.models.distill import main
from adkit.models.training import Processes, processes

ENV = ad.envs.DarkRoom(size=4, horizon=6)
STEPS = [
    "--context",
    "36",
    "--layers",
    "2",
    "--heads",
    "2",
    "--width",
    "16",
    "--steps",
    "12",
    "--batch",
    "6",
    "--seed",
    "3",
]


@pytest.fixture(scope="module")
def lives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lives")
    ad.collect(
        ENV,
        ENV.tasks()[:12],
        ad.sources.QLearning(),
        episodes=20,
        lifetimes=2,
        out=folder / "lives",
    )
    return folder / "lives"


def launched(how, *arguments):
    launch = [
        "accelerate.commands.launch",
        how,
        "--num_processes",
        "2",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
    ]
    launch += ["--dynamo_backend", "no", "--main_process_port", "0", "-m", "adkit.models.distill"]
    command = [sys.executable, "-m", *launch, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=environment, check=False
    )


def test_two_processes_train_the_model_of_one(lives, tmp_path, capsys):
    how = [*STEPS, "--precision", "float32"]
    main([str(lives), str(tmp_path / "alone"), *how, "--checkpoint", str(tmp_path / "c1")])
    assert "after 12 steps; processes: 1\n" in capsys.readouterr().out
    done = launched("--multi_gpu", lives, tmp_path / "two", *how, "--checkpoint", tmp_path / "c2")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert done.stdout.count("loss") == 1  # one of them speaks
    assert "after 12 steps; processes: 2\n" in done.stdout
    logs = [
        artefacts.load(tmp_path / name, "distillation checkpoint")[1]["log"]
        for name in ("c1", "c2")
    ]
    assert len(logs[0]) == len(logs[1]) == 12
    for one, two in zip(*logs, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], abs=1e-4)
    untrained = ad.CausalTransformer(ENV.spec, context=36, layers=2, heads=2, width=16, seed=3)
    models = [untrained, *(ad.CausalTransformer.load(tmp_path / name) for name in ("alone", "two"))]
    for (name, begun), alone, two in zip(
        models[0].named_parameters(), *(model.parameters() for model in models[1:]), strict=True
    ):
        rounded = (
            0.2 if name.startswith("blocks") else 0.02
        )  # Muon multiplies in bfloat16, which makes much of a last bit
        assert (two - alone).norm() < rounded * (alone - begun).norm(), name


def test_one_process_launched_for_two_does_not_train_as_if_there_were_two(lives, tmp_path):
    done = launched("--cpu", lives, tmp_path / "one", *STEPS)
    assert done.returncode
    assert "started one process instead of several" in done.stderr
    assert not (tmp_path / "one").exists()


def test_alone_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert (processes().number, processes().count) == (0, 1)
    parts = [Processes(torch.device("cpu"), number, 3).share(8) for number in range(3)]
    assert [row for part in parts for row in range(8)[part]] == list(range(8))
    with pytest.raises(
        ValueError, match="a batch of 2 windows cannot be shared by 3 processes; try batch=3"
    ):
        Processes(torch.device("cpu"), 0, 3).share(2)


def test_without_accelerate_it_says_what_to_install(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(
        ImportError,
        match=r"training in several processes needs accelerate.*pip install -e '\.\[many\]'",
    ):
        processes()


def test_the_command_overwrites_nothing(lives, tmp_path, capsys):
    for there in (lives, tmp_path):
        with pytest.raises(SystemExit):
            main([str(lives), str(there), *STEPS])
        assert f"{there} exists, and nothing is overwritten" in capsys.readouterr().err
    ad.Histories.load(lives)


def test_processes_that_read_different_checkpoints_stop(monkeypatch):
    monkeypatch.setattr("accelerate.utils.gather_object", lambda steps: [*steps, 0])
    Processes(torch.device("cpu"), 0, 2).check_equal(0, None)
    with pytest.raises(
        ValueError,
        match=r"different checkpoints in 'here', after \[40, 0\] steps; give a folder that all",
    ):
        Processes(torch.device("cpu"), 0, 2).check_equal(40, "here")


def test_the_command_says_what_it_takes(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "--context" in capsys.readouterr().out
    assert Path(sys.modules["adkit.models.distill"].__file__).name == "distill.py"


LAUNCHED = """
import socket, sys
from accelerate import notebook_launcher

def train(lives, out=None):
    import adkit as ad
    from adkit.models.training import processes
    model = ad.CausalTransformer(ad.envs.DarkRoom(size=4, horizon=6).spec, context=36, layers=1, heads=2, width=8)
    log = ad.distill(model, ad.Histories.load(lives, mapped=True), steps=3, batch=6, precision="float32")
    print("LOSS", processes().number, processes().count, log.loss.iloc[-1], flush=True)
    if out and not processes().number:
        model.save(out)

if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    notebook_launcher(train, args=(sys.argv[1], sys.argv[2]), num_processes=2, use_port=port)
    train(sys.argv[1])
"""


def test_the_launcher_of_notebooks_trains_the_model_of_one_process(lives, tmp_path):
    script = tmp_path / "launched.py"
    script.write_text(LAUNCHED)
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("WORLD_SIZE", "RANK", "LOCAL_RANK")
    }
    command = [sys.executable, script, lives, tmp_path / "model"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=300,
        env=environment | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    said = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("LOSS")]
    assert sorted((int(n), int(count)) for n, count, _ in said) == [(0, 1), (0, 2), (1, 2)]
    losses = [float(loss) for *_, loss in said]
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-4)
    untrained, model = (
        ad.CausalTransformer(ENV.spec, context=36, layers=1, heads=2, width=8),
        ad.CausalTransformer.load(tmp_path / "model"),
    )
    assert not any(
        torch.equal(a, b)
        for a, b in zip(untrained.blocks.parameters(), model.blocks.parameters(), strict=True)
    )
