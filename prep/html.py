"""HTML and SVG that cannot be broken by what they show: every text is escaped unless it was made here.

Control characters are spelled out as on a terminal: a page too can be turned round by what it shows.
"""

import html
from collections.abc import Sequence

from prep import __version__
from prep.terminal import neutralise

# Nothing is loaded and nothing runs, whatever a page's rows say.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
# Letters that are read from right to left move nothing outside their own element.
_ISOLATE = "th,td,pre,code,b,span,summary,li,h1,h2,h3,p,div,text{unicode-bidi:isolate}"


class Html(str):
    """Markup that is safe to put into a page as it stands."""

    __slots__ = ()


def tag(name: str, *parts: str, **attributes: object) -> Html:
    """Return one element; a part that is not Html is escaped, an attribute that is None or False is left out.

    A trailing `_` of an attribute's name goes, and other `_` become `-`: `class_="x"`, `aria_label="y"`.
    """
    spelled = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Html(f"<{name}{spelled}>{join(parts)}</{name}>")


def join(parts: Sequence[str]) -> Html:
    """Return parts one after the other, each escaped unless it is Html."""
    return Html("".join(part if isinstance(part, Html) else _escape(part) for part in parts))


def build_page(title: str, style: str, *parts: str) -> str:
    """Return a whole page that loads nothing and runs nothing; `style` is its CSS, `parts` stand in its body."""
    head = join(
        [
            Html('<meta charset="utf-8">'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
            Html('<meta name="referrer" content="no-referrer">'),
            # An icon of nothing: browsers ask for one otherwise.
            Html('<link rel="icon" href="data:,">'),
            tag("title", title),
            tag("style", Html(_ISOLATE + style)),
        ]
    )
    footer = tag("footer", f"Written by lfc {__version__} (llamafactory-companion).")
    body = tag("main", *parts, footer)
    return f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>{body}</body>\n</html>\n'


def _escape(text: str) -> str:
    return html.escape(neutralise(text))
