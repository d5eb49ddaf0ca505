"""Pieces of a page: escaped text, tables, and the frame that holds all of it and lets nothing in from outside."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

# light and dark are the reader's choice; the plots take their colours from here
STYLE = """
:root { color-scheme: light dark;
  --ink: #1b1f24; --soft: #57606a; --paper: #ffffff; --band: #f3f5f7; --line: #d0d7de; --mark: #0550ae; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9da7b1; --paper: #0f1318; --band: #191f26; --line: #39424c; --mark: #79b8ff; }
}
body { margin: 0 auto; max-width: 70rem; padding: 1rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1, h2, h3 { line-height: 1.25; }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); }
a { color: var(--mark); }
.derived { border-left: .3rem solid var(--mark); padding: .3rem .9rem; background: var(--band); }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding: .3rem 0; white-space: nowrap; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: pre;
  vertical-align: top; line-height: 1.3; }
th:first-child, .word, table.text td, table.text th { text-align: left; }
table.text td { white-space: normal; overflow-wrap: anywhere; }
thead th { border-bottom: 2px solid var(--line); }
tbody th { font-weight: 600; }
figure { margin: 1.5rem 0; }
figcaption { color: var(--soft); }
pre { overflow-x: auto; padding: .7rem .9rem; background: var(--band); }
summary { cursor: pointer; color: var(--mark); }
:focus-visible { outline: 2px solid var(--mark); outline-offset: 2px; }
"""

DRAW = """
"use strict";
(function () {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  function draw() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { gridcolor: colour("--line"), zerolinecolor: colour("--soft"), linecolor: colour("--line") };
    for (const [id, figure] of Object.entries(figures)) {
      const layout = structuredClone(figure.layout);
      layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
      layout.font = { color: colour("--ink"), family: "system-ui, sans-serif", size: 13 };
      layout.xaxis = { ...axis, ...layout.xaxis };
      layout.yaxis = { ...axis, ...layout.yaxis };
      Plotly.react(id, figure.data, layout, { displayModeBar: false, responsive: true });
    }
  }
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
"""

# the browser itself keeps the page from loading anything
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:; font-src data:"


def esc(value: object) -> str:
    """The value as text that is safe in HTML, in attributes too."""
    return html.escape(str(value), quote=True)


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, text: bool = False) -> str:
    """A table with a caption; the first cell of each row is its heading, numbers stand right unless all of it is `text`."""
    kinds = [_kind(cell) for cell in rows[0]] if rows else [""] * len(columns)
    head = "".join(f'<th scope="col"{kind}>{esc(name)}</th>' for name, kind in zip(columns, kinds, strict=True))
    body = [f'<tr><th scope="row">{esc(first)}</th>{"".join(map(_cell, rest))}</tr>' for first, *rest in rows]
    kind = ' class="text"' if text else ""
    return (
        f'<div class="scroll" role="region" aria-label="{esc(caption)}" tabindex="0"><table{kind}>'
        f"<caption>{esc(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n"
        + "\n".join(body)
        + "\n</tbody></table></div>"
    )


def _kind(value: object) -> str:
    return "" if str(value)[:1] in "[+-–0123456789" else ' class="word"'


def _cell(value: object) -> str:
    return f"<td{_kind(value)}>{esc(value)}</td>"


def figure(name: str, caption: str) -> str:
    """The place of a plot, and what it shows in words."""
    return (
        f'<figure><div class="plot" id="{esc(name)}" role="img" aria-label="{esc(caption)}"></div>'
        f"<figcaption>{esc(caption)}</figcaption></figure>"
    )


def details(summary: str, inside: str) -> str:
    """What unfolds on a click or a key."""
    return f"<details><summary>{esc(summary)}</summary>\n{inside}\n</details>"


def frame(title: str, body: str, figures: Mapping[str, Any], library: str) -> str:
    """The whole page.

    Args:
        body: HTML.
        figures: id of its place -> traces and layout.
        library: the text of plotly.js.
    """
    # a "<" in data could close the script element
    data = json.dumps(figures, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{esc(POLICY)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{esc(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{esc(title)}</h1>
{body}
<noscript><p>The plots need JavaScript; the tables hold the same figures.</p></noscript>
<script type="application/json" id="figures">{data}</script>
<script>{library}</script>
<script>{DRAW}</script>
</body>
</html>
"""
