"""The statistics of a dataset as one HTML page that needs nothing else: no network, no script."""

from collections.abc import Sequence

from prep.html import Html, build_page, join
from prep.quality.stats import Bar, DatasetStats
from prep.tokens.cutoff import CutoffReplay

_WIDTH, _HEIGHT, _LEFT, _FOOT = 640, 240, 8, 24
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #60666c; --line: #d9dde1; --bar: #3b6fd4; --paper: #fff }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --soft: #9aa3ab; --line: #3a4047; --bar: #7aa5f5; --paper: #16191d } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 46rem; padding: 1.25rem 1rem 3rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.4rem; margin: 0 0 .25rem; overflow-wrap: anywhere }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
p, footer { margin: .25rem 0; color: var(--soft) }
svg { display: block; width: 100%; height: auto }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif }
.bar { fill: var(--bar) }
.axis { stroke: var(--line) }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: .35rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child { text-align: left }
th { color: var(--soft); font-weight: 600 }
"""
_LOSS_TITLES = {
    "prompt": "prompt cut",
    "turns": "turns lost",
    "answer": "answer's end lost",
    "end_of_turn": "<|im_end|> lost",
    "close": "</think> lost",
}


def render_page(stats: DatasetStats, title: str, subtitle: str) -> str:
    """Return the page; `title` names the dataset, `subtitle` tells how it was measured."""
    kinds = [(kind, f"{count:,}", f"{count / stats.rows:.1%}") for kind, count in stats.kinds.items()]
    lengths = [(name, f"{value:,}") for name, value in stats.lengths.items()]
    parts = [
        f"<h1>{join([title])}</h1><p>{stats.rows:,} rows. {join([subtitle])}</p>",
        "<h2>Rows by kind</h2>" + _render_table(("kind", "rows", "share"), kinds),
        f"<h2>Length in {stats.unit}</h2>" + _render_histogram(stats.histogram, stats.unit),
        _render_table(("", stats.unit), lengths),
    ]
    if stats.advice:
        parts.append(
            f"<h2>What a cutoff_len cuts</h2><p>The smallest that cuts no row is {stats.advice.lossless:,}; "
            f"{stats.advice.one_percent:,} cuts at most 1 % of the rows.</p>" + _render_replays(stats.replays)
        )
    return build_page(title, _STYLE, Html("\n".join(parts)))


def _render_histogram(bars: list[Bar], unit: str) -> str:
    highest = max(bar.rows for bar in bars)
    step = (_WIDTH - 2 * _LEFT) / len(bars)
    floor = _HEIGHT - _FOOT
    shapes = []
    for place, bar in enumerate(bars):
        height = (floor - 16) * bar.rows / highest
        left = _LEFT + place * step
        tip = f"{bar.low:,} to {bar.high - 1:,} {unit}: {bar.rows:,} rows"
        shapes.append(
            f'<rect class="bar" x="{left + 1:.1f}" y="{floor - height:.1f}" width="{max(step - 2, 1):.1f}" '
            f'height="{height:.1f}"><title>{tip}</title></rect>'
        )
        if place % max(1, len(bars) // 5) == 0:
            shapes.append(f'<text x="{left + 1:.1f}" y="{_HEIGHT - 6}">{bar.low:,}</text>')
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Histogram of row lengths in {unit}">'
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _LEFT}" y1="{floor}" y2="{floor}"/>'
        f'<text x="{_LEFT}" y="12">up to {highest:,} rows a bar</text>{"".join(shapes)}</svg>'
    )


def _render_replays(replays: list[CutoffReplay]) -> str:
    head = ("cutoff_len", "rows cut", *_LOSS_TITLES.values())
    rows = [
        tuple(
            f"{count:,}"
            for count in (replay.cutoff_len, len(replay.rows_cut), *map(replay.losses.get, _LOSS_TITLES))
        )
        for replay in replays
    ]
    return _render_table(head, rows)


def _render_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    cells = "".join(f"<th>{join([cell])}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{join([cell])}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'
