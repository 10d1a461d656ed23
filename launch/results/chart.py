"""Loss curves as inline SVG: no script, labels that show on hover and on a tap."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from prep.html import Html, join, tag

Point = tuple[float, float]

# As many as the colours of report.css; later curves take them again, dashed.
COLOURS = 8
_MOST_POINTS = 2_000
_MOST_LABELS = 160
# No step and no loss; beyond it the width of an axis is no number any more.
_MOST = 1e300
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 14, 30


@dataclass(frozen=True)
class Curve:
    """One named line: (step, loss) in the order of the steps."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class _Frame:
    """Maps steps and losses to places in a drawing of `width` by `height`."""

    width: int
    height: int
    steps: Point
    losses: Point

    def x(self, step: float) -> float:
        return round(_LEFT + _share(step, self.steps) * (self.width - _LEFT - _RIGHT), 1)

    def y(self, loss: float) -> float:
        return round(self.height - _BOTTOM - _share(loss, self.losses) * (self.height - _TOP - _BOTTOM), 1)


def draw_chart(curves: Sequence[Curve], label: str) -> Html:
    """Draw curves over one pair of axes, once for a wide and once for a narrow screen, with a legend.

    Points that are not finite are left out; a curve without any is named in the legend alone.
    """
    curves = [Curve(curve.name, _keep_finite(curve.points)) for curve in curves]
    if not any(curve.points for curve in curves):
        return tag("p", "No loss was logged.", class_="quiet")
    drawings = [
        _draw(curves, label, width, height, class_=f"chart {kind}")
        for kind, width, height in (("wide", 900, 320), ("narrow", 360, 260))
    ]
    return join([*drawings, _draw_legend(curves)])


def style_of(position: int) -> str:
    """Return the CSS classes of the curve at a position."""
    return f"c{position % COLOURS}" + (" dashed" if position >= COLOURS else "")


def _draw(curves: Sequence[Curve], label: str, width: int, height: int, *, class_: str) -> Html:
    places = [point for curve in curves for point in curve.points]
    steps, losses = ([place[axis] for place in places] for axis in (0, 1))
    ticks = choose_ticks(min(losses), max(losses))
    frame = _Frame(width, height, (min(steps), max(steps)), (min(ticks[0], *losses), max(ticks[-1], *losses)))
    lines = [_draw_curve(curve, style_of(position), frame) for position, curve in enumerate(curves)]
    return tag(
        "svg",
        _draw_axes(frame, ticks),
        *(line for line, _ in lines),
        *(hits for _, hits in lines),
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=label,
        class_=class_,
    )


def _draw_axes(frame: _Frame, ticks: Sequence[float]) -> Html:
    parts = []
    for loss in ticks:
        y = frame.y(loss)
        parts.append(tag("line", x1=_LEFT, x2=frame.width - _RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", f"{loss:g}", x=_LEFT - 6, y=y + 4, class_="tick end"))
    few = 4 if frame.width < 600 else 8
    y = frame.height - 10
    steps = (step for step in choose_ticks(*frame.steps, count=few) if 0 <= _share(step, frame.steps) < 0.93)
    parts += [
        tag("text", f"{step:g}", x=frame.x(step), y=y, class_="tick middle") for step in steps if step == int(step)
    ]
    parts.append(tag("text", "step", x=frame.width - _RIGHT, y=y, class_="tick end"))
    return join(parts)


def _draw_curve(curve: Curve, style: str, frame: _Frame) -> tuple[Html, Html]:
    """Return the line, and, to lie above all lines, some of its points with the labels that hovering shows."""
    path = " ".join(f"{frame.x(step)},{frame.y(loss)}" for step, loss in _thin(curve.points))
    line = tag("polyline", points=path, class_=f"line {style}")
    return line, join([_draw_point(curve.name, point, style, frame) for point in _pick(curve.points)])


def _draw_point(name: str, point: Point, style: str, frame: _Frame) -> Html:
    x, y = frame.x(point[0]), frame.y(point[1])
    anchor = "end" if x > frame.width / 2 else ""
    text = f"{name}: {point[1]:.4g} at step {point[0]:g}"
    return tag(
        "g",
        tag("circle", cx=x, cy=y, r=9, class_="hit"),
        tag("circle", cx=x, cy=y, r=3.5, class_="dot"),
        tag("text", text, x=x + (-8 if anchor else 8), y=max(y - 10, 14), class_=f"hint {anchor}".strip()),
        tag("title", text),
        class_=f"point {style}",
    )


def _draw_legend(curves: Sequence[Curve]) -> Html:
    entries = []
    for position, curve in enumerate(curves):
        last = f"{curve.points[-1][1]:.4g}" if curve.points else "no loss logged"
        entries.append(
            tag("li", tag("span", class_=f"swatch {style_of(position)}"), f"{curve.name} ", tag("b", last))
        )
    return tag("ul", *entries, class_="legend")


def choose_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers from below `low` to above `high`, about `count` of them.

    >>> choose_ticks(0.3, 2.1)
    [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    """
    if high <= low:
        high = low + max(abs(low), 1.0) * 0.1
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _share(value: float, span: Point) -> float:
    return (value - span[0]) / (span[1] - span[0]) if span[1] > span[0] else 0.5


def _keep_finite(points: Sequence[Point]) -> tuple[Point, ...]:
    return tuple(point for point in points if all(abs(number) < _MOST for number in point))


def _pick(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """Return at most `_MOST_LABELS` of the points, evenly apart, the last one always."""
    stride = -(-len(points) // _MOST_LABELS) if points else 1
    return points[::-1][::stride][::-1]


def _thin(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """Return at most `_MOST_POINTS` points: the means of equal runs of neighbours, each at its last step."""
    if len(points) <= _MOST_POINTS:
        return points
    edges = [len(points) * number // _MOST_POINTS for number in range(_MOST_POINTS + 1)]
    bins = [points[left:right] for left, right in pairwise(edges)]
    return tuple((group[-1][0], sum(loss for _, loss in group) / len(group)) for group in bins)
