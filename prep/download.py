"""Repositories of the ModelScope hub → folders that hold exactly what the hub listed.

The only file that imports modelscope_hub. The client moves the bytes (resume, retries, parallel files); what
it believes too readily is checked here: the listing before, every file on the disk after.
"""

import errno
import hashlib
import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn, Protocol
from urllib.parse import urlsplit

from prep import __version__
from prep.catalog import Request
from prep.errors import DownloadError, InterruptedDownloadError, OutputError
from prep.files import explain_os_error, lock_file
from prep.listing import (
    RemoteFile,
    check_listing,
    check_selection,
    count_largest_folder,
    find_commit,
    select_files,
    show_paths,
)
from prep.snapshot import (
    DownloadManifest,
    Staging,
    find_intact,
    read_download_manifest,
    refuse_conflicts,
    verify_folder,
)

DEFAULT_REVISION = "master"
_RESUME_HINT = "run the same command again: what has arrived is kept"
_NAME_HINT = "check OWNER/NAME, and --model for a model; a private one needs --token-env"
_NETWORK_HINT = "check the network and --endpoint, then run the same command again: what has arrived is kept"

# A hub lists no more entries of one folder of a model, and does not say that it cut; the client then goes on
# folder by folder, which does not help within one.
_LISTING_LIMIT = 3000
_DISK_HINT = "free some disk space or choose another --to; what has arrived is kept"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)

# What each of the client's errors means, and what to do. A test holds that none is missing.
CLIENT_ERRORS: dict[str, tuple[str, str]] = {
    "HubError": ("the ModelScope client failed", _RESUME_HINT),
    "APIError": ("the hub refused the request", _RESUME_HINT),
    "AuthenticationError": (
        "the hub wants a valid token (401)",
        "put one into an environment variable and name it: --token-env NAME",
    ),
    "PermissionDeniedError": (
        "this account may not read it (403)",
        "ask its owner for access, or use another token",
    ),
    "NotExistError": ("not found on the hub (404)", _NAME_HINT),
    "InvalidParameter": ("the hub finds the request invalid (400)", "check OWNER/NAME and --revision"),
    "AlreadyExistsError": ("the hub answers a download with 'already exists'", _RESUME_HINT),
    "RateLimitError": ("too many requests (429)", "wait some minutes, then run again with a smaller --jobs"),
    "QuotaExceededError": (
        "the account's quota is used up",
        "free some of the quota, or use another account's token",
    ),
    "ServerError": ("the hub failed (5xx), also when asked again", f"wait some minutes, then {_RESUME_HINT}"),
    "NetworkError": ("the hub cannot be reached", _NETWORK_HINT),
    "RequestTimeoutError": ("the hub did not answer in time", _NETWORK_HINT),
    "StorageError": ("the hub's storage failed", _RESUME_HINT),
    "FileDownloadError": ("some files failed", _RESUME_HINT),
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
    "CacheNotFound": ("the client's cache is missing", _RESUME_HINT),
    "CorruptedCacheException": ("the client's cache is broken", _RESUME_HINT),
    "NotSupportedError": ("the client cannot download this kind of repository", _NAME_HINT),
}


@dataclass(frozen=True)
class DownloadOptions:
    """How to download: the same for all repositories of one call. `token` is never shown or written."""

    repo_type: str = "dataset"
    revision: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    endpoint: str | None = None
    token: str | None = field(default=None, repr=False)
    jobs: int = 4
    force: bool = False
    allow_unhashed: bool = False


class DownloadResult(NamedTuple):
    """One repository's folder afterwards. `state` is downloaded, updated, verified or (dry run) planned.

    Shape: `fetched_bytes` came over the network or, in a dry run, would at most; `unhashed` are the paths
    for which the hub states no sha256.
    """

    repository: str
    folder: Path
    revision: str
    commit: str | None
    files: list[RemoteFile]
    state: str
    fetched_bytes: int
    removed: tuple[str, ...]
    unhashed: tuple[str, ...]


class ProgressView(Protocol):
    """Shown what goes on; called from several threads, and must not raise."""

    def start(self, title: str, total_bytes: int | None) -> None:
        """Begin a stage of so many bytes, None where nobody knows."""

    def advance(self, path: str, size: int, byte_count: int) -> None:
        """Count bytes of a file; negative when it is begun anew."""

    def finish(self, path: str) -> None:
        """End a file, whether it arrived or not."""


class NoProgress:
    """A view that shows nothing."""

    def start(self, title: str, total_bytes: int | None) -> None:
        """Show nothing."""

    def advance(self, path: str, size: int, byte_count: int) -> None:
        """Show nothing."""

    def finish(self, path: str) -> None:
        """Show nothing."""


@dataclass(frozen=True)
class _Listing:
    """What the hub says one repository holds, checked."""

    request: Request
    repo_type: str
    endpoint: str
    revision: str
    commit: str | None
    files: list[RemoteFile]

    @property
    def key(self) -> str:
        """The staging folder's name: another repository, commit or listing is another folder."""
        parts = [self.request.repository, self.commit or "", *map(str, () if self.commit else self.files)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class _Plan:
    """What one repository's folder is to hold, and what an earlier download left there."""

    listing: _Listing
    target: Path
    files: list[RemoteFile]
    earlier: DownloadManifest | None

    @property
    def gone(self) -> list[RemoteFile]:
        """Files of the earlier download that are no longer listed."""
        listed = {file.path for file in self.files}
        return [file for file in (self.earlier.remote_files() if self.earlier else ()) if file.path not in listed]

    @property
    def recorded(self) -> set[str]:
        """Paths that the earlier download recorded as they are listed now."""
        earlier = self.earlier.files if self.earlier else {}
        return {
            file.path
            for file in self.files
            if file.path in earlier
            and (file.size, file.sha256) == (earlier[file.path]["bytes"], earlier[file.path]["sha256"])
        }


def download_repositories(
    requests: Sequence[Request], folder: Path, options: DownloadOptions, view: ProgressView | None = None
) -> list[DownloadResult]:
    """Download each repository into `<folder>/<its name>`, or verify that it is there already.

    Every listing is checked and the disk's room counted before the first byte is fetched. A folder changes
    in one step, from its old state to the new one, after every file was read back from the disk.
    Raises: DownloadError, OutputError, InterruptedDownloadError; the folders are then as they were.
    """
    view = view or NoProgress()
    with _stop_resumable(), ExitStack() as locks:
        hub = _Hub(options)
        view.start(f"asking {hub.endpoint} for the listing", None)
        listings = [hub.list_repository(request) for request in requests]
        with explain_os_error(folder):
            folder.mkdir(parents=True, exist_ok=True)
        for listing in listings:
            locks.enter_context(lock_file(folder / listing.request.folder_name, timeout_s=0))
        stagings = [Staging(folder / listing.request.folder_name, listing.key) for listing in listings]
        for staging in stagings:
            staging.recover()
        plans = [_plan_download(listing, folder, options) for listing in listings]
        intact = [_find_present(plan, view, options) for plan in plans]
        _require_free_disk(folder, plans, intact, stagings)
        return [_carry_out(hub, *work, view) for work in zip(plans, stagings, intact, strict=True)]


def plan_downloads(requests: Sequence[Request], folder: Path, options: DownloadOptions) -> list[DownloadResult]:
    """Return what `download_repositories` would do, from the listings and manifests alone; write nothing."""
    hub = _Hub(options)
    plans = [_plan_download(hub.list_repository(request), folder, options) for request in requests]
    results = []
    for plan in plans:
        here = {path for path in plan.recorded if (plan.target / path).is_file()}
        missing = sum(file.size for file in plan.files if file.path not in here)
        results.append(_describe(plan, "planned", missing))
    return results


def verify_downloads(
    requests: Sequence[Request], folder: Path, options: DownloadOptions, view: ProgressView | None = None
) -> list[DownloadResult]:
    """Verify folders against their manifests without any network.

    Files that no download recorded are the user's own and are not judged.
    Raises: DownloadError when a folder was never downloaded, holds something else, or was changed.
    """
    view = view or NoProgress()
    results = []
    with _stop_resumable():
        for request in requests:
            target = folder / request.folder_name
            manifest = _read_own_manifest(target, request, options)
            if manifest is None:
                raise DownloadError(
                    f"{target} holds no download of {request.repository}", hint="download it once without --offline"
                )
            if options.revision not in (None, manifest.revision, manifest.commit):
                raise DownloadError(
                    f"{target} holds revision {manifest.revision}, not {options.revision}",
                    hint="download it once without --offline",
                )
            files = manifest.remote_files()
            chosen = select_files(files, options.include or request.include, options.exclude)
            if not chosen:
                raise DownloadError(
                    f"{target} holds none of the files asked for", hint="download them once without --offline"
                )
            view.start(f"verifying {request.repository}", sum(file.size for file in files))
            verify_folder(target, files, lambda path, size: _count_whole(view, path, size))
            unhashed = tuple(path for path, entry in manifest.files.items() if entry["verified"] != "sha256")
            results.append(
                DownloadResult(
                    request.repository,
                    target,
                    manifest.revision,
                    manifest.commit,
                    files,
                    "verified",
                    0,
                    (),
                    unhashed,
                )
            )
    return results


def read_token(variable: str | None) -> str | None:
    """Return the token that an environment variable holds; None leaves it to the client's own order.

    Raises: DownloadError when the variable is not set, or empty.
    """
    if variable is None:
        return None
    token = os.environ.get(variable, "").strip()
    if not token:
        raise DownloadError(
            f"the environment variable {variable} holds no token",
            hint=f"export {variable}=..., and give --token-env the variable's name, never the token",
        )
    return token


def measure_free_disk(folder: Path) -> int:
    """Return the free bytes of the disk on which a folder lies or would be made."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


class _Hub:
    """The real client, held to one endpoint and token."""

    def __init__(self, options: DownloadOptions) -> None:
        modelscope_hub = _import_client()
        self.options = options
        try:
            config = modelscope_hub.HubConfig(endpoint=options.endpoint or None, token=options.token)
            self._api = modelscope_hub.HubApi(config)
            self.endpoint: str = self._api.legacy.endpoint
        except (OSError, EOFError) as error:
            # It reads the stored login first, a pickle.
            what, hint = CLIENT_ERRORS["CacheError"]
            raise DownloadError(f"{what}: {str(error).lower()}", hint=hint) from error
        parts = urlsplit(self.endpoint)
        if parts.username or parts.password or parts.query:
            raise DownloadError(
                "the endpoint holds a name, a password or a query, and is shown and recorded",
                hint="give the plain address, and a token with --token-env",
            )

    def list_repository(self, request: Request) -> _Listing:
        """Ask for all files of a repository once, and check the answer."""
        revision = self.options.revision or DEFAULT_REVISION
        with self._explain_answer(request.repository):
            entries = self._api.legacy.list_repo_files(
                request.repository, self.options.repo_type, revision=revision, recursive=True
            )
        if not entries:
            self._explain_empty(request.repository, revision)
        files = check_listing(entries, request.repository)
        if self.options.repo_type == "model" and count_largest_folder(entries) >= _LISTING_LIMIT:
            raise DownloadError(
                f"{request.repository}: the hub cannot list all its files: a folder has 3,000 or more",
                hint="ask the repository's owner to split the folder",
            )
        return _Listing(request, self.options.repo_type, self.endpoint, revision, find_commit(entries), files)

    def fetch(self, listing: _Listing, files: Sequence[RemoteFile], staging: Staging, view: ProgressView) -> None:
        """Fetch files into the staging folder, going on where an earlier run stopped."""
        from modelscope_hub.errors import FileDownloadError

        with self._explain(listing.request.repository):
            try:
                self._fetch_at(listing.commit or listing.revision, listing, files, staging, view)
            except FileDownloadError as error:
                if listing.commit is None or not _are_unknown_there(error):
                    raise
                # A hub need not know its commits by name. The listed sha256 holds at the branch as well.
                self._fetch_at(listing.revision, listing, files, staging, view)

    def _fetch_at(
        self, revision: str, listing: _Listing, files: Sequence[RemoteFile], staging: Staging, view: ProgressView
    ) -> None:
        self._api.download_repo(
            listing.request.repository,
            listing.repo_type,
            revision=revision,
            local_dir=staging.files,
            cache_dir=staging.cache,
            max_workers=self.options.jobs,
            progress_callbacks=[_make_callback(view)],
            file_list=[
                {"Path": file.path, "Type": "blob", "Size": file.size, "Sha256": file.sha256} for file in files
            ],
        )

    def _explain_empty(self, repository: str, revision: str) -> NoReturn:
        # The hub answers an unknown revision with success and no files.
        with self._explain_answer(repository):
            revisions = self._api.list_repo_revisions(repository, self.options.repo_type)
            names = [str(entry["Revision"]) for entry in revisions]
        known = f"; its revisions are {', '.join(names)}" if names else ""
        raise DownloadError(
            f"{repository} at {revision} lists no files{known}", hint="check --revision, or --model"
        )

    @contextmanager
    def _explain_answer(self, repository: str) -> Iterator[None]:
        """Explain errors around one question to the hub, whose answer the client takes apart without a look."""
        try:
            with self._explain(repository):
                yield
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DownloadError(
                f"{repository}: {self.endpoint} answers with something else than a hub's JSON",
                hint="check --endpoint or MODELSCOPE_ENDPOINT: is a ModelScope hub there?",
            ) from error

    @contextmanager
    def _explain(self, repository: str) -> Iterator[None]:
        """Turn the client's errors into one line of ours, without the token."""
        import requests
        from modelscope_hub.errors import HubError

        try:
            yield
        except requests.exceptions.JSONDecodeError:
            raise
        except (HubError, requests.RequestException, OSError) as error:
            what, hint = describe_client_error(error)
            # Without its cause: a traceback would hold what the server said, and it may repeat the token.
            raise DownloadError(self._redact(f"{repository}: {what} ({self.endpoint})"), hint=hint) from None

    def _redact(self, text: str) -> str:
        token = self._api.legacy.token
        return text.replace(token, "***") if token else text


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
    disk_error = _find_disk_error(error)
    if disk_error is not None:
        return f"cannot be written: {(disk_error.strerror or str(disk_error)).lower()}", _DISK_HINT
    for kind in type(error).__mro__:
        if kind.__name__ in CLIENT_ERRORS and kind.__module__.startswith("modelscope_hub"):
            return CLIENT_ERRORS[kind.__name__]
    said = str(error).partition("\n")[0]
    return f"the transfer failed: {type(error).__name__}{f': {said}' if said else ''}", _NETWORK_HINT


def _are_unknown_there(error: Any) -> bool:
    from modelscope_hub.errors import InvalidParameter, NotExistError

    return all(isinstance(failure, NotExistError | InvalidParameter) for failure in error.failed_files.values())


def _find_disk_error(error: BaseException | None) -> OSError | None:
    """Return the disk's own error when one is the cause: some clients retry it, and report a network error."""
    while error is not None:
        # A network's OSError names no file.
        if isinstance(error, OSError) and (error.errno in _DISK_FULL or error.filename is not None):
            return error
        error = error.__cause__
    return None


def _import_client() -> Any:
    """Import modelscope_hub without its own progress bars, and without its log on the terminal."""
    earlier = os.environ.get("TQDM_DISABLE")
    # Read once, when tqdm is imported; restored, because a training started later wants its bars.
    os.environ["TQDM_DISABLE"] = "1"
    try:
        import modelscope_hub
    finally:
        if earlier is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = earlier
    if not os.environ.get("MODELSCOPE_LOG_LEVEL"):
        # All that it logs comes back as an error, which is shown once and in one line.
        logging.getLogger("modelscope_hub").setLevel(logging.CRITICAL)
    return modelscope_hub


def _make_callback(view: ProgressView) -> type:
    counted: dict[str, int] = {}

    class FileCallback:
        def __init__(self, filename: str, file_size: int) -> None:
            self.path, self.size = filename, file_size
            if filename in counted:
                # Another try for a file that had failed: the client counts it from the start again.
                view.advance(filename, file_size, -counted.pop(filename))

        def update(self, size: int) -> None:
            counted[self.path] = counted.get(self.path, 0) + size
            view.advance(self.path, self.size, size)

        def end(self) -> None:
            view.finish(self.path)

    return FileCallback


def _plan_download(listing: _Listing, folder: Path, options: DownloadOptions) -> _Plan:
    request = listing.request
    target = folder / request.folder_name
    earlier = _read_own_manifest(target, request, options)
    include = options.include or request.include
    files = select_files(listing.files, include, options.exclude)
    if not files:
        asked = " ".join([f"--include {pattern!r}" for pattern in include])
        asked += "".join(f" --exclude {pattern!r}" for pattern in options.exclude)
        raise DownloadError(
            f"{request.repository}: no file is taken by {asked.strip()}; "
            f"there are {show_paths([file.path for file in listing.files])}",
            hint="quote the patterns; * also stands for /",
        )
    # One folder holds one commit: what an earlier call took stays in it, as the new commit has it.
    files = select_files(listing.files, include, options.exclude, keep=earlier.files if earlier else ())
    check_selection(files, request.repository, allow_unhashed=options.allow_unhashed)
    return _Plan(listing, target, files, earlier)


def _read_own_manifest(target: Path, request: Request, options: DownloadOptions) -> DownloadManifest | None:
    manifest = read_download_manifest(target)
    if manifest is not None and (manifest.repository, manifest.type) != (request.repository, options.repo_type):
        raise OutputError(
            f"{target} holds the {manifest.type} {manifest.repository}, "
            f"not the {options.repo_type} {request.repository}",
            hint="choose another --to",
        )
    return manifest


def _find_present(plan: _Plan, view: ProgressView, options: DownloadOptions) -> set[str]:
    """Return the paths that need no fetching; raises OutputError when something else is in the way."""
    earlier = {file.path: file for file in plan.earlier.remote_files()} if plan.earlier else {}
    commit = plan.listing.commit
    same_commit = plan.earlier is not None and commit is not None and commit == plan.earlier.commit
    candidates = [
        # Without a listed sha256, the recorded one decides as long as the commit has not moved.
        earlier[file.path] if file.sha256 is None and same_commit and file.path in earlier else file
        for file in plan.files
    ]
    if not plan.target.is_dir():
        refuse_conflicts(plan.target, plan.files, (), force=options.force)
        return set()
    view.start(f"verifying {plan.target}", sum(file.size for file in candidates))
    present = find_intact(plan.target, candidates, lambda path, size: _count_whole(view, path, size))
    others = [earlier[file.path] for file in plan.files if file.path in earlier and file.path not in present]
    unchanged = find_intact(plan.target, others, lambda path, size: None)
    refuse_conflicts(plan.target, plan.files, present | unchanged, force=options.force)
    return present


def _count_whole(view: ProgressView, path: str, size: int) -> None:
    view.advance(path, size, size)
    view.finish(path)


def _require_free_disk(
    folder: Path, plans: Sequence[_Plan], present: Sequence[set[str]], stagings: Sequence[Staging]
) -> None:
    needed = sum(_count_missing_bytes(*work) for work in zip(plans, present, stagings, strict=True))
    free = measure_free_disk(folder)
    if needed > free:
        raise OutputError(
            f"{folder} has {free:,} bytes of free disk, and {needed:,} are needed",
            hint="free some disk space, choose another --to, or take fewer files with --include",
        )


def _carry_out(hub: _Hub, plan: _Plan, staging: Staging, present: set[str], view: ProgressView) -> DownloadResult:
    missing = [file for file in plan.files if file.path not in present]
    if not missing and not plan.gone:
        manifest = _make_manifest(plan, {})
        if manifest != plan.earlier:
            staging.record(manifest)
        staging.discard()
        return _describe(plan, "verified", 0)
    staging.open()
    fetched_bytes = _count_missing_bytes(plan, present, staging)
    if missing:
        view.start(f"downloading {plan.listing.request.repository}", sum(file.size for file in missing))
        hub.fetch(plan.listing, missing, staging, view)
    staging.reuse(sorted(present))
    view.start(f"verifying {plan.listing.request.repository}", sum(file.size for file in missing))
    digests = {}
    for file in missing:
        digests[file.path] = staging.seal(file)
        _count_whole(view, file.path, file.size)
    # One that the user has changed since is the user's own now, and stays.
    removed = find_intact(plan.target, plan.gone, lambda path, size: None)
    staging.publish(_make_manifest(plan, digests), removed)
    return _describe(plan, "updated" if plan.earlier else "downloaded", fetched_bytes, tuple(sorted(removed)))


def _count_missing_bytes(plan: _Plan, present: set[str], staging: Staging) -> int:
    missing = sum(file.size for file in plan.files if file.path not in present)
    return max(0, missing - staging.count_bytes())


def _make_manifest(plan: _Plan, digests: dict[str, str]) -> DownloadManifest:
    earlier = plan.earlier.files if plan.earlier else {}
    return DownloadManifest(
        endpoint=plan.listing.endpoint,
        repository=plan.listing.request.repository,
        type=plan.listing.repo_type,
        revision=plan.listing.revision,
        commit=plan.listing.commit,
        files={
            file.path: {
                "bytes": file.size,
                "sha256": file.sha256 or digests.get(file.path) or earlier[file.path]["sha256"],
                "verified": "sha256" if file.sha256 else "size",
            }
            for file in plan.files
        },
        clients=_read_client_versions(),
    )


def _read_client_versions() -> dict[str, str]:
    clients = {"llamafactory-companion": __version__}
    for name in ("modelscope-hub", "modelscope"):
        try:
            clients[name] = version(name)
        except PackageNotFoundError:
            continue
    return clients


def _describe(plan: _Plan, state: str, fetched_bytes: int, removed: tuple[str, ...] = ()) -> DownloadResult:
    listing = plan.listing
    unhashed = tuple(file.path for file in plan.files if file.sha256 is None)
    return DownloadResult(
        listing.request.repository,
        plan.target,
        listing.revision,
        listing.commit,
        plan.files,
        state,
        fetched_bytes,
        removed,
        unhashed,
    )


class _Terminated(BaseException):
    """SIGTERM came; no `except Exception` on the way may swallow it."""


@contextmanager
def _stop_resumable() -> Iterator[None]:
    """End Ctrl-C and SIGTERM in an error that says how to go on, after the client has stopped its threads."""

    def stop(signal_number: int, frame: FrameType | None) -> None:
        raise _Terminated

    in_main_thread = threading.current_thread() is threading.main_thread()
    earlier: Callable[[int, FrameType | None], Any] | int | None = None
    if in_main_thread:
        earlier = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except (KeyboardInterrupt, _Terminated) as error:
        number = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
        raise InterruptedDownloadError(
            "interrupted; no folder is half-written", exit_code=128 + number, hint=_RESUME_HINT
        ) from None
    finally:
        if in_main_thread:
            signal.signal(signal.SIGTERM, earlier if earlier is not None else signal.SIG_DFL)
