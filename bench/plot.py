"""Horizontal bars as SVG, for light pages and dark ones: a pure function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, LABELS, LONGEST = 760, 300, 370
_TITLE, _BAR, _GAP = 34, 22, 8

_STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.bar { fill: #8c959f }
.ours { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .bar { fill: #6e7681 }
  .ours { fill: #4493f8 }
}"""


@dataclass(frozen=True)
class Bar:
    label: str
    value: float
    ours: bool = False


@dataclass(frozen=True)
class Panel:
    """Bars that share a scale: the longest one fills it."""

    title: str
    bars: Sequence[Bar]


def svg(panels: Sequence[Panel]) -> str:
    height = sum(_height(panel) for panel in panels)
    shapes = []
    top = 0
    for panel in panels:
        shapes += _panel(panel, top)
        top += _height(panel)
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">'
    return "\n".join([opening, f"<style>\n{_STYLE}\n</style>", *shapes, "</svg>", ""])


def _height(panel: Panel) -> int:
    return _TITLE + len(panel.bars) * (_BAR + _GAP)


def _panel(panel: Panel, top: int) -> list[str]:
    shapes = [f'<text class="title" x="0" y="{top + 20}">{escape(panel.title)}</text>']
    scale = LONGEST / max(bar.value for bar in panel.bars)
    for number, bar in enumerate(panel.bars):
        shapes += _bar(bar, top + _TITLE + number * (_BAR + _GAP), bar.value * scale)
    return shapes


def _bar(bar: Bar, top: int, length: float) -> list[str]:
    kind = "bar ours" if bar.ours else "bar"
    return [
        f'<text x="{LABELS - 8}" y="{top + 16}" text-anchor="end">{escape(bar.label)}</text>',
        f'<rect class="{kind}" x="{LABELS}" y="{top}" width="{length:.1f}" height="{_BAR}" rx="3"/>',
        f'<text x="{LABELS + length + 8:.1f}" y="{top + 16}">{bar.value:,.0f}</text>',
    ]
