"""What is a secret, and how it is masked: the one list for configs, variables, URLs, pages and logs."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prep.patterns import LazyPattern

MASK = "***"
_CAMEL = LazyPattern(r"(?<=[a-z0-9])(?=[A-Z])")
_WORD = LazyPattern(r"[a-z0-9]+|[^\x00-\x7f]+")
# What a name may end in, after what it holds: `webhook_url`, `api_key_2`, `token_value`.
_ENDINGS = {"url", "uri", "value", "text", "string", "str", "header"}
_ALWAYS = {
    *("secret", "secrets", "password", "passwords", "passwd", "passphrase", "passcode", "cookie", "cookies"),
    *("credential", "credentials", "webhook", "webhooks", "authorization", "auth", "apikey", "accesskey", "jwt"),
    "bearer",
}
# Written as one word: `accesstoken`, `访问令牌`.
_GLUED = (
    *("secret", "password", "apikey", "accesskey", "secretkey", "accesstoken", "authtoken", "hubtoken", "hftoken"),
    *("密码", "口令", "令牌", "密钥", "密鑰", "密碼"),
)
# A key, a token or a pass is a secret or not by the word before it: those of texts and tables are none.
_PLAIN_BEFORE = {
    "key": {
        *("primary", "foreign", "sort", "label", "text", "column", "dict", "json", "yaml", "config", "image"),
        *("video", "audio", "group", "cache", "question", "prompt", "response", "answer", "query", "value"),
        *("metric", "row", "dataset", "data", "state", "index", "map", "input", "output", "field", "past", "name"),
    },
    "token": {
        *("pad", "eos", "bos", "unk", "cls", "sep", "mask", "image", "video", "audio", "vision", "think"),
        *(
            "thought",
            "special",
            "stop",
            "per",
            "first",
            "last",
            "next",
            "new",
            "max",
            "min",
            "start",
            "end",
            "by",
            "text",
        ),
        *("decoder", "prefix", "suffix", "generated", "each", "one", "current", "previous", "extra", "bpe"),
    },
    "pass": {"forward", "backward", "single", "first", "second", "by", "multi", "one", "two", "per"},
}
_SECRET_BEFORE = {"api", "access", "auth", "secret", "private", "hub", "refresh", "session", "bearer", "signing"}
_SHAPES = LazyPattern(
    r"(?<![A-Za-z0-9_-])(?:hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{30,}"
    r"|github_pat_\w{30,}|glpat-[\w-]{16,}|AKIA[0-9A-Z]{16}|xox[abeprs]-[\w-]{10,}|AIza[\w-]{30,}"
    r"|ms-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{20,}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,})"
)
_BEARER = LazyPattern(
    r"(?P<before>(?i:\bauthorization[\"']?\s{0,4}[:=]\s{0,4}[\"']?(?:bearer|basic|token)\s)|\bBearer\s)"
    r"(?P<secret>[A-Za-z0-9._~+/=-]{6,})"
)
_PRIVATE_KEY = LazyPattern(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.)*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)")
_URL_USER = LazyPattern(r"(?P<before>\b[A-Za-z][A-Za-z0-9+.-]{0,30}://)(?P<secret>[^/\s'\"<>?#]+)@")
_URL_QUERY = LazyPattern(r"(?P<before>[?&#;](?P<name>[\w.-]{1,60})=)(?P<secret>[^&\s'\"#;<>]+)")
_URL_HOOK = LazyPattern(
    r"(?P<before>https?://(?:hooks\.slack\.com/services|[^\s'\"<>?#]{0,300}/(?:web)?hooks?)/)(?P<secret>[^\s'\"<>?#]+)"
)
_ASSIGNED = LazyPattern(r"(?<![\w.-])(?P<name>[\w.-]{3,60})[\"']?\s{0,4}[:=]\s{0,4}")
_ASSIGNED_VALUE = LazyPattern(r"\"[^\"\n]+\"|'[^'\n]+'|[^\s\"',;&}\])]+")
_BRACKET = LazyPattern(r"[{}\[\]]")
_MOST_DEPTH = 50
_NO_SECRET = {"true", "false", "null", "none", "~", MASK}
_QUERY_NAMES = {"key", "sig", "sign", "signature", "pwd", "pass", "code"}
# In running text these words alone stand for other things: "unexpected token: }".
_COMMON_WORDS = {"token", "auth", "authorization", "cookie", "cookies", "secret", "secrets", "key", "bearer"}
# Shorter texts would mask ordinary words.
_LEAST_SECRET = 6


def is_secret(name: str) -> bool:
    """Tell whether the value of a YAML key, a variable or a field of a page must not be shown."""
    words = [word.rstrip("0123456789") or word for word in _WORD.findall(_CAMEL.sub("_", name).lower())]
    while len(words) > 1 and (words[-1] in _ENDINGS or words[-1].isdigit()):
        words.pop()
    if not words:
        return False
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last in ("tokens", "keys"):
        return before in _SECRET_BEFORE
    if last == "id":
        return words[-3:-1] == ["access", "key"]
    if last in _PLAIN_BEFORE:
        return before not in _PLAIN_BEFORE[last] if before else last == "token"
    return last in _ALWAYS or last.endswith(_GLUED) or (last == "pwd" and before not in ("", "old"))


def mask_urls(text: str) -> str:
    """Return text in which the user and password of every URL, and its secret query values, are masked."""
    if "://" not in text:
        return text
    text = _URL_USER.sub(rf"\g<before>{MASK}@", text)
    if "hook" in text:
        text = _URL_HOOK.sub(rf"\g<before>{MASK}", text)
    masked: str = _URL_QUERY.sub(
        lambda match: _mask_match(match) if _is_query_secret(match["name"]) else match[0], text
    )
    return masked


def mask_values(value: Any, name: str = "") -> Any:
    """Return a value, with all that is inside it, whose secrets are masked; true, false and empty ones stay."""
    return _mask(value, is_known=bool(name) and is_secret(name))


def _mask(value: Any, *, is_known: bool) -> Any:
    if isinstance(value, Mapping):
        return {key: _mask(inner, is_known=is_known or is_secret(str(key))) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mask(inner, is_known=is_known) for inner in value]
    if is_known:
        return value if value in (None, "") or isinstance(value, bool) else MASK
    return _mask_string(value) if isinstance(value, str) else value


def _mask_string(text: str) -> str:
    """Return a value that is a text: JSON inside it is masked as what it says."""
    inner = _read_json(text)
    if inner is not None:
        masked = _mask(inner, is_known=False)
        return text if masked == inner else json.dumps(masked, ensure_ascii=False)
    return mask_text(text)


def holds_secret(value: Any, name: str = "") -> bool:
    """Tell whether a value is a secret, or holds one somewhere inside."""
    return any(_list_all(value, is_known=bool(name) and is_secret(name)))


def list_secrets(value: Any, name: str = "") -> Iterator[str]:
    """Yield every secret text inside a value: what must not stand in anything that is shown or passed on.

    Texts of fewer than six characters are left out: masking them would mask ordinary words too.
    """
    from urllib.parse import unquote

    for text in _list_all(value, is_known=bool(name) and is_secret(name)):
        for form in {text, text.strip(), unquote(text)}:
            if len(form) >= _LEAST_SECRET:
                yield form


def _list_all(value: Any, *, is_known: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _list_all(inner, is_known=is_known or is_secret(str(key)))
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _list_all(inner, is_known=is_known)
    elif is_known:
        if value is not None and not isinstance(value, bool):
            yield str(value)
    elif isinstance(value, str):
        inner = _read_json(value)
        if inner is not None:
            yield from _list_all(inner, is_known=False)
        else:
            yield from _find_in_text(value)


def mask_known(text: str, secrets: Iterable[str]) -> str:
    """Return text without any of the given secrets."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def mask_text(text: str, secrets: Iterable[str] = ()) -> str:
    """Return text without any of the given secrets, and without what is a secret by its own look.

    Those are passwords and tokens in URLs, tokens of well-known hubs, and what is written as `api_key: …`.
    """
    text = mask_known(text, secrets)
    text = mask_urls(_PRIVATE_KEY.sub(MASK, text))
    text = _BEARER.sub(rf"\g<before>{MASK}", _SHAPES.sub(MASK, text))
    parts, end = [], 0
    for value in _find_assigned(text):
        parts += [text[end : value.start()], MASK]
        end = value.end()
    return "".join([*parts, text[end:]])


def _find_in_text(text: str) -> Iterator[str]:
    for pattern in (_PRIVATE_KEY, _SHAPES):
        yield from (match[0] for match in pattern.finditer(text))
    for pattern in (_URL_USER, _URL_HOOK, _BEARER):
        yield from (match["secret"] for match in pattern.finditer(text))
    yield from (match["secret"].partition(":")[2] for match in _URL_USER.finditer(text))
    yield from (match["secret"] for match in _URL_QUERY.finditer(text) if _is_query_secret(match["name"]))
    yield from (match[0].strip("'\"") for match in _find_assigned(text))


def _mask_match(match: re.Match[str]) -> str:
    return f"{match['before']}{MASK}"


def _is_query_secret(name: str) -> bool:
    return is_secret(name) or name.lower() in _QUERY_NAMES


def _find_assigned(text: str) -> Iterator[re.Match[str]]:
    """Yield the values of `name: value` and `name=value` in a text whose names are those of secrets."""
    for match in _ASSIGNED.finditer(text):
        if match["name"].lower().strip("._-") in _COMMON_WORDS or not is_secret(match["name"]):
            continue
        value = _ASSIGNED_VALUE.match(text, match.end())
        if value and value[0].strip("'\"").lower() not in _NO_SECRET:
            yield value


def _read_json(text: str) -> Any:
    """Return the object or list that a text holds as JSON, None when it holds none."""
    if text.lstrip()[:1] not in ("{", "[") or not text.strip().endswith(("}", "]")) or _is_deep(text):
        return None
    try:
        inner = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return inner if isinstance(inner, (dict, list)) else None


def _is_deep(text: str) -> bool:
    """Whether brackets are nested deeper than any setting is; it is then looked through as a text."""
    depth = 0
    for match in _BRACKET.finditer(text):
        depth += 1 if match[0] in "{[" else -1
        if depth > _MOST_DEPTH:
            return True
    return False
