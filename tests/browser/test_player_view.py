"""Players and odd lifetimes as HTML files, opened from disk."""

from dataclasses import replace

import numpy as np
import pytest
from lab import wait_until

import adkit as ad
from adkit.views import maps


@pytest.fixture(scope="module")
def page(browser):
    return browser()


def first_episodes(lifetime, episodes, reward=None):
    """Return the first episodes of a lifetime, perhaps with another reward."""
    arrays = {name: values[:, :episodes] for name, values in lifetime.arrays.items()}
    if reward is not None:
        arrays = arrays | {"reward": np.full_like(arrays["reward"], reward)}
    return replace(lifetime, arrays=arrays, episode=np.arange(episodes))


@pytest.mark.parametrize(
    ("episodes", "reward", "says"),
    [
        (1, None, "Episode 0, step 0"),
        (5, 0, "No reward in this lifetime"),
    ],
    ids=["one episode", "no reward"],
)
def test_odd_lifetimes_render_and_say_so(
    page, env, model, histories, tmp_path, episodes, reward, says
):
    odd = first_episodes(histories[0], episodes, reward)
    view, player = ad.views.EpisodeAttention(model, odd, env), ad.views.Player({"odd": odd})
    assert view._repr_mimebundle_()["image/png"] and player.png()
    page.goto(view.to_html(tmp_path / "odd.html").as_uri())
    page.wait_for_function(f"document.body.innerText.includes({says!r})")
    page.goto(player.to_html(tmp_path / "player.html").as_uri())
    page.wait_for_function("document.querySelector('.Player').innerText.length > 10")
    assert not page.errors


def test_names_from_a_file_are_text_and_never_run(page, histories, tmp_path):
    name = "<img src=x onerror=alert(1)></script><script>window.__hacked = true</script>"
    player = ad.views.Player({name: histories[0]})
    page.goto(player.to_html(tmp_path / "evil.html").as_uri())
    page.wait_for_function("document.querySelector('.Player')?.dataset.shown")
    assert name in page.locator(".Player h4").inner_text()
    assert not page.evaluate("window.__hacked === true")
    assert not page.errors and page.locator(".Player img").count() == 0


def test_players_share_one_clock(page, histories, tmp_path):
    long = histories[0]
    player = ad.views.Player({"long": long, "short": first_episodes(long, 5)})
    page.goto(player.to_html(tmp_path / "players.html").as_uri())
    page.locator(".Player .ad-episode").fill("3")
    page.locator(".Player .ad-step").fill("4")
    now = wait_until(page, "v.episode === 3 && v.step === 4", ".Player")
    expected = maps.token_cells(long)[3, 4].tolist()
    assert [place["cell"] for place in now["places"]] == [expected, expected]
    page.locator(".Player .ad-episode").fill("7")
    now = wait_until(page, "v.episode === 7", ".Player")
    long, short = now["places"]
    assert long["e"] == 7 and not long["over"]
    assert short["e"] == 4 and short["over"], "a lifetime that is over stands still"
    assert not page.errors and page.hosts <= {"file", "data", "blob"}
