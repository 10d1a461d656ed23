"""What a server and a download need of the network, asked before anything is started: ports, proxies, hubs."""

import errno
import ipaddress
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from launch.machine.variables import is_enabled
from prep.errors import ConfigError, StackError
from prep.wording import in_shell

FIRST_PORT = 7860
_PORTS = 100
_CONNECT_S = 3.0
_PROXY_VARIABLES = ("all_proxy", "http_proxy", "https_proxy")
# LlamaBoard sets `no_proxy` to these, whatever the user had there.
_NEVER_PROXIED = ("127.0.0.1", "localhost", "0.0.0.0")  # noqa: S104 - compared, not bound


def choose_port(host: str, port: int | None) -> int:
    """Return the port given if it is free, else the first free one from 7860 on.

    Raises: StackError when the port is in use, or nothing can listen on that host.
    """
    if port is not None:
        if not _is_free(host, port):
            raise StackError(
                f"port {port} on {host} is in use", hint=f"--port {_find_free(host, port + 1)}, which is free"
            )
        return port
    return _find_free(host, FIRST_PORT)


def find_free_port() -> int:
    """Return a port of this machine that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def is_public(host: str) -> bool:
    """Tell whether a server that listens on a host can be reached from other machines."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return False
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(name or None, None, flags=socket.AI_PASSIVE)}
    except (OSError, UnicodeError):
        return True
    return not all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in found)


def format_address(host: str, port: int) -> str:
    """Return the address at which this machine finds a server that listens on a host: no server is at 0.0.0.0."""
    name = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not bound
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/"


def is_local_model(model: str) -> bool:
    """Tell a model's folder from a hub's id."""
    return Path(model).expanduser().is_dir()


def check_model_is_reachable(model: str, environ: Mapping[str, str]) -> None:
    """Raise ConfigError when a hub's model is neither in the cache nor can its hub be reached.

    LLaMA-Factory itself gives up after a minute and a half.
    """
    uses_modelscope = is_enabled("USE_MODELSCOPE_HUB", environ)
    if _is_cached(model, environ, uses_modelscope=uses_modelscope):
        return
    hint = (
        f"lfc prep download {in_shell(model)} gets it on a machine with network; then model_name_or_path=ITS_FOLDER"
    )
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if is_enabled(name, environ):
            raise ConfigError(f"{model} is not in the cache, and {name} is set", hint=hint)
    default = "https://www.modelscope.cn" if uses_modelscope else "https://huggingface.co"
    endpoint = environ.get("MODELSCOPE_DOMAIN" if uses_modelscope else "HF_ENDPOINT") or default
    url = urlsplit(endpoint if "//" in endpoint else f"https://{endpoint}")
    proxy = _read_proxies(environ).get(f"{url.scheme}_proxy") or _read_proxies(environ).get("all_proxy")
    place = urlsplit(proxy if "//" in proxy else f"http://{proxy}") if proxy else url
    port = place.port or {"https": 443, "http": 80}.get(place.scheme, 1080)
    try:
        socket.create_connection((place.hostname or "", port), timeout=_CONNECT_S).close()
    except OSError as error:
        raise ConfigError(
            f"{model} is not in the cache, and {place.hostname}:{port} cannot be reached: {error}", hint=hint
        ) from error


def fix_proxies(
    host: str, model: str | None, environ: Mapping[str, str], python: Path, notes: list[str]
) -> dict[str, str]:
    """Return the variables that keep proxies from breaking the WebUI's start; says so in `notes`.

    gradio asks its own page through the user's proxy unless LlamaBoard's `no_proxy` has the host, and cannot use a
    SOCKS proxy at all without socksio.
    Raises: StackError when the model has to come through that proxy.
    """
    proxies = _read_proxies(environ)
    bad = {name for name, proxy in proxies.items() if proxy.startswith("socks") and not _has_socksio(python)}
    reason = "gradio cannot use a SOCKS proxy without the package socksio"
    if not bad and host not in _NEVER_PROXIED:
        bad = set(proxies)
        reason = f"gradio would look for its own page on {host} through it"
    if not bad:
        return {}
    names = ", ".join(sorted(bad))
    if model is not None and not is_local_model(model):
        raise StackError(
            f"{names}: {reason}",
            hint=f"unset {names}, or give the model's folder"
            + (", or pip install socksio" if "socksio" in reason else ", or --host 127.0.0.1"),
        )
    notes.append(f"{names} is left out for the WebUI: {reason}")
    return {variant: "" for name in sorted(bad) for variant in (name, name.upper()) if environ.get(variant)}


def _find_free(host: str, first: int) -> int:
    for port in range(first, min(first + _PORTS, 65_536)):
        if _is_free(host, port):
            return port
    raise StackError(f"no port from {first} to {first + _PORTS - 1} is free on {host}", hint="--port NUMBER")


def _is_free(host: str, port: int) -> bool:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            if os.name != "nt":
                # As the server does it; on Windows the same option would let two servers share the port.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as error:
        raise StackError(f"{host} is not a name or address of this machine", hint="--host 127.0.0.1") from error
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise StackError(f"{host} is not an address of this machine", hint="--host 127.0.0.1") from error
        return False
    return True


def _read_proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the proxies that are set, by their lower-case variable, as Python reads them."""
    found = {name: environ.get(name) or environ.get(name.upper()) or "" for name in _PROXY_VARIABLES}
    return {name: proxy.lower() for name, proxy in found.items() if proxy}


def _has_socksio(python: Path) -> bool:
    home = python.parent.parent
    folders = (*home.glob("lib/python*/site-packages"), home / "Lib" / "site-packages", python.parent / "Lib")
    return any((folder / "socksio").is_dir() for folder in folders)


def find_cached_model(model: str, environ: Mapping[str, str]) -> Path | None:
    """Return the folder in which a hub's cache holds a model, None where none does."""
    return _find_in_modelscope(model, environ) or _find_in_huggingface(model, environ)


def _find_in_modelscope(model: str, environ: Mapping[str, str]) -> Path | None:
    root = Path(environ.get("MODELSCOPE_CACHE") or "~/.cache/modelscope/hub").expanduser()
    # Its client writes a dot in a folder's name as three underscores.
    names = dict.fromkeys((model, model.replace(".", "___")))
    folders = (folder / name for folder in (root / "models", root) for name in names)
    return next((folder for folder in folders if (folder / "config.json").is_file()), None)


def _find_in_huggingface(model: str, environ: Mapping[str, str]) -> Path | None:
    home = Path(environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    root = Path(environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    found = sorted(root.glob(f"models--{model.replace('/', '--')}/snapshots/*/config.json"))
    return found[-1].parent if found else None


def _is_cached(model: str, environ: Mapping[str, str], *, uses_modelscope: bool) -> bool:
    find = _find_in_modelscope if uses_modelscope else _find_in_huggingface
    return find(model, environ) is not None
