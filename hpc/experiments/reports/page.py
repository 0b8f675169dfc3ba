"""Writes the report as one HTML file that loads no other files."""

import time
from html import escape

from measured import curves_of as read_points
from reports import plots, tables

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1b1b1b; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 1rem 1.25rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 0; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; padding-top: 1rem; border-top: 1px solid #bbb; }
h2 { overflow-wrap: anywhere; }
h3 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0; max-width: 48rem; }
p, li, figcaption { overflow-wrap: anywhere; }
.quiet { color: #555; }
.box { overflow-x: auto; border: 1px solid #ccc; border-radius: 4px; }
.box:focus-visible { outline: 3px solid #0072b2; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .75rem; text-align: left; vertical-align: top; white-space: nowrap; }
td.long { white-space: normal; min-width: 16rem; overflow-wrap: anywhere; }
thead th { background: #f1f3f5; font-size: .8rem; color: #333; border-bottom: 1px solid #bbb; }
tbody tr + tr > * { border-top: 1px solid #e4e4e4; }
tbody th.group { background: #fafafa; font-weight: 600; white-space: normal; overflow-wrap: anywhere; }
tbody th { font-weight: 400; }
td.said { white-space: normal; color: #8a3c00; }
.whole { display: block; position: sticky; left: .75rem; max-width: calc(min(100vw, 72rem) - 4.5rem); }
.number { text-align: right; }
.figures { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; min-width: 0; }
figcaption { font-size: .95rem; font-weight: 600; }
figure svg { display: block; width: 100%; height: auto; }
figure.wide { max-width: 36rem; }
ul.legend { list-style: none; margin: .25rem 0 .75rem; padding: 0; }
ul.legend { display: flex; flex-wrap: wrap; gap: .15rem 1.25rem; }
ul.legend li { font-size: .9rem; display: flex; gap: .5rem; align-items: baseline; min-width: 0; }
.swatch { flex: none; width: 1.4rem; height: .75rem; border: 1px solid #333; }
.narrow { display: none; }
@media (max-width: 40rem) {
  main { padding: .75rem .75rem 2rem; }
  th, td { padding: .3rem .5rem; }
  .whole { left: .5rem; max-width: calc(100vw - 2.75rem); }
  .narrow { display: block; }
}
"""


def cell(tag, text, classes="", extra=""):
    marked = f' class="{classes}"' if classes else ""
    return f"<{tag}{marked}{extra}>{escape(text)}</{tag}>"


def row_of(table, row):
    if len(row) == 1:
        span = f' colspan="{len(table.header)}"'
        text = f'<span class="whole">{escape(row[0].strip())}</span>'
        if row[0].startswith(" "):
            return f'<td class="said"{span}>{text}</td>'
        return f'<th class="group"{span} scope="rowgroup">{text}</th>'
    cells = [cell("th", row[0].strip(), "", ' scope="row"')]
    for i, text in enumerate(row[1:], 1):
        cells.append(cell("td", text, "number" if i in table.numbers else "long" if len(text) > 40 else ""))
    return "".join(cells)


def table_of(table):
    numbers = ("number" if i in table.numbers else "" for i in range(len(table.header)))
    heads = [cell("th", head, classes, ' scope="col"') for head, classes in zip(table.header, numbers)]
    rows = "".join(f"<tr>{row_of(table, row)}</tr>\n" for row in table.rows)
    note = f'<p class="quiet">{escape(table.note)}</p>' if table.note else ""
    return (
        f"<h3>{escape(table.title)}</h3>\n"
        f'<div class="box" role="region" tabindex="0" aria-label="{escape(table.title)}"><table>\n'
        f"<thead><tr>{''.join(heads)}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n{note}\n"
    )


def legend(entries):
    """Return the legend; entries are (colour or background, text)."""
    items = [
        f'<li><span class="swatch" style="background: {colour}"></span>{escape(text)}</li>' for colour, text in entries
    ]
    return f'<ul class="legend">{"".join(items)}</ul>\n'


def figure(drawing, caption, note, classes=""):
    said = f'<p class="quiet">{escape(note)}</p>' if note else ""
    return f'<figure class="{classes}"><figcaption>{escape(caption)}</figcaption>{drawing}{said}</figure>\n'


def colours_of(tasks):
    """Return task -> colour, and the legend; the colour is by command if there are several, or else by task."""
    commands = list(dict.fromkeys(task.command for task in tasks))
    keys = [task.command for task in tasks] if len(commands) > 1 else [task.seed or task.name for task in tasks]
    names = list(dict.fromkeys(keys))
    colour = dict(zip(names, plots.COLOURS))
    entries = list(zip(plots.COLOURS, names))
    if len(names) > len(entries):
        entries.append((plots.OTHER, f"{len(names) - len(entries)} others"))
    return {task.name: colour.get(key, plots.OTHER) for task, key in zip(tasks, keys)}, entries


def read_curves(task):
    return {key: plots.prepared(points) for key, points in read_points(task.task.output).items()}


def curves_of(name, tasks, salt, most):
    """Return a drawing of each metric, with about `most` points in all."""
    found = {task.name: read_curves(task) for task in tasks}
    tasks = [task for task in tasks if found[task.name]]
    if not tasks:
        return ""
    colours, entries = colours_of(tasks)
    lines = {}
    for task in tasks:
        for key, points in found[task.name].items():
            lines.setdefault(key, []).append((points, colours[task.name]))
    keys = sorted(lines)
    shown, parts = keys[: plots.DRAWINGS], []
    for index, (metric, axis) in enumerate(shown):
        members = lines[metric, axis]
        title = escape(f"{metric} over {axis}, {len(members)} of the tasks of {name or 'the run'}")
        drawing, note = plots.curves(members, axis, most // len(shown), title, f"{salt}-{index}")
        parts.append(figure(drawing, metric, note))
    left = ", ".join(metric for metric, _ in keys[len(shown) :])
    note = f'<p class="quiet">Not drawn: {escape(left)}</p>\n' if left else ""
    return f'<h3>Curves</h3>\n{legend(entries)}<div class="figures">\n{"".join(parts)}</div>\n{note}'


def timeline_of(name, tasks, salt):
    rows = [(task.name, task.older_attempts + task.attempts) for task in tasks]
    rows = [(task, [(a.ending, a.began, a.ended) for a in attempts]) for task, attempts in rows if attempts]
    if not rows:
        return ""
    present = {plots.kind_of(cause) for _, attempts in rows for cause, _, _ in attempts}
    entries = []
    for kind in plots.KINDS:
        if kind in present:
            shade = kind[1]
            if kind[2]:
                shade = f"repeating-linear-gradient(45deg, {kind[1]} 0 4px, #333 4px 5px)"
            entries.append((shade, KIND_NAMES[kind[0]]))
    title = escape(
        f"When the attempts of {name or 'the run'} ran, and how they ended; the table of attempts says the same"
    )
    drawing, note = plots.timeline(rows, title, salt)
    drawn = figure(drawing, "A thick line at an end is an interruption", note, "wide")
    return f"<h3>Attempts and interruptions</h3>\n{legend(entries)}{drawn}"


KIND_NAMES = {
    "finished": "finished",
    "notice": "saved and stopped when asked",
    "preempted": "preempted",
    "node_failed": "a node failed",
    "running": "running",
    "": "failed, cancelled or out of time",
}


def html(reports, experiments, of_node, most):
    """Return the page; `most`: attempts that are listed one by one."""
    names = [report["experiment"] or "run" for report in reports]
    title = escape("Report: " + ", ".join(names))
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    parts = []
    for index, report in enumerate(reports):
        tasks = list(experiments[report["experiment"]].values())
        states = [task.state for task in tasks]
        done = states.count("completed")
        parts.append(f"<section>\n<h2>{escape(names[index])}</h2>\n")
        parts.append(f'<p class="quiet">{done} of {len(tasks)} tasks completed</p>\n')
        shown = [table_of(table) for table in tables.of_report(report, of_node, most)]
        parts += shown[:1]
        parts.append(curves_of(report["experiment"], tasks, f"curves-{index}", plots.POINTS // len(reports)))
        parts.append(timeline_of(report["experiment"], tasks, f"timeline-{index}"))
        parts += shown[1:]
        parts.append("</section>\n")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p class="quiet">Made {made}</p>
<p class="quiet narrow">Wide tables scroll sideways.</p>
{"".join(parts)}</main>
</body>
</html>
"""
