"""Reads a page of a report: is every tag closed, which tags and addresses are there."""

from __future__ import annotations

import html.parser

VOID = ("meta", "img")


class Page(html.parser.HTMLParser):
    """Tags that stay open, all tags, addresses, names of places, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.places: list[str] = []
        self.numbers: list[float] = []  # of `data` elements
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "poster")]
        self.places += [value or "" for name, value in attrs if name == "id"]
        self.numbers += [float(value or "") for name, value in attrs if (tag, name) == ("data", "value")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data
