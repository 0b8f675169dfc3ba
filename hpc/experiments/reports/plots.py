"""Draws SVG with matplotlib: curves of metrics, and a timeline of attempts."""

import io
import math
import re
import time
import warnings

import matplotlib

matplotlib.use("svg")
from matplotlib.figure import Figure

# The palette of Okabe and Ito, which colour-blind people can distinguish.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F5F00", "#000000")
OTHER = "#8A8A8A"
WIDTH_INCHES, PIXELS = 5.2, 520  # of the axes, at the width of the page
POINTS = 40000  # of all curves of a page, about a megabyte
DRAWINGS, CURVES, ROWS = 24, 60, 60  # drawings of an experiment; curves and rows of a drawing

UNITS = (("days", 86400), ("hours", 3600), ("minutes", 60), ("seconds", 1))

KINDS = (
    ("finished", "#009E73", ""),
    ("notice", "#56B4E9", "//"),
    ("preempted", "#E69F00", "\\\\"),
    ("node_failed", "#CC79A7", "xx"),
    ("running", "#FFFFFF", ".."),
    ("", "#D55E00", ""),  # all other causes are failures
)

STYLE = {
    "svg.fonttype": "none",
    "path.simplify": False,  # thinned already
    "text.parse_math": False,  # names are not formulas
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "hatch.linewidth": 0.5,
}


def thinned(points, columns):
    """Return the lowest and the highest point of each column, in order, so that no spike is lost.

    Args:
        points: (x, y), all finite.
        columns: the number of pixel columns between the first x and the last.
    """
    if len(points) <= 2 * columns:
        return points
    left = min(x for x, _ in points)
    width = (max(x for x, _ in points) - left) or 1
    kept = {0, len(points) - 1}
    lowest, highest = {}, {}
    for index, (x, y) in enumerate(points):
        column = min(columns - 1, int((x - left) / width * columns))
        if column not in lowest:
            lowest[column] = highest[column] = index
        elif y < points[lowest[column]][1]:
            lowest[column] = index
        elif y > points[highest[column]][1]:
            highest[column] = index
    kept.update(lowest.values(), highest.values())
    return [points[index] for index in sorted(kept)]


def svg(figure, title, salt):
    """Return the SVG as a part of a page: without a prolog, with a title, and with unique ids."""
    out = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": salt}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about glyphs that only the page's font has
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    text = re.sub(r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>", rf'<svg role="img" \1 {NAMESPACES}>', text, count=1)
    head = text.index(">") + 1
    # Remove ids that matplotlib only numbers: they are not unique on the page.
    body = re.sub(r' id="[a-z0-9_.]*?_\d+"', "", text[head:])
    return f"{text[:head]}<title>{title}</title>{body}"


NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def axes_of(height):
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
        return figure, figure.add_subplot()


def prepared(points):
    """Return the thinned finite points of a curve, and the number of points that are not finite."""
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    return thinned(finite, PIXELS), len(points) - len(finite)


def curves(lines, axis, most, title, salt):
    """Return a drawing of lines, and a note about what it does not show.

    Args:
        lines: a list of pairs: what `prepared` gives, and a colour.
        axis: name of the horizontal axis.
        most: points of all lines together, about.
        title: for those who cannot see it, escaped.
        salt: a different one for each drawing of a page.
    """
    shown = lines[:CURVES]
    columns = max(8, min(PIXELS, most // 2 // len(shown)))
    figure, axes = axes_of(2.9)
    all_y = []
    with matplotlib.rc_context(STYLE):
        for (points, _), colour in shown:
            if points:
                xs, ys = zip(*thinned(points, columns))
                all_y += ys
                axes.plot(xs, ys, color=colour, linewidth=1.2, alpha=0.9, marker="." if len(points) < 2 else None)
        if all_y and min(all_y) > 0 and max(all_y) / min(all_y) > 1000:
            axes.set_yscale("log")
            # The formatter of logarithmic axes writes formulas, which are text here.
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
        axes.set_xlabel(axis)
        axes.margins(x=0.01)
    notes = []
    infinite = sum(others for (_, others), _ in shown)
    if infinite:
        notes.append(f"{infinite} values are not finite.")
    if len(lines) > len(shown):
        notes.append(f"{len(lines) - len(shown)} more tasks are not drawn.")
    return svg(figure, title, salt), " ".join(notes)


def kind_of(cause):
    return next(kind for kind in KINDS if cause.startswith(kind[0]))


def timeline(rows, title, salt):
    """Return a drawing of rows (name, attempts), and a note about what it does not show.

    An attempt is (cause, began, ended).
    """
    shown = rows[:ROWS]
    begun = min(began for _, attempts in rows for _, began, _ in attempts)
    span = max(ended for _, attempts in rows for _, _, ended in attempts) - begun
    name, unit = next((name, unit) for name, unit in UNITS if span >= 3 * unit or unit == 1)
    figure, axes = axes_of(0.8 + 0.26 * max(2, len(shown)))
    with matplotlib.rc_context(STYLE):
        for row, (_, attempts) in enumerate(shown):
            for cause, began, ended in attempts:
                kind, colour, hatch = kind_of(cause)
                start, end = (began - begun) / unit, (ended - begun) / unit
                edge = {"edgecolor": "#333333", "linewidth": 0.6}
                axes.broken_barh([(start, end - start)], (row - 0.35, 0.7), facecolor=colour, hatch=hatch, **edge)
                if kind not in ("finished", "running"):
                    axes.plot([end], [row], marker="|", markersize=13, markeredgewidth=2, color="#222222")
        axes.set_yticks(range(len(shown)), [name if len(name) <= 20 else name[:19] + "…" for name, _ in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlabel(f"{name} since {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(begun))} UTC")
        axes.grid(visible=False, axis="y")
        axes.set_axisbelow(True)
    note = f"{len(rows) - len(shown)} more tasks are not drawn." if len(rows) > len(shown) else ""
    return svg(figure, title, salt), note
