"""Ctrl-C at random moments loses nothing: neither what was there, nor the way to the same result.

Twenty here; `ADKIT_INTERRUPTS=400` in the environment tries four hundred.
"""

import os
import random
import shutil
import signal
import time
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import torch
from harm import no_longer_than
from helpers import same

import adkit as ad
from adkit import store

# an interrupt may fall between opening a file and the block that closes it
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
TIMES = int(os.environ.get("ADKIT_INTERRUPTS", 20))
ENV = ad.envs.DarkRoom(size=4, horizon=6)


class Interrupt(BaseException):
    """As KeyboardInterrupt, which would end pytest."""


@contextmanager
def interrupted_after(seconds: float):
    def stop(*_):
        raise Interrupt

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with suppress(Interrupt):
            signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-5))
            yield
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def duration(call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def save(path, number: int):
    files = {"a": np.full(200_000, number), "b": np.full(9, number)}
    store.save(path, "test", files, {"number": number}, overwrite=True)


def collect(path):
    how = {"episodes": 20, "lifetimes": 3, "out": path}
    return ad.collect(ENV, ENV.tasks(), ad.sources.QLearning(), **how)


def train(path, histories):
    model = ad.CausalTransformer(ENV.spec, context=12, layers=1, heads=1, width=8)
    how = {"steps": 6, "batch": 2, "checkpoint": path, "precision": "float32"}
    ad.distill(model, histories, **how)
    return model


def test_a_save_leaves_the_old_or_the_new(tmp_path):
    chance, path = random.Random(0), tmp_path / "it"
    save(path, 0)
    usual, last = duration(lambda: save(path, 1)), 1
    for number in range(2, TIMES // 2 + 2):
        with interrupted_after(chance.uniform(0, usual)):
            save(path, number)
        files, about = store.load(path, "test")
        assert about["number"] in (last, number)
        assert all((values == about["number"]).all() for values in files.values())
        last = about["number"]
    with no_longer_than(30):
        save(path, -1)
    assert store.load(path, "test")[1] == {"number": -1}


@pytest.mark.parametrize("call", [collect, train])
def test_a_call_made_again_ends_in_the_same(tmp_path, call):
    chance, made = random.Random(1), collect(tmp_path / "made")
    given = (made,) if call is train else ()
    whole = call(tmp_path / "whole", *given)
    usual = duration(lambda: call(tmp_path / "again", *given))
    for number in range(TIMES // 4):
        path = tmp_path / str(number)
        for _ in range(1 + number % 2):
            with interrupted_after(chance.uniform(0, usual)):
                call(path, *given)
        with no_longer_than(60):
            found = call(path, *given)
        if call is collect:
            assert same(found, whole)
        else:
            pairs = zip(found.parameters(), whole.parameters(), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)
        shutil.rmtree(path)
