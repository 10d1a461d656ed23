"""What is a secret, and how it is masked: the one list for configs, variables, URLs, pages and logs."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

MASK = "***"
_SECRET_NAME = re.compile(
    r"(^|_|-)(tokens?|api_?keys?|access_?keys?|keys?|secrets?|passwords?|passwd|cookies?|credentials?|webhooks?"
    r"|webhook_url|auth|authorization)($|_|-)",
    re.IGNORECASE,
)
# Names that only look like secrets.
_PLAIN_NAME = re.compile(
    r"^(tokenizers_.*|.*_tokens$|.*token_(id|ids|length|type|limit)s?|num_.*|use_.*|add_.*|include_.*|skip_.*"
    r"|average_.*|special_tokens.*|new_special_.*|split_special_.*|tokenized_path|no_auth|.*_key_name)$",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/\s@'\"]+@")
_URL_QUERY = re.compile(
    r"(?P<name>[?&](?:access_?token|token|api_?key|key|secret|sign|signature|password)=)[^&\s'\"]+", re.IGNORECASE
)
# Shorter texts would mask ordinary words.
_LEAST_SECRET = 6


def is_secret(name: str) -> bool:
    """Tell whether the value of a YAML key, a variable or a field of a page must not be shown."""
    return bool(_SECRET_NAME.search(name)) and not _PLAIN_NAME.match(name)


def mask_urls(text: str) -> str:
    """Return text in which the user and password of every URL, and its secret query values, are masked."""
    return _URL_QUERY.sub(rf"\g<name>{MASK}", _URL_PASSWORD.sub(rf"\g<scheme>{MASK}@", text))


def mask_values(value: Any, name: str = "") -> Any:
    """Return a value, with all that is inside it, whose secrets are masked; empty ones stay as they are."""
    if name and is_secret(name) and value not in (None, "", False, True) and not isinstance(value, (dict, list)):
        return MASK
    if isinstance(value, Mapping):
        return {key: mask_values(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [mask_values(inner, name) for inner in value]
    return mask_urls(value) if isinstance(value, str) else value


def list_secrets(value: Any, name: str = "") -> Iterable[str]:
    """Yield every secret text inside a value: what must not stand in anything that is shown or passed on."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from list_secrets(inner, str(key))
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from list_secrets(inner, name)
    elif name and is_secret(name) and isinstance(value, str) and len(value) >= _LEAST_SECRET:
        yield value


def mask_text(text: str, secrets: Iterable[str]) -> str:
    """Return text without any of the given secrets, and without passwords in URLs."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return mask_urls(text)
