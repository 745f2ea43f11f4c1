"""A page of HTML, read."""

import re
from html.parser import HTMLParser

ADDRESSES = ("src", "srcset", "href", "action", "poster")
VOID = {"meta", "link", "img", "source", "br", "input"}


class Page(HTMLParser):
    """Text, attributes and headings of a page; fails on tags that do not close where they should."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(html)
        assert self.open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.words)).replace(" %", "%")

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]
