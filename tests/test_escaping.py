"""Text that came from a file is shown as text: never as markup, a link, a script or a formula."""

import dataclasses
import html
import json

import numpy as np
import pandas as pd
from study import figures
from study.verdicts import Verdict

import adkit as ad
from adkit.stats import Interval
from adkit.views import page as map_page

EVIL = r"<img src=x onerror=alert(1)></script><script>alert(1)</script> $\frac$ <a href='https://evil'>here</a>"


def test_no_text_from_a_file_becomes_markup_or_a_formula(histories, tmp_path):
    life = histories[:4]
    tasks = ad.Tasks(
        {**life.task_values.columns, "<img>": np.array([EVIL] * len(life.task_values))},
        life.task_values.ids,
    )
    spec = dataclasses.replace(life.spec, name=EVIL)
    life = dataclasses.replace(
        life, spec=spec, task_values=tasks, about={"env": EVIL, "agent": EVIL}
    )
    life = ad.Histories.load(life.save(tmp_path / "it"))
    assert life.spec.name == EVIL and life.about["env"] == EVIL
    model = ad.CausalTransformer(life.spec, context=16, layers=1, heads=1, width=4)
    views = [
        ad.views.replay(life[0]).player,
        ad.views.Player({EVIL: life[0]}),
        ad.views.EpisodeAttention(model, life[0]),
    ]
    pages = [view.to_html(tmp_path / "page.html").read_text() for view in views]
    pages += [life._repr_html_(), life.task_values._repr_html_()]
    for view in views:
        assert view.png().startswith(b"\x89PNG")
    for page in pages:
        assert "<img" not in page and "<a href" not in page and "<script>alert" not in page
    table = life.to_frame().assign(name=EVIL)
    for figure in (
        ad.views.learning_curves({EVIL: life}), ad.views.visits({EVIL: life}, title=EVIL),
        ad.views.result_curves(table, x="episode", y="return", by="name", paper={EVIL: ([1], [1.0])}),
    ):  # fmt: skip
        assert (
            "<img" not in (shown := figure.to_json())
            and "<a href" not in shown
            and "<script" not in shown
        )
        assert html.escape(EVIL, quote=False)[:20] in json.dumps(json.loads(shown))
        assert figure.png().startswith(b"\x89PNG")


def test_no_text_of_a_study_becomes_markup_or_a_formula():
    """Names, measures and reasons come from a YAML file, readings from a CSV file."""
    rules = pd.DataFrame(
        [{"role": EVIL, "measure": EVIL, "rule": "at_least 0.3", "value": EVIL, "passed": False}]
    )
    words = {
        "name": EVIL,
        "claim": EVIL,
        "why": EVIL,
        "measure": EVIL,
        "expected": EVIL,
        "grade": EVIL,
    }
    numbers = {
        "effect": Interval(0.4, 0.1, 0.7),
        "sesoi": 0.2,
        "mde": 0.3,
        "null": np.linspace(-1, 1, 30),
    }
    judged = Verdict(**words, **numbers, verdict="inconclusive", rules=rules)
    readings = pd.DataFrame(
        {"history": EVIL, "day": [0, 1, 2], "label": 1.0, "read": [1.0, 2.0, 3.0], "believed": 1.5}
    )
    table = figures.verdicts({EVIL: judged})
    for page in (table.to_html(), table._repr_html_()):
        assert "<img" not in page and "<a href" not in page and "<script>alert" not in page
        assert html.unescape(page).count(EVIL) == 3 and 'class="mathjax_ignore"' in page
    for figure in (
        figures.verdict(judged), figures.drift({EVIL: np.ones((2, 3))}, title=EVIL), figures.lifetime(readings, EVIL, title=EVIL)
    ):  # fmt: skip
        assert (
            "<img" not in (shown := figure.to_json())
            and "<a href" not in shown
            and "<script" not in shown
        )
        assert html.escape(EVIL, quote=False)[:20] in json.dumps(json.loads(shown))
        assert figure.png().startswith(b"\x89PNG")


def test_no_view_makes_markup_of_strings():
    for script in map_page.VIEWS.glob("*.js"):
        text = script.read_text()
        for sink in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "DOMParser",
            "srcdoc",
        ):
            assert sink not in text, f"{script.name} uses {sink}"
