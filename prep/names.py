"""What may be the name of a run, a recipe, a label or a dataset: one judge for all of them."""

import re
import unicodedata

from prep.errors import ConfigError

# File systems take 255 bytes; what we add to a name (`.manifest.json`, `_train`, `.old-12`) needs the rest.
MAX_NAME_BYTES = 180
_SEPARATORS = re.compile(r'[/\\:*?"<>|]')
_RESERVED = re.compile(r"^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)


def check_name(name: object, what: str) -> str:
    """Return a name that is one part of a path on every system, and never an option.

    `what` stands before the message: "run name", "recipe label".
    Raises: ConfigError that says what is wrong with it.
    """
    fault = find_name_fault(name)
    if fault:
        raise ConfigError(
            f"{what} {str(name)[:80]!r} {fault}",
            hint="letters, digits, '.', '_' and '-', beginning with a letter or digit",
        )
    return str(name)


def find_name_fault(name: object) -> str | None:
    """Return why something cannot be a name, None when it can."""
    if not isinstance(name, str):
        return "is not a text"
    if not name.strip():
        return "is empty"
    if name.startswith(("-", ".", "~")):
        return f"begins with '{name[0]}'"
    if _SEPARATORS.search(name):
        return 'holds one of / \\ : * ? " < > |'
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in name):
        return "holds a control character"
    if name != name.strip() or name.endswith("."):
        return "begins or ends with a space, or ends with a dot"
    if _RESERVED.match(name):
        return "is reserved by Windows"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"is longer than {MAX_NAME_BYTES} bytes"
    return None


def make_name(text: str) -> str:
    """Return the name nearest to a text, for what people did not name themselves: letters of any script stay."""
    kept = "".join(character if character.isalnum() or character in "._+=-" else "_" for character in text)
    name = kept.strip("._- ") or "x"
    while len(name.encode()) > MAX_NAME_BYTES:
        name = name[:-1]
    return f"x{name}" if find_name_fault(name) else name
