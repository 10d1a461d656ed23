"""What the errors of the hubs' clients mean, each in one line with the next step."""

import errno
from collections.abc import Iterable, Iterator, Mapping

from prep.errors import DownloadError, UnreachableHubError
from prep.hub.interrupts import RESUME_HINT
from prep.storage.os_errors import describe_os_error

NAME_HINT = "check OWNER/NAME, and --model for a model; a private one needs --token-env"
_NETWORK_HINT = "check the network and --endpoint, then run the same command again: what has arrived is kept"
_DISK_HINT = "free some disk space or choose another --to; what has arrived is kept"
_ACCESS_HINT = "choose a --to that you may write to; what has arrived is kept"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)

# What each of the client's errors means, and what to do. A test holds that none is missing.
CLIENT_ERRORS: dict[str, tuple[str, str]] = {
    "HubError": ("the ModelScope client failed", RESUME_HINT),
    "APIError": ("the hub refused the request", RESUME_HINT),
    "AuthenticationError": (
        "the hub wants a valid token (401)",
        "put one into an environment variable and name it: --token-env NAME",
    ),
    "PermissionDeniedError": (
        "this account may not read it (403)",
        "ask its owner for access, or use another token",
    ),
    "NotExistError": ("not found on the hub (404)", NAME_HINT),
    "InvalidParameter": ("the hub finds the request invalid (400)", "check OWNER/NAME and --revision"),
    "AlreadyExistsError": ("the hub answers a download with 'already exists'", RESUME_HINT),
    "RateLimitError": ("too many requests (429)", "wait some minutes, then run again with a smaller --jobs"),
    "QuotaExceededError": (
        "the account's quota is used up",
        "free some of the quota, or use another account's token",
    ),
    "ServerError": ("the hub failed (5xx), also when asked again", f"wait some minutes, then {RESUME_HINT}"),
    "NetworkError": ("the hub cannot be reached", _NETWORK_HINT),
    "RequestTimeoutError": ("the hub did not answer in time", _NETWORK_HINT),
    "StorageError": ("the hub's storage failed", RESUME_HINT),
    "FileDownloadError": ("some files failed", RESUME_HINT),
    "FileIntegrityError": (
        "arrived with another sha256 than listed, also when fetched again",
        "run again later; if it comes again, report it to the repository's owner",
    ),
    "FileSizeMismatchError": (
        "arrived with another size than listed, also when fetched again",
        "run again later; if it comes again, report it to the repository's owner",
    ),
    "CacheError": (
        "the client's own folder cannot be used",
        "check that MODELSCOPE_HOME or ~/.modelscope is writable",
    ),
    "CacheNotFound": ("the client's cache is missing", RESUME_HINT),
    "CorruptedCacheException": ("the client's cache is broken", RESUME_HINT),
    "NotSupportedError": ("the client cannot download this kind of repository", NAME_HINT),
}

# What lies behind the client's "network error", by the names of the classes that say it.
_NETWORK_CAUSES: dict[str, tuple[str, str]] = {
    "ProxyError": (
        "the proxy cannot be reached, or refuses",
        "check HTTPS_PROXY and HTTP_PROXY; NO_PROXY=HOST goes around it",
    ),
    "SSLError": (
        "the hub's certificate cannot be trusted (TLS)",
        "check --endpoint and this machine's clock; REQUESTS_CA_BUNDLE=FILE names an authority of your own",
    ),
    "SSLCertVerificationError": (
        "the hub's certificate cannot be trusted (TLS)",
        "check --endpoint and this machine's clock; REQUESTS_CA_BUNDLE=FILE names an authority of your own",
    ),
    "NameResolutionError": (
        "the hub's name is unknown (DNS)",
        "check the network and the host in --endpoint or MODELSCOPE_ENDPOINT",
    ),
    "gaierror": (
        "the hub's name is unknown (DNS)",
        "check the network and the host in --endpoint or MODELSCOPE_ENDPOINT",
    ),
    "TooManyRedirects": ("the hub redirects without end", "check --endpoint, or run again later"),
    "InvalidSchema": ("the hub redirects to what is no web address", "check --endpoint, or run again later"),
    "UnsupportedProtocol": ("the hub redirects to what is no web address", "check --endpoint, or run again later"),
    "InvalidURL": ("the hub redirects to what is no web address", "check --endpoint, or run again later"),
}


# These say that a hub could not be asked, and nothing about what it has.
_UNREACHED = {
    *(CLIENT_ERRORS[name][0] for name in ("NetworkError", "RequestTimeoutError")),
    *(_NETWORK_CAUSES[name][0] for name in ("ProxyError", "NameResolutionError", "gaierror")),
}


def make_download_error(what: str, message: str, hint: str) -> DownloadError:
    """Return the error of ours for `what` a client's error means, with its whole message and next step."""
    kind = UnreachableHubError if what in _UNREACHED else DownloadError
    return kind(message, hint=hint)


def describe_client_error(error: BaseException) -> tuple[str, str]:
    """Return what an error of the client means in one line, and the next step.

    Of a download in which files failed, the first failure speaks for all.
    """
    failed: dict[str, BaseException] = getattr(error, "failed_files", {})
    if failed:
        path, first = next(iter(failed.items()))
        what, hint = describe_client_error(first)
        others = f" ({len(failed) - 1:,} more files failed)" if len(failed) > 1 else ""
        return f"{path!r}: {what}{others}", hint
    causes = list(_walk_causes(error))
    known = _describe_disk_error(causes) or _describe_network_cause(causes)
    if known:
        return known
    for kind in type(error).__mro__:
        if kind.__name__ in CLIENT_ERRORS and kind.__module__.startswith("modelscope_hub"):
            return CLIENT_ERRORS[kind.__name__]
    return _describe_unknown(error)


def describe_huggingface_error(error: BaseException, page: str, *, by_proxy: bool) -> tuple[str, str]:
    """Return what an error of Hugging Face's client means in one line, and the next step.

    `page` is the repository's, where a licence is accepted; `by_proxy` tells whether the hub is asked through one.
    Of a download in which files failed, the first failure speaks for all.
    """
    failed: dict[str, BaseException] = getattr(error, "failed_files", {})
    if failed:
        path, first = next(iter(failed.items()))
        what, hint = describe_huggingface_error(first, page, by_proxy=by_proxy)
        others = f" ({len(failed) - 1:,} more files failed)" if len(failed) > 1 else ""
        return f"{path!r}: {what}{others}", hint
    response = getattr(error, "response", None)
    if response is not None:
        return _describe_refusal(type(error).__name__, response.status_code, response.headers, page)
    if type(error).__name__ == "DamagedFileError":
        return CLIENT_ERRORS["FileSizeMismatchError" if str(error) == "size" else "FileIntegrityError"]
    causes = list(_walk_causes(error))
    known = _describe_disk_error(causes) or _describe_network_cause(causes)
    if known:
        what, hint = known
        # What the other client's library reads.
        hint = hint.replace("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE").replace("MODELSCOPE_ENDPOINT", "HF_ENDPOINT")
        return what, hint
    for kind in type(error).__mro__:
        if kind.__name__ in _HTTPX_ERRORS:
            of_proxy = by_proxy and kind.__name__ == "ConnectError"
            return _NETWORK_CAUSES["ProxyError"] if of_proxy else CLIENT_ERRORS[_HTTPX_ERRORS[kind.__name__]]
    return _describe_unknown(error)


# The transport errors of Hugging Face's client, and those of ModelScope's that mean the same.
_HTTPX_ERRORS = {
    "TimeoutException": "RequestTimeoutError",
    "ConnectError": "NetworkError",
    "NetworkError": "NetworkError",
    "RemoteProtocolError": "NetworkError",
}
_STATUS_ERRORS = {
    400: "InvalidParameter",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotExistError",
    429: "RateLimitError",
}


def _describe_refusal(name: str, status: int, headers: Mapping[str, str], page: str) -> tuple[str, str]:
    """Return what an answer of Hugging Face's with an error status means."""
    if name == "GatedRepoError":
        return (
            f"the repository is gated: its owner gives it to those who accept its terms ({status})",
            f"accept them on {page}, then give a token of that account: --token-env NAME",
        )
    if name == "DisabledRepoError":
        return f"the hub has disabled the repository ({status})", f"see {page} for the reason"
    wrong_token = headers.get("X-Error-Message") == "Invalid credentials in Authorization header"
    if name == "RepositoryNotFoundError" or (status == 401 and not wrong_token and "X-Error-Code" in headers):
        # It answers 401 for what is not there, to one without a token.
        return (f"not found on the hub, or private ({status})", NAME_HINT)
    if status in _STATUS_ERRORS:
        return CLIENT_ERRORS[_STATUS_ERRORS[status]]
    if status >= 500:
        return CLIENT_ERRORS["ServerError"]
    return f"the hub refused the request ({status})", RESUME_HINT


def _describe_disk_error(causes: Iterable[BaseException]) -> tuple[str, str] | None:
    disk_error = next((cause for cause in causes if _is_of_disk(cause)), None)
    if not isinstance(disk_error, OSError):
        return None
    hint = _ACCESS_HINT if disk_error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else _DISK_HINT
    return f"cannot be written: {describe_os_error(disk_error)}", hint


def _describe_network_cause(causes: Iterable[BaseException]) -> tuple[str, str] | None:
    names = (type(cause).__name__ for cause in causes)
    return next((_NETWORK_CAUSES[name] for name in names if name in _NETWORK_CAUSES), None)


def _describe_unknown(error: BaseException) -> tuple[str, str]:
    said = str(error).partition("\n")[0]
    return f"the transfer failed: {type(error).__name__}{f': {said}' if said else ''}", _NETWORK_HINT


def _walk_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what lies behind it: some clients retry a full disk, and report a network error."""
    waiting, seen = [error], set()
    while waiting:
        cause = waiting.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        behind = [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args[:2]]
        waiting += [item for item in behind if isinstance(item, BaseException)]


def _is_of_disk(error: BaseException) -> bool:
    # A network's OSError names no file.
    return isinstance(error, OSError) and (error.errno in _DISK_FULL or error.filename is not None)
