"""Reading a page of HTML."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """Text and loaded addresses of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.scripts: list[tuple[str | None, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "script":
            self.scripts.append((dict(attributes).get("type"), ""))
        loading = {"src", "srcset", "href", "data"}
        self.addresses += [v or "" for k, v in attributes if k in loading]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] == ["script"] and self.cdata_elem == "script":
            kind, code = self.scripts[-1]
            self.scripts[-1] = (kind, code + data)
        else:
            self.text += data
