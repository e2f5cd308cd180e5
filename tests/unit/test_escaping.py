"""Text that came from a file is shown as text: never as markup, a link or a script."""

import html
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from study import figures
from study.verdicts import Verdict, load_hypotheses

import adkit as ad
from adkit.stats import Interval
from adkit.views import page

EVIL = (
    r"<img src=x onerror=alert(1)></script><script>alert(1)</script> $\frac$ "
    "<a href='https://evil'>here</a>"
)


def assert_harmless(text: str) -> None:
    assert "\x1b" not in text and len(text) < 8_000_000
    assert "<img" not in text and "<a href" not in text and "<script>alert" not in text


def assert_figure_is_harmless(figure: ad.views.Figure) -> None:
    assert_harmless(figure.to_json())
    assert html.escape(EVIL, quote=False)[:20] in json.dumps(json.loads(figure.to_json()))
    assert "$" not in figure.to_json(), "plotly would set it as TeX"


def test_no_text_from_a_file_becomes_markup(histories, tmp_path):
    few = histories[:4]
    columns = {**few.task_values.columns, "<img>": np.array([EVIL])}
    spec, about = replace(few.spec, name=EVIL), {"env": EVIL, "agent": "\x1b[2J" + "x" * 2**21}
    tasks = ad.Tasks(columns, few.task_values.ids)
    few = replace(few, spec=spec, task_values=tasks, about=about)
    few = ad.Histories.load(few.save(tmp_path / "it"))
    assert few.spec.name == EVIL and few.about["env"] == EVIL
    model = ad.CausalTransformer(few.spec, context=16, layers=1, heads=1, width=4)
    for view in (ad.views.Player({EVIL: few[0]}), ad.views.EpisodeAttention(model, few[0])):
        assert_harmless(view.save(tmp_path / "page.html").read_text())
    assert_harmless(few._repr_html_() + few.task_values._repr_html_())
    assert (
        "mathjax_ignore" in few._repr_html_() and len(repr(few)) < 2000 and "\x1b" not in repr(few)
    )
    table, paper = few.to_frame().assign(name=EVIL), {EVIL: ([1], [1.0])}
    assert_figure_is_harmless(ad.views.learning_curves({EVIL: few}))
    curves = ad.views.result_curves(
        table, x="episode", y="return", by="name", paper=paper, title=EVIL
    )
    assert_figure_is_harmless(curves)
    one = pd.DataFrame({"estimate": [0.5], "kind of": [EVIL]}, index=[EVIL])
    titles = {"title": EVIL, "subtitle": EVIL}
    assert_figure_is_harmless(ad.views.intervals(one, EVIL, by="kind of", **titles))


def test_no_text_of_a_study_becomes_markup():
    """Names, measures and reasons come from a YAML file."""
    rule = {"role": EVIL, "measure": EVIL, "rule": "at_least 0.3", "value": EVIL, "passed": False}
    rule |= {"estimate": 0.4, "low": 0.1, "high": 0.7}
    words = dict.fromkeys(("name", "why", "measure", "expected", "grade"), EVIL)
    null = np.linspace(-1, 1, 30)
    numbers = {"effect": Interval(0.4, 0.1, 0.7), "sesoi": 0.2, "mde": 0.3, "null": null}
    rules = pd.DataFrame([rule])
    judged = Verdict(**words, **numbers, verdict="inconclusive", rules=rules)
    table = figures.verdicts({EVIL: judged})
    for text in (table.to_html(), table._repr_html_()):
        assert_harmless(text)
        assert html.unescape(text).count(EVIL) == 2 and 'class="mathjax_ignore"' in text
    assert_figure_is_harmless(figures.verdict(judged))
    assert_figure_is_harmless(figures.drift({EVIL: np.ones((2, 3))}))


def test_a_strangers_yaml_has_no_aliases(tmp_path):
    bomb = "a: &a [x, x]\n" + "".join(
        f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcd", "bcde", strict=True)
    )
    (tmp_path / "h.yaml").write_text(bomb, encoding="utf-8")
    with pytest.raises(ValueError, match="has aliases"):
        load_hypotheses(tmp_path / "h.yaml")


def test_no_view_makes_markup_of_strings():
    sinks = ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
    sinks += ["new Function", "DOMParser", "srcdoc"]
    for script in page.VIEWS.glob("*.js"):
        assert not [sink for sink in sinks if sink in script.read_text()], script.name
