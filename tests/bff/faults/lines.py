"""Lines over time as SVG, for light pages and dark ones: a pure function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _LEFT, _RIGHT = 760, 56, 16
_TITLE, _PLOT, _AXIS = 30, 110, 34
_COLOURS = ("one", "two", "three")

_STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 13px; font-weight: 600 }
.axis { stroke: #d0d7de }
.line { fill: none; stroke-width: 1.5 }
.one { stroke: #0969da; fill: #0969da } .two { stroke: #bc4c00; fill: #bc4c00 } .three { stroke: #6e7781 }
path.one, path.two, path.three { fill: none }
text.one, text.two, text.three { stroke: none }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .axis { stroke: #30363d }
}"""


@dataclass(frozen=True)
class Line:
    """Points are minutes and a value."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """Lines that share a scale, which begins at 0."""

    title: str
    lines: Sequence[Line]


def svg(panels: Sequence[Panel]) -> str:
    height = len(panels) * (_TITLE + _PLOT + _AXIS)
    shapes = [
        shape
        for number, panel in enumerate(panels)
        for shape in _panel(panel, number * height // len(panels))
    ]
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">'
    return "\n".join([opening, f"<style>\n{_STYLE}\n</style>", *shapes, "</svg>", ""])


def _panel(panel: Panel, top: int) -> list[str]:
    points = [point for line in panel.lines for point in line.points]
    longest = max((minute for minute, _ in points), default=0) or 1
    highest = max((value for _, value in points), default=0) or 1
    floor = top + _TITLE + _PLOT
    shapes = [
        f'<text class="title" x="0" y="{top + 16}">{escape(panel.title)}</text>',
        f'<path class="axis" d="M{_LEFT} {floor}H{_WIDTH - _RIGHT}"/>',
        f'<text x="{_LEFT - 6}" y="{top + _TITLE + 10}" text-anchor="end">{highest:,.0f}</text>',
        f'<text x="{_LEFT - 6}" y="{floor}" text-anchor="end">0</text>',
        f'<text x="{_WIDTH - _RIGHT}" y="{floor + 16}" text-anchor="end">{longest:.0f} min</text>',
    ]
    for line, colour, x in zip(panel.lines, _COLOURS, (260, 420, 580), strict=False):
        shapes.append(f'<text class="{colour}" x="{x}" y="{top + 16}">{escape(line.name)}</text>')
        if path := _path(line, longest, highest, floor):
            shapes.append(f'<path class="line {colour}" d="{path}"/>')
    return shapes


def _path(line: Line, longest: float, highest: float, floor: int) -> str:
    width = _WIDTH - _LEFT - _RIGHT
    points = [
        f"{_LEFT + width * minute / longest:.1f} {floor - _PLOT * value / highest:.1f}"
        for minute, value in line.points
    ]
    return "M" + "L".join(points) if points else ""
