"""This module draws the chart of a run as SVG, by hand: no package, no network."""

import math
from html import escape

from benchmarks.plan import BASELINE, WORKLOADS
from benchmarks.report import Report, Row

_LEFT, _WIDTH, _BAR, _GAP, _TOP = 250, 560, 9, 14, 64
_LOW, _HIGH = 0.03, 3.0
_COLOURS = {"driver": "#9aa5b1", "core": "#c9b37e", "ours": "#1f7a4d"}
_PEERS = ("#8b5cf6", "#d97706", "#0ea5e9", "#db2777", "#65a30d", "#64748b", "#b45309")


def svg(report: Report) -> str:
    """Draw the ratios of the first database that was measured: bars on a logarithmic scale, 1 marked."""
    if not report.rows:
        return '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>\n'
    database = report.rows[0].cell.database
    rows = [row for row in report.rows if row.cell.database == database and row.cell.tasks == 1]
    names = [name for name in report.titles if name != BASELINE and any(name in row.ratios for row in rows)]
    colours = _colours(names)
    parts: list[str] = []
    y = float(_TOP)
    for row in rows:
        y = _group(parts, row, names, colours, y)
    height = y + 20
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 60} {height:.0f}"'
                ' font-family="sans-serif" font-size="11" role="img">'
            ),
            f"<title>{escape(database)}: {report.measure} relative to SQLAlchemy's ORM by hand</title>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            *_legend(report, names, colours),
            *_scale(height),
            *parts,
            "</svg>\n",
        ]
    )


def _colours(names: list[str]) -> dict[str, str]:
    peers = [name for name in names if name not in _COLOURS]
    return {**_COLOURS, **{name: _PEERS[place % len(_PEERS)] for place, name in enumerate(peers)}}


def _x(ratio: float) -> float:
    inside = min(max(ratio, _LOW), _HIGH)
    return _LEFT + _WIDTH * math.log(inside / _LOW) / math.log(_HIGH / _LOW)


def _group(parts: list[str], row: Row, names: list[str], colours: dict[str, str], y: float) -> float:
    title = next(one.title for one in WORKLOADS if one.name == row.cell.workload)
    present = [name for name in names if name in row.ratios]
    middle = y + len(present) * _BAR / 2 + 4
    parts.append(
        f'<text x="{_LEFT - 10}" y="{middle:.0f}" text-anchor="end" fill="#111">{escape(title)}</text>'
    )
    for name in present:
        ratio = row.ratios[name].median
        width = max(1.0, _x(ratio) - _LEFT)
        parts.append(
            f'<rect x="{_LEFT}" y="{y:.0f}" width="{width:.1f}" height="{_BAR - 1}" fill="{colours[name]}"/>'
            f'<text x="{_LEFT + width + 3:.1f}" y="{y + _BAR - 1.5:.1f}" font-size="8" fill="#444">'
            f"{ratio:.2f}</text>"
        )
        y += _BAR
    return y + _GAP


def _legend(report: Report, names: list[str], colours: dict[str, str]) -> list[str]:
    parts = []
    x = 10
    for name in names:
        title = report.titles[name]
        parts.append(f'<rect x="{x}" y="12" width="10" height="10" fill="{colours[name]}"/>')
        parts.append(f'<text x="{x + 14}" y="21" font-size="10" fill="#111">{escape(title)}</text>')
        x += 24 + 6 * len(title)
    return parts


def _scale(height: float) -> list[str]:
    parts = []
    for mark in (0.05, 0.1, 0.2, 0.5, 1.0, 2.0):
        x, heavy = _x(mark), mark == 1.0
        colour, width = ("#b91c1c", 1.5) if heavy else ("#e5e7eb", 1)
        label = "1 = by hand" if heavy else f"{mark:g}"
        parts.append(
            f'<line x1="{x:.1f}" y1="{_TOP - 14}" x2="{x:.1f}" y2="{height - 10:.0f}" stroke="{colour}"'
            f' stroke-width="{width}"/>'
            f'<text x="{x:.1f}" y="{_TOP - 20}" text-anchor="middle" fill="#444">{label}</text>'
        )
    return parts
