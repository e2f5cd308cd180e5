"""Figures say what they draw: dots and intervals, bands, and one look for one meaning."""

import numpy as np
import pandas as pd
import pytest

import adkit as ad
from adkit.stats import Interval
from adkit.views.figure import AGENTS, GREY, OTHERS, styles

FOUND = [Interval(0.8, 0.7, 0.9), Interval(0.31, 0.12, 0.51234), Interval(0.004, -0.002, 0.009)]
UNIT = ["share", "share", "nat"]


def test_a_dot_and_an_interval_stand_in_each_row_in_the_tables_order():
    figure = ad.views.intervals(pd.DataFrame(FOUND, index=["b", "a", ("x", "y")]), "share")
    (dots,) = figure.data
    assert list(dots.x) == [0.8, 0.31, 0.004] and list(dots.y) == [0, 1, 2]
    np.testing.assert_allclose(dots.x + dots.error_x.array, [0.9, 0.51234, 0.009])
    np.testing.assert_allclose(dots.x - dots.error_x.arrayminus, [0.7, 0.12, -0.002])
    first, last = figure.layout.yaxis.range
    assert first > 2 and last < 0, "the first row is at the top"
    assert figure.layout.yaxis.ticktext == ("b", "a", "x, y")
    assert dots.text[1] == "0.31 [0.12, 0.512]" and not dots.showlegend
    assert "95% interval" in figure.layout.title.subtitle.text


def test_intervals_come_as_a_mapping_a_series_or_a_column():
    named = dict(zip("abc", FOUND, strict=True))
    forms = named, pd.Series(named, dtype=object), pd.DataFrame({"estimate": FOUND})
    for form in forms:
        (dots,) = ad.views.intervals(form).data
        assert list(dots.x) == [0.8, 0.31, 0.004] and dots.error_x.array[0] == pytest.approx(0.1)
    assert ad.views.intervals({"a": 0.5}).data[0].error_x.array[0] == 0


def test_thresholds_and_controls_are_marked_on_the_axis_of_their_unit():
    marks = {"threshold": [0.5, np.nan, 0.005], "control": 0.1, "at least": [np.nan, 0.2, np.nan]}
    table = pd.DataFrame(FOUND, list("abc")).assign(unit=UNIT, **marks)
    figure = ad.views.intervals(table, by="unit", panel="unit")
    on = lambda name, axis: next(t for t in figure.data if (t.name, t.xaxis) == (name, axis))
    assert on("threshold", "x").x[0] == 0.5 and on("threshold", "x2").x.tolist() == [0.005]
    assert on("control", "x").x.tolist() == [0.1, 0.1] and on("at least", "x").x[1] == 0.2
    titles = figure.layout.xaxis.title.text, figure.layout.xaxis2.title.text
    assert titles == ("share", "nat")
    legend = [trace.name for trace in figure.data if trace.showlegend]
    assert sorted(legend) == ["at least", "control", "nat", "share", "threshold"], "each once"


def test_kinds_of_dots_differ_in_colour_and_symbol():
    rows = pd.DataFrame(FOUND, list("abc")).assign(who=["source", "distilled", "source"])
    source, distilled = ad.views.intervals(rows, by="who").data
    assert np.isnan(source.x[1]) and distilled.x[1] == 0.31
    assert source.marker.color == AGENTS["source"][0] == source.error_x.color
    assert source.marker.symbol != distilled.marker.symbol
    named = ad.views.intervals({"no memory": FOUND[0], "something": FOUND[1]})
    assert [dots.marker.color for dots in named.data] == [AGENTS["no memory"][0], GREY]


def test_long_names_are_broken_into_lines_and_rows_get_room():
    table = pd.DataFrame(FOUND, index=["a name " * 20, "b", "c"])
    figure = ad.views.intervals(table)
    longest = figure.layout.yaxis.ticktext[0].split("<br>")
    assert max(map(len, longest)) <= 40 and " ".join(longest) == ("a name " * 20).strip()
    assert figure.layout.yaxis.automargin
    heights = [ad.views.intervals({str(i): 0.5 for i in range(n)}).layout.height for n in (3, 30)]
    assert heights[1] - heights[0] == 27 * 24 and figure.layout.height > heights[0]


@pytest.mark.parametrize(
    ("table", "options", "says"),
    [
        (pd.DataFrame({"mean": [1.0]}), {}, "this has no column 'estimate'; try pd.DataFrame"),
        (pd.DataFrame(FOUND), {"by": "who"}, r"\['estimate', 'who'\] is drawn; .*no column 'who'"),
        (pd.DataFrame(columns=Interval._fields), {}, "this has no rows"),
        ({"a": Interval(0.5, 0.6, 0.4)}, {}, "above the high end: row 'a'"),
    ],
)
def test_a_table_without_what_is_drawn_is_refused(table, options, says):
    with pytest.raises(ValueError, match=says):
        ad.views.intervals(table, **options)


def test_a_figure_says_what_its_bands_are(histories):
    curves = ad.views.learning_curves({"source": histories})
    assert "95% bootstrap over tasks and lifetimes" in curves.layout.title.subtitle.text
    columns = {"x": [1, 2, 1, 2], "y": [0.0, 1, 1, 3], "who": ["one"] * 2 + ["other"] * 2}
    one = ad.views.result_curves(pd.DataFrame(columns), "x", "y", "who", title="a title")
    assert one.layout.title.subtitle.text == "" and not [t for t in one.data if t.fill]
    columns |= {"who": ["one"] * 4}
    several = ad.views.result_curves(pd.DataFrame(columns), "x", "y", "who", title="a title")
    assert "from the least to the most" in several.layout.title.subtitle.text
    assert several.layout.margin.t > one.layout.margin.t, "the line under the title has room"


def test_no_two_curves_look_alike_and_the_optimum_alone_is_grey():
    several = (
        "distilled",
        "distilled (paper)",
        "source",
        "source 2",
        "source (paper)",
        "LSTM (paper)",
    )
    looks = styles([*AGENTS, *several, *map(str, range(len(OTHERS) - 1))])
    assert len({(look["color"], look["dash"]) for look in looks.values()}) == len(looks)
    assert looks["distilled (paper)"]["color"] == looks["distilled"]["color"]
    assert [name for name, look in looks.items() if look["color"] == GREY] == ["optimum"]
    assert looks["optimum"]["dash"] == "dash"
    with pytest.raises(ValueError, match="'6' is one too many"):
        styles(map(str, range(1, 8)))
