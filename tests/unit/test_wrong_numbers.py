"""What once gave a wrong number without a word: it is right now, or a sentence says what is not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import same, scrambled

import adkit as ad
from adkit import stats, store
from adkit.models import distill as distill_module
from adkit.models.in_context import sample_actions
from adkit.probing import fit
from adkit.views import page

ROOM = ad.envs.DarkRoom(size=5, horizon=8)
MADE = ad.collect(ROOM, ROOM.tasks()[:10], ad.sources.Random(), episodes=8, lifetimes=2)
NAN = MADE.returns.astype(float)
NAN[0, 0, 0] = np.nan


def model(**how):
    return ad.CausalTransformer(ROOM.spec, **{"context": 32, "layers": 1, "width": 16} | how)


def train(model, **how):
    return ad.distill(model, MADE, **{"steps": 12, "batch": 4, "precision": "float32"} | how)


def act(model):
    return ad.collect(ROOM, ROOM.tasks()[:3], ad.InContext(model), episodes=2)


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def spoiled():
    broken = model()
    with torch.no_grad():
        broken.head.weight[0, 0] = float("nan")
    return broken


class Moody(ad.sources.Random):
    def labels(self, spec):
        return {"episode": ("episode", np.int16)}


MISTAKES = {
    r"logits are \[nan, 0.0\]: they must be finite": (
        lambda: sample_actions(torch.tensor([[torch.nan, 0.0]]), ad.Rng.of(0, np.arange(1)))
    ),
    "weights of head.weight are not finite; make a new model": lambda: act(spoiled()),
    "head.weight are not finite": lambda: train(spoiled()),
    "weights must be float32, but .* is float16": lambda: train(model().half()),
    "but .* is float64: model.float()": lambda: act(model().double()),
    "settings of a network are whole numbers, got {'width': 16.0}": lambda: model(width=16.0),
    "`spec` must be an EnvSpec, such as env.spec, got DarkRoom": (
        lambda: ad.CausalTransformer(ROOM, context=32)
    ),
    "an edit of blocks.0.resid must return the activation's shape .* got None": (
        lambda: ad.record(model(), MADE, changes={"blocks.0.resid": lambda x, cut: None})
    ),
    r"`from_start` must be in \[0, 1\], got 2": lambda: ad.Schedule(from_start=2),
    r"a whole number from 0 to 2\^64 - 1, got 18446744073709551616": lambda: ad.Rng.of(2**64),
    "one whole number per task, got .*0.5": lambda: ad.Tasks({"goal": [1]}, ids=[0.5]),
    "made of words and whole numbers, got .*0.5": lambda: ad.Rng.of(0, np.array([0.5])),
    "labels of Moody are called episode, as arrays of all histories": (
        lambda: ad.collect(ROOM, ROOM.tasks(), Moody(), episodes=2)
    ),
    "keeps none of the 20 lifetimes": lambda: MADE[MADE.length.min(1) > 8],
    "`labels` are .*1.* at every token that is read; they must vary": (
        lambda: fit(np.random.default_rng(0).normal(size=(40, 4, 6)), np.ones((40, 4)))
    ),
    "`returns` must be finite": lambda: stats.improvement(NAN),
    "returns` must be finite": lambda: stats.episodes_to(NAN, 1.0),
    "`returns` must be finit": lambda: stats.speed_up(NAN, MADE.returns, 1.0),
    "'a' must be Histories, as ad.collect returns, got ndarray": (
        lambda: ad.views.learning_curves({"a": MADE.returns})
    ),
    r"'a' was collected in \('DarkRoom', 8, \(5, 5\), None\), `env` is .*its optimum is another": (
        lambda: ad.views.learning_curves({"a": MADE}, ad.envs.DarkRoom())
    ),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_answered_with_a_sentence(words):
    with pytest.raises(ValueError, match=words):
        MISTAKES[words]()


def test_one_unit_has_no_interval():
    alone = stats.bootstrap(MADE.returns[:1, :1].mean(2))
    assert np.isnan(alone.low) and np.isnan(alone.high)
    assert alone.estimate == MADE.returns[0, 0].mean()


def test_any_integer_is_an_integer(tmp_path):
    two = np.int64(2)
    odd, plain = model(heads=two, seed=two), model(heads=2, seed=2)
    for each, steps in ((odd, two), (plain, 2)):
        train(each, steps=steps, seed=two, checkpoint=tmp_path / str(each is odd))
    odd.save(tmp_path / "odd")
    assert torch.equal(weights(ad.CausalTransformer.load(tmp_path / "odd")), weights(plain))


def test_torchs_default_dtype_and_compile_change_nothing():
    plain = model()
    log = train(plain)
    torch.set_default_dtype(torch.float64)
    try:
        other = model()
        assert train(torch.compile(other)).loss.tolist() == pytest.approx(log.loss.tolist())
        assert same(act(other), act(plain))
    finally:
        torch.set_default_dtype(torch.float32)
    compiled = torch.compile(plain)
    with ad.edit(compiled, {"blocks.0.resid": lambda x: 0 * x}):
        changed = ad.record(compiled, MADE).array
    assert not np.array_equal(changed, ad.record(compiled, MADE).array)


def test_a_call_stopped_before_its_first_checkpoint_begins_where_it_began(tmp_path, monkeypatch):
    whole, stopped, count = model(), model(), iter(range(100))
    train(whole)
    descend = distill_module.descend

    def stop(*arguments):
        if next(count) == 7:
            raise InterruptedError
        return descend(*arguments)

    monkeypatch.setattr(distill_module, "descend", stop)
    monkeypatch.setattr(distill_module, "CHECKPOINTS", 1)
    with pytest.raises(InterruptedError):
        train(stopped, checkpoint=tmp_path / "c")
    train(stopped, checkpoint=tmp_path / "c")  # the cell is run again
    assert torch.equal(weights(stopped), weights(whole))
    done = model()
    assert len(train(done, checkpoint=tmp_path / "c")) == 12  # by another process
    assert torch.equal(weights(done), weights(whole))
    with pytest.raises(store.ArtefactError, match="made with other weights to begin with"):
        train(scrambled(model()), checkpoint=tmp_path / "c")


def test_validation_tasks_are_told_apart_by_their_values():
    goals = ROOM.tasks()
    same_ids = ad.Tasks({"goal": goals[10:20]["goal"]})  # numbered from 0, as the training tasks
    other_ids = replace(goals[:10], ids=np.arange(50, 60))
    test = lambda tasks: ad.Validation(
        ROOM, ad.collect(ROOM, tasks, ad.sources.Random(), episodes=8), every=100
    )
    train(model(), steps=1, validation=test(same_ids))
    with pytest.raises(ValueError, match="10 validation tasks are also training tasks, such as"):
        train(model(), steps=1, validation=test(other_ids))


def test_flat_labels_are_read_by_token():
    rng = np.random.default_rng(0)
    recording = ad.record(model(), MADE, "embed")
    labels = rng.normal(size=(20, 8, 8))
    flat, deep = (fit(recording, each, permutations=0) for each in (labels.reshape(20, 64), labels))
    assert flat.score == deep.score


def test_two_jobs_do_not_train_in_one_folder(histories, tmp_path):
    """The second one starts while the first one draws its windows."""

    class Slow(ad.CausalTransformer):
        def heads(self, *given, **how):
            with pytest.raises(ValueError, match="another model trains in"):
                train(ad.CausalTransformer)
            train(ad.CausalTransformer, "other")
            return super().heads(*given, **how)

    def train(kind, folder="d"):
        model = kind(histories.spec, context=16, layers=1, heads=1, width=8)
        ad.distill(model, histories[:5], steps=1, batch=2, checkpoint=tmp_path / folder)

    train(Slow)


def test_functions_that_change_one_tap_all_do(histories, model):
    few, add = histories[:2], lambda x, cut=None: x + 1
    both = {"blocks.*.resid": add, "blocks.1.resid": add}
    with ad.edit(model, both):
        edited = ad.record(model, few, "blocks.1.resid").array
    assert np.array_equal(edited, ad.record(model, few, "blocks.1.resid", changes=both).array)


@pytest.mark.parametrize("p", [[0.01, np.nan], [2.0]])
def test_what_is_no_p_value_is_not_adjusted(p):
    with pytest.raises(ValueError, match=r"`p_values` must be in \[0, 1\]"):
        ad.stats.holm(p)


def test_numbers_too_large_for_the_browser_are_not_cut():
    with pytest.raises(ValueError, match="0 to 256 do not fit in uint8"):
        page.packed(np.arange(257), "uint8")
