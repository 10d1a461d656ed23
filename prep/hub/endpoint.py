"""Which hub is asked, and with which token: a token goes only to the hub that it was named for."""

import ipaddress
import os
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from prep.errors import DownloadError

PUBLIC_HUBS = (
    "https://modelscope.cn",
    "https://www.modelscope.cn",
    "https://modelscope.ai",
    "https://www.modelscope.ai",
)
_ADDRESS = re.compile(
    r"(?P<origin>(?P<scheme>https?)://(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?)"
    r"(?P<path>(?:/[A-Za-z0-9._~-]+)*)/?",
    re.IGNORECASE,
)
_DEFAULT_PORTS = {"http": "80", "https": "443"}
# What may stand in a header and in a cookie as it is.
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'()*+./:<=>?@^_`{|}~\[\]-]+")
_MAX_TOKEN = 4096


class Endpoint(NamedTuple):
    """A hub's address. `origin` is scheme, host and port, as they stand at the beginning of a request's URL."""

    address: str
    origin: str

    @property
    def is_public(self) -> bool:
        """Whether it is ModelScope itself, for which MODELSCOPE_API_TOKEN and the stored login are."""
        return self.origin in PUBLIC_HUBS

    @property
    def keeps_secrets(self) -> bool:
        """Whether nobody on the way can read what is sent: https, or this machine itself."""
        parts = urlsplit(self.origin)
        if parts.scheme == "https" or parts.hostname == "localhost":
            return True
        try:
            return ipaddress.ip_address(parts.hostname or "").is_loopback
        except ValueError:
            return False


def read_endpoint(given: str | None) -> Endpoint:
    """Return the hub to ask: the given one, MODELSCOPE_ENDPOINT's, MODELSCOPE_DOMAIN's, or the public one.

    Raises: DownloadError when it is not a plain address; it is not repeated, because it may hold a password.
    """
    named = given or os.environ.get("MODELSCOPE_ENDPOINT") or os.environ.get("MODELSCOPE_DOMAIN") or PUBLIC_HUBS[0]
    address = named.strip()
    if "://" not in address:
        address = f"https://{address}"
    if any(mark in address for mark in "@?#"):
        raise DownloadError(
            "the endpoint holds a name, a password or a query, and is shown and recorded",
            hint="give the plain address, and a token with --token-env",
        )
    match = _ADDRESS.fullmatch(address)
    if not match or int(match["port"] or 1) not in range(1, 65536):
        raise DownloadError(
            "the endpoint is not an address such as https://hub.example.com or http://127.0.0.1:8080",
            hint="check --endpoint and MODELSCOPE_ENDPOINT",
        )
    scheme, host, port = match["scheme"].lower(), match["host"].lower(), match["port"]
    origin = f"{scheme}://{host}" + (f":{port}" if port and port != _DEFAULT_PORTS[scheme] else "")
    return Endpoint(origin + match["path"], origin)


def read_token(variable: str | None) -> str | None:
    """Return the token that an environment variable holds; None without a variable.

    Raises: DownloadError when the variable is not set, empty, or holds no token; its value is never repeated.
    """
    if variable is None:
        return None
    token = os.environ.get(variable, "")
    if not token.strip():
        raise DownloadError(
            f"the environment variable {variable} holds no token",
            hint=f"put the token into {variable}, and give --token-env the variable's name, never the token",
        )
    return check_token(token, f"the environment variable {variable}")


def check_token(token: str, where: str) -> str:
    """Return a token that can be sent as it is; raises DownloadError, without the token, when it cannot."""
    if len(token) > _MAX_TOKEN or not _TOKEN.fullmatch(token):
        raise DownloadError(
            f"{where} holds something that is no token: a token is one word of ASCII letters, digits and signs",
            hint="look for a line end, a space or a quote in it, and copy the token again",
        )
    return token


def choose_token(endpoint: Endpoint, named: str | None, stored: str | None) -> str | None:
    """Return the token for a hub: the one named for it; of ModelScope itself also the usual ones.

    `stored` is the client's own login, made for ModelScope.
    Raises: DownloadError when the token could be read on the way.
    """
    token = named
    if token is None and endpoint.is_public:
        usual = os.environ.get("MODELSCOPE_API_TOKEN")
        token = check_token(usual, "MODELSCOPE_API_TOKEN") if usual else stored
    if token and not endpoint.keeps_secrets:
        raise DownloadError(
            f"{endpoint.address} is plain http: whoever is on the way could read the token",
            hint="an https:// address; or, for what is public, without --token-env",
        )
    return token
