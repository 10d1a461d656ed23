"""Which hub is asked, and with which token: a token goes only to the hub that it was named for."""

import ipaddress
import os
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from prep.errors import DownloadError

# The addresses of each hub itself, the usual one first.
PUBLIC_HUBS = {
    "modelscope": (
        "https://modelscope.cn",
        "https://www.modelscope.cn",
        "https://modelscope.ai",
        "https://www.modelscope.ai",
    ),
    "huggingface": ("https://huggingface.co",),
}
_ADDRESS = re.compile(
    r"(?P<origin>(?P<scheme>https?)://(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?)"
    r"(?P<path>(?:/[A-Za-z0-9._~-]+)*)/?",
    re.IGNORECASE,
)
_DEFAULT_PORTS = {"http": "80", "https": "443"}
# What may stand in a header and in a cookie as it is.
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'()*+./:<=>?@^_`{|}~\[\]-]+")
_MAX_TOKEN = 4096


class Site(NamedTuple):
    """A kind of hub: how its names begin here, and what its own client reads from the environment.

    Shape: `key` is the name in manifests; the first of `endpoint_variables` is the one that messages name.
    """

    key: str
    prefix: str
    name: str
    default_revision: str
    endpoint_variables: tuple[str, ...]
    token_variables: tuple[str, ...]
    packages: tuple[str, ...]

    @property
    def hint(self) -> str:
        """What to look at when another server than such a hub answers."""
        return f"check --endpoint or {self.endpoint_variables[0]}: is a {self.name} hub there?"


MODELSCOPE = Site(
    key="modelscope",
    prefix="ms",
    name="ModelScope",
    default_revision="master",
    endpoint_variables=("MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN"),
    token_variables=("MODELSCOPE_API_TOKEN",),
    packages=("modelscope-hub", "modelscope"),
)
HUGGINGFACE = Site(
    key="huggingface",
    prefix="hf",
    name="Hugging Face",
    default_revision="main",
    endpoint_variables=("HF_ENDPOINT",),
    token_variables=("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"),
    packages=("huggingface-hub",),
)
SITES = {site.key: site for site in (MODELSCOPE, HUGGINGFACE)}


class Endpoint(NamedTuple):
    """A hub's address. `origin` is scheme, host and port, as they stand at the beginning of a request's URL."""

    address: str
    origin: str
    site: Site = MODELSCOPE

    @property
    def is_public(self) -> bool:
        """Whether it is the public hub itself, for which the usual variable and the stored login are."""
        return self.origin in PUBLIC_HUBS[self.site.key]

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


def read_endpoint(given: str | None, site: Site = MODELSCOPE) -> Endpoint:
    """Return the hub to ask: the given one, that of the environment (MODELSCOPE_ENDPOINT, …), or the public one.

    Raises: DownloadError when it is not a plain address; it is not repeated, because it may hold a password.
    """
    set_ones = filter(None, map(os.environ.get, site.endpoint_variables))
    named = given or next(set_ones, PUBLIC_HUBS[site.key][0])
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
            hint=f"check --endpoint and {site.endpoint_variables[0]}",
        )
    scheme, host, port = match["scheme"].lower(), match["host"].lower(), match["port"]
    origin = f"{scheme}://{host}" + (f":{port}" if port and port != _DEFAULT_PORTS[scheme] else "")
    return Endpoint(origin + match["path"], origin, site)


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
    """Return the token for a hub: the one named for it; of the public hub itself also the usual ones.

    `stored` is the client's own login, made for the public hub.
    Raises: DownloadError when the token could be read on the way.
    """
    token = named
    if token is None and endpoint.is_public:
        name = next(filter(os.environ.get, endpoint.site.token_variables), None)
        token = check_token(os.environ[name], name) if name else stored
    if token and not endpoint.keeps_secrets:
        raise DownloadError(
            f"{endpoint.address} is plain http: whoever is on the way could read the token",
            hint="an https:// address; or, for what is public, without --token-env",
        )
    return token
