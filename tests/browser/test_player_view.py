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


def without_reward(lifetime):
    reward = np.zeros_like(lifetime.arrays["reward"])
    return replace(lifetime, arrays=lifetime.arrays | {"reward": reward})


def test_odd_lifetimes_render_and_say_so(page, env, model, histories, tmp_path):
    first = histories[0].episodes[:1]
    odd = {"Episode 0, step 0": first, "No reward in this lifetime": without_reward(first)}
    for says, lifetime in odd.items():
        view = ad.views.EpisodeAttention(model, lifetime, env)
        page.goto(view.save(tmp_path / "odd.html").as_uri())
        page.wait_for_function(f"document.body.innerText.includes({says!r})")
        page.goto(ad.views.replay(lifetime).save(tmp_path / "player.html").as_uri())
        page.wait_for_function("document.querySelector('.Player').innerText.length > 10")
        assert not page.errors


def test_players_share_one_clock(page, histories, tmp_path):
    long = histories[0]
    player = ad.views.Player({"long": long, "short": long.episodes[:5]})
    page.goto(player.save(tmp_path / "players.html").as_uri())
    page.locator(".Player .ad-episode").fill("3")
    page.locator(".Player .ad-step").fill("4")
    now = wait_until(page, "v.episode === 3 && v.step === 4", ".Player")
    expected = maps.of(long).cells[3, 4].tolist()
    assert [place["cell"] for place in now["places"]] == [expected, expected]
    page.locator(".Player .ad-episode").fill("7")
    now = wait_until(page, "v.episode === 7", ".Player")
    long, short = now["places"]
    assert long["e"] == 7 and not long["over"]
    assert short["e"] == 4 and short["over"], "a lifetime that is over stands still"
    assert not page.errors and page.hosts <= {"file", "data", "blob"}
