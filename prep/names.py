"""What may be the name of a run, a recipe, a label or a dataset: one judge for all of them."""

import re
import unicodedata

from prep.errors import ConfigError

# File systems take 255 bytes; what we add to a name (`.manifest.json`, `_train`, `.old-12`) needs the rest.
MAX_NAME_BYTES = 180
_SHOWN = 80
_HINT = "letters, digits, '.', '_' and '-', beginning with a letter or digit"
_SEPARATORS = re.compile(r'[/\\:*?"<>|]')
# Windows keeps them free of their extension, and takes superscript digits for digits.
_RESERVED = re.compile(r"^(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)", re.IGNORECASE)


def check_name(name: object, what: str) -> str:
    """Return a name that is one part of a path on every system, and never an option.

    `what` stands before the message: "run name", "recipe label".
    Raises: ConfigError that says what is wrong with it.
    """
    return _refuse_fault(name, what, find_name_fault(name))


def check_dataset_name(name: object, what: str) -> str:
    """Return a name as `check_name` does that can also stand in a list: no comma, equals sign, space or bracket.

    LLaMA-Factory reads `dataset: a,b` as two datasets, `lfc prep mix` reads `a=FILE`.
    """
    fault = find_name_fault(name)
    if fault is None:
        strange = next((character for character in str(name) if not _is_plain(character)), None)
        fault = f"holds {strange!r}" if strange else None
    return _refuse_fault(name, what, fault)


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
    if not name.isprintable():
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
    name = "".join(character if _is_plain(character) or character == "=" else "_" for character in text)
    name = name.lstrip("._-= ")
    # One byte of room for the letter that a reserved name gets.
    name = name.encode()[: MAX_NAME_BYTES - 1].decode(errors="ignore")
    name = name.rstrip("._- ") or "x"
    return f"x{name}" if find_name_fault(name) else name


def fold_name(name: str) -> str:
    """Return what two names share that are one on a file system which takes `A` for `a`, or composes accents."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _is_plain(character: str) -> bool:
    """Whether a character is a letter of any script, with its marks, a digit or one of `. _ + -`."""
    return (unicodedata.category(character)[0] in "LNM" and character.isprintable()) or character in "._+-"


def _refuse_fault(name: object, what: str, fault: str | None) -> str:
    if fault is None:
        return str(name)
    # Other things than texts are told by their type: some cannot be written out at all.
    shown = repr(name[:_SHOWN]) if isinstance(name, str) else f"of type {type(name).__name__}"
    raise ConfigError(f"{what} {shown} {fault}", hint=_HINT)
