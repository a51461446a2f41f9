"""The HTML pages that reports are written as: one file each, no script, nothing fetched, light and dark.

Prepared folders and evaluations share this style. Text is escaped by whoever makes the cells; titles here.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence

__all__ = ["html_page", "html_table"]

STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --quiet: #60646c; --line: #d9d9e0; --back: #fcfcfd; --card: #f0f0f3;
  --bar: #3e63dd; --bad: #ce2c31; }
@media (prefers-color-scheme: dark) { :root { --ink: #edeef0; --quiet: #b0b4ba; --line: #363a3f; --back: #111113;
  --card: #212225; --bar: #849dff; --bad: #ff9592; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); max-width: 1100px;
  margin: 0 auto; padding: 24px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 36px 0 10px; }
p { margin: 4px 0; } small, .quiet, figure p { color: var(--quiet); }
.cards { display: flex; flex-wrap: wrap; gap: 10px; margin-top: 16px; }
.cards div { background: var(--card); border-radius: 8px; padding: 10px 16px; min-width: 90px; }
.cards b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; } .cards .bad b { color: var(--bad); }
table { border-collapse: collapse; width: 100%; } th { text-align: left; color: var(--quiet); font-weight: 500; }
th, td { padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
th.number, td.number { text-align: right; white-space: nowrap; width: 1%; font-variant-numeric: tabular-nums; }
td.name, th.name { white-space: nowrap; } td img { height: 48px; border-radius: 4px; display: block; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 20px; }
figure { margin: 0; } figcaption { font-weight: 600; } svg { width: 100%; } svg rect { fill: var(--bar); }
svg text { font: 11px system-ui, sans-serif; fill: var(--quiet); } svg line { stroke: var(--quiet); }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); gap: 8px; }
.sheet img { width: 100%; border-radius: 4px; display: block; }
.sheet figcaption { font: 11px/1.3 system-ui, sans-serif; overflow-wrap: anywhere; color: var(--quiet); }
"""


def html_page(title: str, body: Iterable[str], *, style: str = "", sources: str = "") -> str:
    """A whole page.

    Args:
        title: Plain text, shown as the heading, too.
        body: Pieces of HTML, joined by newlines.
        style: CSS after the common one.
        sources: Content security policy beyond pictures inside the page, as `media-src file:`.
    """
    heading = html.escape(title)
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'{'; ' if sources else ''}{sources}"
    head = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        f"<title>{heading}</title><style>{STYLE}{style}</style></head><body><h1>{heading}</h1>",
    )
    return "\n".join([*head, *body, "</body></html>\n"])


def html_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table; columns are given as `title:class`, cells are HTML."""
    heads = [column.partition(":") for column in columns]
    yield "<table><tr>" + "".join(f'<th class="{kind}">{title}</th>' for title, _, kind in heads) + "</tr>"
    for row in rows:
        cells = zip(heads, row, strict=True)
        yield "<tr>" + "".join(f'<td class="{kind}">{cell}</td>' for (_, _, kind), cell in cells) + "</tr>"
    yield "</table>"
