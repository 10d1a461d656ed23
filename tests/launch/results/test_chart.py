"""Loss curves as SVG."""

import math
import re
from xml.etree import ElementTree

import pytest

from launch.results.chart import Curve, choose_ticks, draw_chart
from prep.html import join, tag


def test_text_is_escaped_and_markup_is_not() -> None:
    assert tag("p", "<b>&", tag("i", 'x"y'), class_="a", title='"<', hidden=None) == (
        '<p class="a" title="&quot;&lt;">&lt;b&gt;&amp;<i>x&quot;y</i></p>'
    )
    assert join(["<", tag("br")]) == "&lt;<br></br>"


def test_both_drawings_are_well_formed_and_hold_every_point() -> None:
    curve = Curve("a < b", ((1.0, 2.0), (2.0, 1.0), (3.0, 0.5)))
    root = ElementTree.fromstring(f"<div>{draw_chart([curve], 'losses')}</div>")
    drawings = root.findall("svg")
    assert [drawing.get("class") for drawing in drawings] == ["chart wide", "chart narrow"]
    for drawing in drawings:
        assert [title.text for title in drawing.iter("title")] == [
            "a < b: 2 at step 1",
            "a < b: 1 at step 2",
            "a < b: 0.5 at step 3",
        ]
        heights = [float(point.split(",")[1]) for point in drawing.find("polyline").get("points").split()]  # type: ignore[union-attr]
        assert heights == sorted(heights)  # a falling loss goes down the page
    assert [entry.text for entry in root.iter("b")] == ["0.5"]


def test_of_many_points_some_have_labels_and_these_are_real_ones() -> None:
    chart = draw_chart([Curve("a", tuple((float(step), 5 - step / 1000) for step in range(1, 5001)))], "losses")
    assert chart.count("<title>") == 2 * 157  # every 32nd of 5,000, counted from the last
    assert "a: 0 at step 5000</title>" in chart
    assert "a: 0.032 at step 4968</title>" in chart
    line = re.findall(r'points="([^"]*)"', chart)[0].split()
    assert len(line) == 2000


def test_the_legend_says_what_was_logged_last() -> None:
    chart = draw_chart([Curve("a", tuple((float(step), float(step % 7)) for step in range(1, 5001)))], "losses")
    assert "a <b>2</b>" in chart  # 5000 % 7


def test_losses_that_are_not_numbers_are_left_out() -> None:
    chart = draw_chart([Curve("a", ((1.0, float("nan")), (2.0, float("inf")), (3.0, 1.0)))], "losses")
    assert re.findall(r'points="([^"]*)"', chart)[0].count(",") == 1


def test_without_any_loss_the_page_says_so() -> None:
    assert draw_chart([Curve("a", ())], "losses") == '<p class="quiet">No loss was logged.</p>'


def test_a_run_without_losses_is_named_beside_the_others() -> None:
    assert "dead <b>no loss logged</b>" in draw_chart([Curve("a", ((1.0, 1.0),)), Curve("dead", ())], "losses")


def test_more_curves_than_colours_are_dashed() -> None:
    chart = draw_chart([Curve(str(number), ((1.0, 1.0), (2.0, number))) for number in range(9)], "losses")
    assert 'class="line c7"' in chart
    assert 'class="line c0 dashed"' in chart


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.3, 2.1, [0, 0.5, 1, 1.5, 2, 2.5]),
        (1, 1, [1, 1.02, 1.04, 1.06, 1.08, 1.1]),
        (0, 0, [0, 0.02, 0.04, 0.06, 0.08, 0.1]),
        (10, 5000, [0, 1000, 2000, 3000, 4000, 5000]),
    ],
)
def test_ticks_are_round_and_hold_the_values(low: float, high: float, ticks: list[float]) -> None:
    assert choose_ticks(low, high) == pytest.approx(ticks)


@pytest.mark.parametrize("point", [(math.nan, 1.0), (math.inf, 1.0), (1.0, -math.inf), (1.0, 1e308), (-1e308, 1.0)])
def test_a_point_outside_of_any_axis_is_left_out(point: tuple[float, float]) -> None:
    assert draw_chart([Curve("a", ((1.0, 2.0), point, (2.0, 1.0)))], "x") == draw_chart(
        [Curve("a", ((1.0, 2.0), (2.0, 1.0)))], "x"
    )


def test_text_that_would_act_is_spelled_out_in_elements_and_attributes() -> None:
    assert tag("p", "\x1b[2J\u202ea", title="\x9b") == '<p title="\\x9b">\\x1b[2J\\u202ea</p>'
