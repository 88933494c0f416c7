"""The table as a picture: how near every server comes to its best, one line a ratio. Plain SVG, no library."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from lmx.bench.report import LMX, Report, ratio

COLOURS = ("#2563eb", "#f59e0b", "#10b981", "#a855f7", "#ef4444")
LABEL, PLOT, VALUES = 140, 500, 130
TOP, LINE, BAR, GAP = 88, 14, 10, 14
LARGEST = 1.25
"""Where the axis ends; what is better still is drawn up to here, and its number tells."""
FONT = "font-family='system-ui, -apple-system, Segoe UI, sans-serif'"


def write(report: Report, file: Path) -> None:
    file.write_text(draw(report), encoding="utf-8")


def draw(report: Report) -> str:
    """Bars that end at 1.0 are as good as the bare loop (or as the best there can be); longer is better."""
    sites = report.sites()
    names = list(dict.fromkeys(name for site in sites for name in report.ratios(site)))
    heights = [LINE * len(_present(report, sites, name)) + GAP for name in names]
    height = TOP + sum(heights) + 30
    width = LABEL + PLOT + VALUES
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' {FONT}>"
    parts = [head, f"<rect width='{width}' height='{height}' fill='white'/>", *_title(report), *_legend(sites)]
    parts += _axis(height)
    top = TOP
    for name, room in zip(names, heights, strict=True):
        parts += _line(report, sites, name, top)
        top += room
    return "\n".join([*parts, "</svg>"]) + "\n"


def _title(report: Report) -> Iterator[str]:
    yield _text(16, 26, f"lmx {report.version} on {report.model}", size=16, weight=600)
    where = f"{report.machine.processor}, {report.machine.cores} cores, {report.when[:10]}"
    yield _text(
        16, 44, f"1 = the bare loop, or all there is; longer bars are better. {where}", size=11, colour="#64748b"
    )


def _legend(sites: Sequence[str]) -> Iterator[str]:
    left = LABEL
    for site, colour in zip(sites, COLOURS, strict=False):
        yield f"<rect x='{left}' y='56' width='10' height='10' rx='2' fill='{colour}'/>"
        yield _text(left + 15, 65, site, size=11)
        left += 40 + 7 * len(site)


def _axis(height: float) -> Iterator[str]:
    for tenths in (0, 25, 50, 75, 100, 125):
        x = LABEL + PLOT * tenths / 100 / LARGEST
        strong = tenths == 100
        style = "stroke='#0f172a' stroke-width='1.2'" if strong else "stroke='#e2e8f0'"
        yield f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{TOP - 8}' y2='{height - 26}' {style}/>"
        yield _text(x, height - 10, f"{tenths / 100:g}", size=10, colour="#64748b", anchor="middle")


def _line(report: Report, sites: Sequence[str], name: str, top: float) -> Iterator[str]:
    """The bars of one ratio, one for each site that has it."""
    present = _present(report, sites, name)
    yield _text(LABEL - 10, top + LINE * len(present) / 2 + 3, name, anchor="end", size=11)
    for number, site in enumerate(present):
        value = report.ratios(site)[name]
        y = top + LINE * number
        length = PLOT * min(ratio(name).goodness(value), LARGEST) / LARGEST
        size = f"width='{max(length, 1):.1f}' height='{BAR}' rx='2'"
        yield f"<rect x='{LABEL}' y='{y}' {size} fill='{_colour(sites, site)}'/>"
        yield _text(LABEL + length + 5, y + BAR - 1, _number(name, value), size=10, weight=600 if site == LMX else 400)


def _present(report: Report, sites: Sequence[str], name: str) -> list[str]:
    return [site for site in sites if name in report.ratios(site)]


def _number(name: str, value: float) -> str:
    return f"{value:.2f}" if ratio(name).better == "higher" else f"{value:.2f}, less is better"


def _colour(sites: Sequence[str], site: str) -> str:
    return COLOURS[sites.index(site) % len(COLOURS)]


def _text(
    x: float, y: float, text: str, *, size: int = 12, weight: int = 400, colour: str = "#0f172a", anchor: str = "start"
) -> str:
    style = f"font-size='{size}' font-weight='{weight}' fill='{colour}' text-anchor='{anchor}'"
    return f"<text x='{x:.1f}' y='{y:.1f}' {style}>{escape(text)}</text>"
