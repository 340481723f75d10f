#!/usr/bin/env python3
"""Draws the comparison chart of README.md from the table of CPU times on a page under benches/runs.

    benches/chart.py            draw the chart again
    benches/chart.py --check    fail if the chart is not what the table says
    benches/chart.py PAGE       draw chart.svg beside another page, such as one of `loadtest matrix` with two relays

The table begins with `| work |`; its next columns are the two relays, the one that others are compared with first. Each
row is one kind of work, each dot one relay, on a logarithmic axis of CPU time. Standard library only.
"""

import difflib
import math
import sys
from html import escape
from pathlib import Path

RUN = Path(__file__).resolve().parent / "runs" / "2026-12-01-matrix-strfry"
PAGE, CHART = RUN / "README.md", RUN / "chart.svg"

# All lengths in pixels of a picture 800 wide.
WIDTH, TOP, ROW, BOTTOM = 800, 92, 24, 34
LABELS_END, PLOT_START, PLOT_END, LEAD, LEAD_LARGE = 206, 284, 632, 726, 798
TICKS = (1, 10, 100, 1000, 10000, 100000)

# What loadtest's phases are called for readers who do not know it.
WORK = {
    "new events": "a new event",
    "duplicate events": "a duplicate event",
    "by-id": "one event by id",
    "profile": "one profile",
    "thread": "a thread",
    "author-notes": "an author's notes",
    "conversation": "a conversation",
    "ids-100": "100 events by id",
    "newest-100": "newest 100 notes",
    "follow-feed-300x2": "feed of 300 authors, 2 kinds",
    "profiles-300": "300 profiles",
    "hashtag": "a hashtag",
    "time-window": "a time window",
    "author-hashtag": "author and hashtag",
    "author-page": "a page of an author",
    "few to many": "live fan-out, per delivery",
    "burst": "burst, per delivery",
    "follow feeds": "live event into follow feeds",
    "mixed social traffic": "mixed traffic",
}

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


def read_table(page):
    """The two relays of the page's table of work, and its rows: the work, then each cell as a range."""
    lines = page.splitlines()
    start = next((number for number, line in enumerate(lines) if line.startswith("| work |")), None)
    if start is None:
        sys.exit("the page has no table that begins with | work |")
    _, *names = [cell.split(",")[0].strip() for cell in lines[start].strip("|").split("|")]
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        work, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        ranges = [None if cell == "–" else read_range(cell) for cell in cells]
        rows.append((WORK.get(work, work), *ranges, None, None)[:5])
    if len(names) not in (2, 4):
        sys.exit(f"the chart compares two relays, the table has {len(names)}")
    # A kind of work that one of them did not do has nothing to compare.
    return names[:2], [row for row in rows if row[1] and row[2]]


def lead(strfry, weir):
    """How many times weir's cost strfry's is, in two digits: `12×`, or `3.8–5.6×` where weir's cost is a range."""
    if not (strfry and weir):
        return ""
    ratios = sorted({f"{strfry[0] / end:.2g}" for end in weir}, key=float)
    return "–".join(f"{float(ratio):,g}" for ratio in ratios) + "×"


def number(ends):
    return "–".join(f"{end:,g}" for end in sorted(set(ends)))


def ends_of(rows):
    """The ends of an axis that holds every value."""
    values = [end for _, one, other, *_ in rows for end in (*one, *other)]
    return (min(values) * 0.8, max(values) * 1.25)


def place(value, axis):
    """Where a value lies on the logarithmic axis between these ends."""
    low, high = (math.log10(end) for end in axis)
    return PLOT_START + (math.log10(value) - low) / (high - low) * (PLOT_END - PLOT_START)


def text(x, y, words, classes=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{classes}">{escape(words)}</text>'


def mark(left, right, y, relay):
    """A dot, or a bar where a range has two ends."""
    width = right - left + 10
    return f'<rect x="{left - 5:.1f}" y="{y - 5:.1f}" width="{width:.1f}" height="10" rx="5" class="{relay}"/>'


def draw_head(names, is_large):
    other, own = names
    head = [
        text(0, 18, "CPU time of the relay for each unit of work: less is better", "title"),
        mark(5, 5, 40, "weir"),
        text(16, 44.5, own, "weir-value"),
        mark(45 + 7 * len(own), 45 + 7 * len(own), 40, "strfry"),
        text(56 + 7 * len(own), 44.5, other, "strfry-value"),
        text(PLOT_START, 68, "µs with 50,000 events stored, logarithmic" if is_large else "µs, logarithmic", "quiet"),
        text(LEAD_LARGE, 44.5, f"{other} / {own}", "strong end"),
    ]
    if is_large:
        head += [text(LEAD, 68, "50,000", "quiet end"), text(LEAD_LARGE, 68, "1 million", "quiet end")]
    return head


def draw_axis(bottom, axis):
    marks = []
    for tick in (tick for tick in TICKS if axis[0] <= tick <= axis[1]):
        x = place(tick, axis)
        marks.append(f'<line x1="{x:.1f}" y1="{TOP - 16}" x2="{x:.1f}" y2="{bottom}" class="grid"/>')
        marks.append(text(x, bottom + 18, f"{tick:,} µs", "quiet middle"))
    return marks


def draw_row(y, axis, is_large, work, strfry, weir, strfry_large, weir_large):
    middle = y - 4.5
    other, own = ([place(end, axis) for end in ends] for ends in (strfry, weir))
    return [
        text(LABELS_END, y, work, "end"),
        f'<line x1="{own[1]:.1f}" y1="{middle}" x2="{other[0]:.1f}" y2="{middle}" class="gap"/>',
        mark(*other, middle, "strfry"),
        mark(*own, middle, "weir"),
        text(own[0] - 10, y, number(weir), "weir-value end"),
        text(other[1] + 10, y, number(strfry), "strfry-value"),
        text(LEAD if is_large else LEAD_LARGE, y, lead(strfry, weir), "strong end"),
        text(LEAD_LARGE, y, lead(strfry_large, weir_large), "end"),
    ]


def draw(names, rows):
    other, own = names
    is_large = any(row[3] or row[4] for row in rows)
    bottom = TOP + len(rows) * ROW - 8
    axis = ends_of(rows)
    parts = draw_head(names, is_large) + draw_axis(bottom, axis)
    for count, row in enumerate(rows):
        parts += draw_row(TOP + count * ROW + 4.5, axis, is_large, *row)
    spoken = "; ".join(f"{work}: {own} {number(weir)}, {other} {number(strfry)}" for work, strfry, weir, *_ in rows)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + BOTTOM}" '
        f'width="{WIDTH}" height="{bottom + BOTTOM}" role="img">',
        f"<title>{escape(own)} and {escape(other)}: CPU time for each unit of work</title>",
        f"<desc>Microseconds{' with 50,000 events stored' if is_large else ''}. {escape(spoken)}.</desc>",
        f"<style>{STYLE}\n</style>",
        *parts,
        "</svg>\n",
    ])


def main(arguments):
    if len(arguments) > 1 or (arguments and arguments[0].startswith("-") and arguments != ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    if arguments and arguments != ["--check"]:
        page = Path(arguments[0])
        (page.parent / CHART.name).write_text(draw(*read_table(page.read_text(encoding="utf-8"))), encoding="utf-8")
        return 0
    wanted = draw(*read_table(PAGE.read_text(encoding="utf-8")))
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
