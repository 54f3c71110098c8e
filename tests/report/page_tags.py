"""What the pages' tests read out of HTML: tags with attributes, and the text of table cells."""

from __future__ import annotations

from html.parser import HTMLParser


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def tags(text: str) -> list[tuple[str, dict[str, str | None]]]:
    """Every start tag of a page, in order."""
    parser = _Tags()
    parser.feed(text)
    return parser.tags


def assert_fetches_nothing(text: str) -> None:
    """Neither a tag nor a style of the page names anything outside of it."""
    for tag, attributes in tags(text):
        assert tag not in ("link", "iframe", "object", "embed", "base"), tag
        for name in ("src", "href", "xlink:href", "data", "srcset", "action", "poster", "background"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    for word in ("url(", "@import", "fetch(", "http://", "https://", "XMLHttpRequest", "WebSocket", "sendBeacon", "import("):
        assert word not in text, word


def assert_one_script(text: str) -> None:
    """No name from the network became a tag or an attribute that runs."""
    found = tags(text)
    assert sum(tag == "script" for tag, _ in found) == 1
    assert not [name for _, attributes in found for name in attributes if name.startswith("on")]
