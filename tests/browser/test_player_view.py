"""Players and odd lifetimes as HTML files, opened from disk."""

from dataclasses import replace

import numpy as np
import pytest
from lab import wait_until

import adkit as ad
from adkit.views import maps

SHOWN = "[...document.querySelectorAll('[data-shown]')].map(view => view.dataset.shown)"
CUT_OFF = """[...document.querySelectorAll('.adkit *')].filter(it => it.tagName !== 'SELECT'
  && it.scrollWidth > it.clientWidth + 1 && it.clientWidth).map(it => it.className)"""


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
    player = ad.views.Player({"long": histories, "short": histories.episodes[:5]}, lifetime=9)
    page.goto(player.save(tmp_path / "players.html").as_uri())
    page.locator(".Player .ad-time").fill(str(3 * 9 + 4))  # episodes of eight steps
    now = wait_until(page, "v.episode === 3 && v.step === 4", ".Player")
    expected = maps.of(histories[9]).cells[3, 4].tolist()
    assert [place["cell"] for place in now["places"]] == [expected, expected]
    for key, place in {"ArrowDown": (4, 4), "ArrowRight": (4, 5), "ArrowUp": (3, 5)}.items():
        page.keyboard.press(key)
        wait_until(page, f"v.episode === {place[0]} && v.step === {place[1]}", ".Player")
    page.locator(".Player .ad-time").fill(str(7 * 9 + 8))
    long, short = wait_until(page, "v.episode === 7", ".Player")["places"]
    assert long["e"] == 7 and not long["over"]
    assert short["e"] == 4 and short["over"], "a lifetime that is over stands still"
    page.locator(".Player select").first.select_option(label="goal (4, 4), lifetime 3")
    now = wait_until(page, "v.lifetime === 99", ".Player")
    assert now["places"][0]["cell"] == maps.of(histories[99]).cells[7, 8].tolist()
    assert not page.errors and page.hosts <= {"file", "data", "blob"}


def test_views_side_by_side_move_under_one_slider(page, env, model, histories, tmp_path):
    other = ad.CausalTransformer(env.spec, context=32, layers=3, heads=2, width=16)
    views = [ad.views.EpisodeAttention(each, histories, env) for each in (model, other)]
    ours, other, replay = *views, ad.views.replay(histories)
    beside = ad.views.SideBySide({"ours": ours, "other": other, "replay": replay})
    page.goto(beside.save(tmp_path / "beside.html").as_uri())
    wait_until(page, "v.episode > 0", "[data-shown]")
    page.locator(".ad-episode").fill("6")
    page.locator("select.ad-lifetime").select_option("4")
    page.locator(".ad-step").fill("3")
    page.locator(".SideBySide").focus()
    page.keyboard.press("ArrowRight")
    place = "JSON.stringify([v.lifetime, v.episode, v.step]) === '[4,6,4]'"
    page.wait_for_function(f"{SHOWN}.map(JSON.parse).every(v => {place})")
    assert page.locator(".ad-layer").count() == 2, "models of two sizes have a layer each"
    beside.lifetime, beside.step = 3, 5
    assert {view.lifetime for view in (ours, other, replay)} == {3} and replay.step == 5
    assert ours.data["lifetime"] == replay.data["lifetime"] == 3
    for width in (1600, 1000, 700, 467):  # 700 at 150% is 467
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") == width
        tops = [each.bounding_box()["y"] for each in page.locator(".EpisodeAttention").all()]
        assert (tops[0] == tops[1]) == (width == 1600), "beside each other where there is room"
        assert page.evaluate(CUT_OFF) == []
    assert not page.errors
