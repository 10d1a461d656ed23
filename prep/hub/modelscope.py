"""The only file that imports modelscope_hub: what is asked of a hub, and how its files are fetched.

The client moves the bytes (resume, retries, parallel files); what it believes too readily is checked around it.
"""

import functools
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from prep.errors import DownloadError
from prep.hub.catalog import Request
from prep.hub.client import SHOWN_REVISIONS, DownloadOptions, HubClient, Listing, Progress, ProgressView
from prep.hub.client_errors import CLIENT_ERRORS, describe_client_error, make_download_error
from prep.hub.endpoint import MODELSCOPE, choose_token, read_endpoint
from prep.hub.interrupts import stop_when_stalled
from prep.hub.listing import RemoteFile, check_listing, count_largest_folder, find_commit
from prep.hub.snapshot import Staging
from prep.secrets import mask_text

# A hub lists no more entries of one folder of a model, and does not say that it cut; the client then goes on
# folder by folder, which does not help within one.
_LISTING_LIMIT = 3000


class ModelScopeHub(HubClient):
    """ModelScope's client, held to one endpoint; it never holds the token: the guard adds it where it belongs."""

    site = MODELSCOPE

    def __init__(self, options: DownloadOptions) -> None:
        endpoint = read_endpoint(options.endpoint, MODELSCOPE)
        modelscope_hub = _import_client()
        from modelscope_hub.errors import PermissionDeniedError

        from prep.hub.transport import Guard, guard_client

        self.options = options
        self.endpoint = endpoint.address
        with _explain_own_folder():
            config = modelscope_hub.HubConfig(endpoint=endpoint.address, token="")
            # The stored login is a pickle: of no use, and not opened, for another hub.
            stored = config.load_token() if endpoint.is_public and options.token is None else None
            token = choose_token(endpoint, options.token, stored)
            self._guard = Guard(endpoint, token, PermissionDeniedError)
            self._api = modelscope_hub.HubApi(config)
            guard_client(self._api.legacy, self._guard)

    def list_repository(self, request: Request) -> Listing:
        """Ask for all files of a repository once, and check the answer."""
        revision = self.options.revision or MODELSCOPE.default_revision
        with self._explain_answer(request.repository):
            entries = self._api.legacy.list_repo_files(
                request.repository, self.options.repo_type, revision=revision, recursive=True
            )
        if not entries:
            self._explain_empty(request.repository, revision)
        files = check_listing(entries, request.repository, self._guard.repeats_secret)
        if self.options.repo_type == "model" and count_largest_folder(entries) >= _LISTING_LIMIT:
            raise DownloadError(
                f"{request.repository}: the hub cannot list all its files: a folder has 3,000 or more",
                hint="ask the repository's owner to split the folder",
            )
        commit = find_commit(entries)
        if commit and self._guard.repeats_secret(commit):
            raise DownloadError(f"{request.repository}: the listing repeats the token as a commit")
        return Listing(request, self.options.repo_type, self.endpoint, revision, commit, files)

    def fetch(self, listing: Listing, files: Sequence[RemoteFile], staging: Staging, view: ProgressView) -> None:
        """Fetch files into the staging folder, going on where an earlier run stopped."""
        from modelscope_hub.errors import FileDownloadError

        with self._explain(listing.request.repository):
            try:
                self._fetch_at(listing.commit or listing.revision, listing, files, staging, view)
            except FileDownloadError as error:
                if listing.commit is None or self._guard.fault or not _are_unknown_there(error):
                    raise
                # A hub need not know its commits by name. The listed sha256 holds at the branch as well.
                self._fetch_at(listing.revision, listing, files, staging, view)

    def _fetch_at(
        self, revision: str, listing: Listing, files: Sequence[RemoteFile], staging: Staging, view: ProgressView
    ) -> None:
        progress = Progress(view)
        with stop_when_stalled(self.options.timeout_s, self._explain_stall, progress.count_bytes):
            self._api.download_repo(
                listing.request.repository,
                listing.repo_type,
                revision=revision,
                local_dir=staging.files,
                cache_dir=staging.cache,
                max_workers=self.options.jobs,
                progress_callbacks=[_make_callback(progress)],
                file_list=[
                    {"Path": file.path, "Type": "blob", "Size": file.size, "Sha256": file.sha256} for file in files
                ],
            )
        progress.raise_fault()

    def _explain_empty(self, repository: str, revision: str) -> NoReturn:
        # The hub answers an unknown revision with success and no files.
        with self._explain_answer(repository):
            revisions = self._api.list_repo_revisions(repository, self.options.repo_type)
            names = [str(entry["Revision"])[:80] for entry in revisions[:SHOWN_REVISIONS]]
        known = f"; its revisions are {', '.join(names)}" if names else ""
        raise DownloadError(
            mask_text(f"{repository} at {revision} lists no files{known}", self._guard.secrets),
            hint="check --revision, or --model",
        )

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
            # Without its cause: a traceback would hold what the server said, and it may repeat the token.
            if self._guard.fault:
                raise self._guard.fault from None
            what, hint = describe_client_error(error)
            message = mask_text(f"{repository}: {what} ({self.endpoint})", self._guard.secrets)
            raise make_download_error(what, message, hint) from None


@contextmanager
def _explain_own_folder() -> Iterator[None]:
    """Explain errors of the client's own folder: it reads the stored login, a pickle."""
    try:
        yield
    except (OSError, EOFError, AttributeError, ImportError, ValueError, TypeError) as error:
        what, hint = CLIENT_ERRORS["CacheError"]
        raise DownloadError(f"{what}: {str(error).lower()}", hint=hint) from None


def _are_unknown_there(error: Any) -> bool:
    from modelscope_hub.errors import InvalidParameter, NotExistError

    return all(isinstance(failure, NotExistError | InvalidParameter) for failure in error.failed_files.values())


def _import_client() -> Any:
    """Import modelscope_hub without its own progress bars, and without its log on the terminal."""
    import modelscope_hub
    from modelscope_hub import _download

    # TQDM_DISABLE would be read when tqdm is first imported, perhaps long before, and be for all of it.
    if not isinstance(_download.tqdm, functools.partial):
        _download.tqdm = functools.partial(_download.tqdm, disable=True)
    if not os.environ.get("MODELSCOPE_LOG_LEVEL"):
        # All that it logs comes back as an error, which is shown once and in one line.
        logging.getLogger("modelscope_hub").setLevel(logging.CRITICAL)
    return modelscope_hub


def _make_callback(progress: Progress) -> type:
    """Return the class that the client makes one of for each file."""

    class FileCallback:
        def __init__(self, filename: str, file_size: int) -> None:
            self.path, self.size = filename, file_size
            progress.restart(filename, file_size)

        def update(self, size: int) -> None:
            progress.advance(self.path, self.size, size)

        def end(self) -> None:
            progress.show(lambda view: view.finish(self.path))

    return FileCallback
