#!/usr/bin/env python3
"""Draws chart.svg: what each query costs by the size of the store, before and after.

Reads before.tsv and after.tsv, the output of `cargo bench --bench growth`, beside this file. Each panel is one shape of
query by 100,000 authors; both axes are logarithmic. Standard library only.
"""

import math
from html import escape
from pathlib import Path

HOME = Path(__file__).resolve().parent
AUTHORS = 100_000
SIZES = (10_000, 100_000, 1_000_000)

# All lengths in pixels.
COLUMNS, PANEL, GAP, TOP, LEFT = 4, (180, 120), 28, 60, 20
ENDS = (0.5, 2000)

STYLE = """
  text { font: 12px system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 }
  .quiet { fill: #59636e }
  .end { text-anchor: end }
  .grid { stroke: #d1d9e0; fill: none }
  .before { stroke: #818b98; fill: none; stroke-width: 2 }
  .after { stroke: #0969da; fill: none; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .quiet { fill: #9198a1 }
    .grid { stroke: #3d444d }
    .after { stroke: #4493f8 }
  }"""


def read(name):
    """Microseconds by shape and size."""
    costs = {}
    for line in (HOME / name).read_text().splitlines():
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) == 6 and cells[0].isdigit() and int(cells[1]) == AUTHORS:
            costs.setdefault(cells[2], {})[int(cells[0])] = float(cells[5])
    return costs


def y(us):
    """The height of a cost in its panel, from the top."""
    low, high = (math.log10(end) for end in ENDS)
    return PANEL[1] * (1 - (math.log10(us) - low) / (high - low))


def line(costs, css, x0, y0):
    """The line of one shape, and its last value."""
    step = PANEL[0] / (len(SIZES) - 1)
    points = [(x0 + place * step, y0 + y(costs[size])) for place, size in enumerate(SIZES)]
    return f'<polyline class="{css}" points="{" ".join(f"{px:.1f},{py:.1f}" for px, py in points)}"/>'


def main():
    before, after = read("before.tsv"), read("after.tsv")
    rows = math.ceil(len(after) / COLUMNS)
    width = LEFT + COLUMNS * (PANEL[0] + GAP)
    height = TOP + rows * (PANEL[1] + 2 * GAP)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">']
    out.append(f"<style>{STYLE}\n</style>")
    out.append(f'<text class="title" x="{LEFT}" y="22">CPU per query with 10 thousand, 100 thousand and 1 million events</text>')
    out.append(f'<text class="quiet" x="{LEFT}" y="40">µs, logarithmic, {AUTHORS:,} authors: before (grey) and after (blue)</text>')
    for number, (name, costs) in enumerate(after.items()):
        x0 = LEFT + number % COLUMNS * (PANEL[0] + GAP)
        y0 = TOP + number // COLUMNS * (PANEL[1] + 2 * GAP) + GAP
        out.append(f'<text x="{x0}" y="{y0 - 8}">{escape(name)}</text>')
        out.append(f'<rect class="grid" x="{x0}" y="{y0}" width="{PANEL[0]}" height="{PANEL[1]}"/>')
        out.append(line(before[name], "before", x0, y0))
        out.append(line(costs, "after", x0, y0))
        ends = [f"{of[name][size]:.3g}" for of in (before, after) for size in (SIZES[0], SIZES[-1])]
        text = f"{ends[0]} to {ends[1]}, now {ends[2]} to {ends[3]}"
        out.append(f'<text class="quiet" x="{x0}" y="{y0 + PANEL[1] + 16}">{text}</text>')
    out.append("</svg>")
    (HOME / "chart.svg").write_text("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
