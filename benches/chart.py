#!/usr/bin/env python3
"""Draws the comparison chart of README.md from the first table of a page under benches/runs.

    benches/chart.py            draw the chart again
    benches/chart.py --check    fail if the chart is not what the table says

Each row is one kind of work, each dot one relay, on a logarithmic axis of CPU time. Standard library only.
"""

import difflib
import math
import sys
from html import escape
from pathlib import Path

RUN = Path(__file__).resolve().parent / "runs" / "strfry-2vcpu-intel"
PAGE, CHART = RUN / "README.md", RUN / "chart.svg"

# All lengths in pixels of a picture 800 wide.
WIDTH, TOP, ROW, BOTTOM = 800, 92, 24, 34
LABELS_END, PLOT_START, PLOT_END, LEAD, LEAD_LARGE = 206, 284, 632, 726, 798
ENDS = (4, 3000)
TICKS = (10, 100, 1000)

# Colors as GitHub uses them for text, lines and accents, in its light and its dark theme.
STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 }
  .quiet, .strfry-value { fill: #59636e }
  .strong { font-weight: 600 }
  .weir-value { fill: #0a58b5; font-weight: 600 }
  .end { text-anchor: end }
  .middle { text-anchor: middle }
  .grid { stroke: #d1d9e0; stroke-width: 1 }
  .gap { stroke: #b6c4d1; stroke-width: 2 }
  .weir { fill: #0969da }
  .strfry { fill: #818b98 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .quiet, .strfry-value { fill: #9198a1 }
    .weir-value { fill: #79c0ff }
    .grid { stroke: #3d444d }
    .gap { stroke: #4d5b69 }
    .weir { fill: #4493f8 }
    .strfry { fill: #9198a1 }
  }"""


def read_range(cell):
    """The low and the high end of `1,322` or `238–350`; None for an empty cell."""
    ends = [float(end.replace(",", "")) for end in cell.split("–") if end]
    return (ends[0], ends[-1]) if ends else None


def read_rows(page):
    """The rows of the page's first table: the work, then each cell as a range."""
    lines = page.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|---"))
    rows = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        work, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        rows.append((work, *map(read_range, cells)))
    return rows


def lead(strfry, weir):
    """How many times weir's cost strfry's is, in two digits: `12×`, or `3.8–5.6×` where weir's cost is a range."""
    if not (strfry and weir):
        return ""
    ratios = sorted({f"{strfry[0] / end:.2g}" for end in weir}, key=float)
    return "–".join(f"{float(ratio):,g}" for ratio in ratios) + "×"


def number(ends):
    return "–".join(f"{end:,g}" for end in sorted(set(ends)))


def place(value):
    """Where a value lies on the logarithmic axis."""
    low, high = (math.log10(end) for end in ENDS)
    return PLOT_START + (math.log10(value) - low) / (high - low) * (PLOT_END - PLOT_START)


def text(x, y, words, classes=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{classes}">{escape(words)}</text>'


def mark(left, right, y, relay):
    """A dot, or a bar where a range has two ends."""
    width = right - left + 10
    return f'<rect x="{left - 5:.1f}" y="{y - 5:.1f}" width="{width:.1f}" height="10" rx="5" class="{relay}"/>'


def draw_head():
    return [
        text(0, 18, "CPU time of the relay for each unit of work: less is better", "title"),
        mark(5, 5, 40, "weir"),
        text(16, 44.5, "weir", "weir-value"),
        mark(73, 73, 40, "strfry"),
        text(84, 44.5, "strfry", "strfry-value"),
        text(PLOT_START, 68, "µs with 50,000 events stored, logarithmic", "quiet"),
        text(LEAD_LARGE, 44.5, "strfry / weir", "strong end"),
        text(LEAD, 68, "50,000", "quiet end"),
        text(LEAD_LARGE, 68, "1 million", "quiet end"),
    ]


def draw_axis(bottom):
    marks = []
    for tick in TICKS:
        x = place(tick)
        marks.append(f'<line x1="{x:.1f}" y1="{TOP - 16}" x2="{x:.1f}" y2="{bottom}" class="grid"/>')
        marks.append(text(x, bottom + 18, f"{tick:,} µs", "quiet middle"))
    return marks


def draw_row(y, work, strfry, weir, strfry_large, weir_large):
    middle = y - 4.5
    return [
        text(LABELS_END, y, work, "end"),
        f'<line x1="{place(weir[1]):.1f}" y1="{middle}" x2="{place(strfry[0]):.1f}" y2="{middle}" class="gap"/>',
        mark(*map(place, strfry), middle, "strfry"),
        mark(*map(place, weir), middle, "weir"),
        text(place(weir[0]) - 10, y, number(weir), "weir-value end"),
        text(place(strfry[1]) + 10, y, number(strfry), "strfry-value"),
        text(LEAD, y, lead(strfry, weir), "strong end"),
        text(LEAD_LARGE, y, lead(strfry_large, weir_large), "end"),
    ]


def draw(rows):
    bottom = TOP + len(rows) * ROW - 8
    parts = draw_head() + draw_axis(bottom)
    for count, row in enumerate(rows):
        parts += draw_row(TOP + count * ROW + 4.5, *row)
    spoken = "; ".join(f"{work}: weir {number(weir)}, strfry {number(strfry)}" for work, strfry, weir, *_ in rows)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + BOTTOM}" '
        f'width="{WIDTH}" height="{bottom + BOTTOM}" role="img">',
        "<title>weir and strfry: CPU time for each unit of work</title>",
        f"<desc>Microseconds with 50,000 events stored. {escape(spoken)}.</desc>",
        f"<style>{STYLE}\n</style>",
        *parts,
        "</svg>\n",
    ])


def main(arguments):
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    wanted = draw(read_rows(PAGE.read_text(encoding="utf-8")))
    if not arguments:
        CHART.write_text(wanted, encoding="utf-8")
        return 0
    drawn = CHART.read_text(encoding="utf-8")
    if drawn != wanted:
        changes = difflib.unified_diff(drawn.splitlines(), wanted.splitlines(), CHART.name, PAGE.name, lineterm="", n=0)
        print(*changes, "The chart is not what the table says: run benches/chart.py", sep="\n", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
