"""Figures and players hold the numbers that they are given."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

import adkit as ad
from adkit.envs import watermaze
from adkit.views import maps


def test_learning_curves_show_every_history_with_the_optimum(env, histories):
    curves = {"source": histories, "every other": histories.subsample(2)}
    figure = ad.views.learning_curves(curves, env=env)
    lines = {trace.name: trace for trace in figure.data if trace.mode == "lines"}
    assert set(lines) == {"source", "every other", "optimum"}
    np.testing.assert_allclose(lines["source"].y, histories.returns.mean((0, 1)), rtol=1e-6)
    assert lines["every other"].x.tolist() == [1, 3, 5, 7]
    assert lines["optimum"].y[0] == ad.optimal_returns(env, env.tasks()).mean()
    bundle = figure._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.plotly.v1+json", "text/plain"}
    assert bundle["text/plain"] == "Figure: source, every other, optimum"
    assert ad.views.learning_curves(curves, log_x=True).layout.xaxis.type == "log"


def test_the_band_is_a_bootstrap_over_tasks_and_lifetimes(histories):
    high_then_low = ad.views.learning_curves({"a": histories}).data[0].y
    for e in (0, 5):
        _, low, high = ad.stats.bootstrap(histories.returns[:, :, e])
        np.testing.assert_allclose([high_then_low[e], high_then_low[-1 - e]], [high, low])


def test_result_curves_average_seeds_and_show_the_papers():
    columns = {"episode": [1, 2, 1, 2, 1], "return": [0.0, 1.0, 1.0, 3.0, 9.0]}
    table = pd.DataFrame(columns | {"curve": ["ours"] * 4 + ["other"]})
    paper = {"ours (paper)": ([10], [2.0]), "second (paper)": ([10], [3.0])}
    figure = ad.views.result_curves(table, x="episode", y="return", by="curve", paper=paper)
    ours, other, paper, second = (trace for trace in figure.data if trace.fill != "toself")
    assert (ours.name, list(ours.x), list(ours.y)) == ("ours", [1, 2], [0.5, 2.0])
    assert list(other.y) == [9.0]
    assert paper.name == "ours (paper)" and list(paper.y) == [2.0]
    look = lambda trace: (trace.line.color, trace.line.dash, trace.marker.symbol)
    assert len({look(trace)[:2] for trace in (ours, other, paper, second)}) == 4
    assert (look(paper)[2], look(second)[2]) == ("circle-open", "square-open")
    assert list(figure.data[0].y) == [1, 3, 1, 0], "a band from the least to the most"


def test_a_heat_map_shows_the_table():
    rows, columns = pd.Index(list("abc"), name="row"), pd.Index([1, 2], name="column")
    table = pd.DataFrame([[0.1, 0.2], [0.3, 0.4], [0.5, 0.9]], rows, columns)
    figure = ad.views.heat_map(table)
    (trace,) = figure.data
    assert np.array_equal(trace.z, table) and (trace.zmin, trace.zmax) == (0, 0.9)
    assert figure.layout.yaxis.autorange == "reversed"
    assert figure.layout.xaxis.ticktext == ("1", "2") and figure.layout.yaxis.title.text == "row"
    assert ad.views.heat_map(table, top=2).data[0].zmax == 2


def test_the_replay_names_its_lifetime_and_is_one_page(histories, tmp_path):
    view = ad.views.replay(histories[0], episode=0)
    bundle = view._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    assert bundle["text/plain"] == "Player: DarkRoom"
    assert "Player: DarkRoom (to see it, run the cell" in bundle["text/html"]
    assert view.save(tmp_path / "view.html").read_text().count("</script>") == 1


def lifetime_in(world: str) -> ad.Histories:
    env, agent, episodes = {
        "maze": (ad.envs.Watermaze(ends="platform"), ad.sources.GoalSearch(), 4),
        "keys": (ad.envs.DarkKeyToDoor(size=5, horizon=12), ad.sources.Random(), 4),
        "bandit": (ad.envs.AdversarialBandit(), ad.sources.UCB(), 20),
    }[world]
    return ad.collect(env, env.tasks()[[3]], agent, episodes=episodes)


@pytest.mark.parametrize(
    ("world", "names"), [("maze", ["platform"]), ("keys", ["key", "door"]), ("bandit", ["best"])]
)
def test_the_player_marks_what_is_hidden_in_every_world(world, names):
    lifetime = lifetime_in(world)
    player = ad.views.Player({"one": lifetime, "other": lifetime.episodes[:2]}, episode=3)
    assert [mark["name"] for mark in player.data["lifetimes"][0]["marks"]] == names


def test_a_round_room_is_drawn_where_it_is():
    """The middle of the room is the middle of its map, +y is up, the platform has its true size."""
    lifetime = lifetime_in("maze")
    cells, goal = maps.of(lifetime).cells, lifetime.task_values["goal"][0]
    assert cells[0, 0].tolist() == [9.5, 9.5]
    assert maps.of(lifetime).headings[0, 0] == lifetime.arrays["obs"][0, 0, 0, 2]
    (mark,) = maps.of(lifetime).marks
    np.testing.assert_allclose([mark["x"], mark["y"]], [9.5 + 10 * goal[0], 9.5 - 10 * goal[1]])
    assert mark["radius"] == 10 * watermaze.PLATFORM
    (found, *_) = np.flatnonzero(lifetime.arrays["terminated"][0].any(1))
    end = cells[found, lifetime.length[0, found]]
    assert np.hypot(*(end - [mark["x"], mark["y"]])) <= 10 * watermaze.PLATFORM


def test_arms_are_counted_from_the_first_pull():
    lifetime = lifetime_in("bandit")
    cells = maps.of(lifetime).cells
    np.testing.assert_array_equal(cells[:, 1, 0], lifetime.arrays["action"][0, :, 0])
    assert (cells[:, 0] == -1).all() and (cells[:, 1, 1] == 0).all()


def test_the_player_draws_home_jar_and_garden_and_what_comes_and_goes():
    env = ad.envs.CookieWorld()
    task = env.task(home=(0, 1), jar=(2, 2), garden=(4, 3))
    source = ad.sources.Shards(types={"S": 1}, regimes={"D0": 1})
    lifetimes = ad.collect(env, task, source, episodes=40, lifetimes=3, seed=3)
    each = (lifetimes[i] for i in range(3))
    lifetime = next(some for some in each if some.gift.any() and some.closed.any())
    marks = {mark["name"]: mark for mark in maps.of(lifetime).marks}
    always, changing = ["home", "jar", "garden"], ["lid open", "lid closed", "cookies"]
    assert list(marks) == [*always, *changing, "gift", "hide"]
    assert (marks["home"]["x"], marks["garden"]["y"], marks["gift"]["x"]) == (0, 3, 0)
    when = {name: marks[name]["when"] for name in marks if "when" in marks[name]}
    when = {name: np.frombuffer(m["bytes"], bool).reshape(m["shape"]) for name, m in when.items()}
    at = lambda name, e, t: when[name][e, t]
    e = int(np.argmax(lifetime.arrays["closed"][0].any(1)))
    t = int(lifetime.arrays["closed"][0, e].argmax())
    assert at("hide", e, t) and at("lid closed", e, t)
    assert at("lid open", e, 0) and not at("hide", e, 0)
    assert [day for day in range(40) if at("gift", day, 0)] == np.flatnonzero(
        lifetime.gift[0]
    ).tolist()
    assert at("cookies", e, 0) == lifetime.stock[0, e] == 1
    cells = maps.of(lifetime).cells
    assert cells[0, 0].tolist() == [0, 1] and cells.shape == (40, 17, 2)
    assert (maps.of(lifetime).columns, maps.of(lifetime).rows) == (5, 5)


@pytest.fixture
def attention(env, model, histories):
    return ad.views.EpisodeAttention(model, histories[7], env, episode=6)


def test_the_browser_gets_shares_of_attention_that_sum_to_one(attention):
    data = attention.data
    shape, scale = data["pooled"]["shape"], np.frombuffer(data["pooled_scale"]["bytes"], "<f4")
    sent = np.frombuffer(data["pooled"]["bytes"], np.uint8).reshape(
        shape
    )  # (E, H, L, heads + 2, W)
    shares = sent * scale.reshape(shape[2:4])[..., None] / 255
    np.testing.assert_allclose(shares.sum(-1), 1, atol=0.02)


def test_interventions_change_the_decision_as_the_model_says(attention, model, histories):
    start = int(attention.starts[6])
    window = histories[7].episodes[start:7]
    without = window.episodes[np.delete(np.arange(window.n_episodes), 1)]
    predicted = lambda of: softmax(ad.record(model, of, "logits").array[0, -1, 3])
    shown = attention.probabilities(6, 3, without=start + 1)
    np.testing.assert_allclose(shown, predicted(without), atol=1e-5)
    with ad.edit(model, {"blocks.1.attn.z": ad.probing.ablate_head(0)}):
        ablated = predicted(window)
    np.testing.assert_allclose(attention.probabilities(6, 3, ablate=(1, 0)), ablated, atol=1e-5)
    assert np.abs(ablated - predicted(window)).max() > 1e-3
    question = {"ask": "without", "episode": 6, "step": 3, "layer": 1, "head": 0}
    message, _ = attention._reply(question | {"attended": start + 1})
    np.testing.assert_allclose(message["head"], ablated, atol=1e-5)
    np.testing.assert_allclose(message["episode"], shown, atol=1e-5)


def test_attention_opens_where_a_reward_can_be_recalled(env, model, histories):
    first = np.flatnonzero(histories[7].episode_returns[0] > 0)[0]
    view = ad.views.EpisodeAttention(model, histories[7], env)
    assert view.episode == first + 1 and (view.layer, view.head) == (1, 2)
