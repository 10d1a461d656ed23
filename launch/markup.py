"""HTML and SVG that cannot be broken by what they show: every text is escaped unless it was made here."""

import html
from collections.abc import Sequence


class Html(str):
    """Markup that is safe to put into a page as it stands."""

    __slots__ = ()


def tag(name: str, *parts: str, **attributes: object) -> Html:
    """Return one element; a part that is not Html is escaped, an attribute that is None or False is left out.

    A trailing `_` of an attribute's name goes, and other `_` become `-`: `class_="x"`, `aria_label="y"`.
    """
    spelled = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Html(f"<{name}{spelled}>{join(parts)}</{name}>")


def join(parts: Sequence[str]) -> Html:
    """Return parts one after the other, each escaped unless it is Html."""
    return Html("".join(part if isinstance(part, Html) else html.escape(part) for part in parts))
