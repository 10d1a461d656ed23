"""Hugging Face as a hub: what is asked of it with huggingface_hub, and how its files are fetched.

The client's own download begins a file anew in each process, so the files are fetched here, over the session that
the client is lent. Its xet storage is not used: every file comes over plain HTTP, the same everywhere.
"""

import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from prep import __version__
from prep.errors import DownloadError
from prep.hub.catalog import Request
from prep.hub.client import SHOWN_REVISIONS, DownloadOptions, HubClient, Listing, Progress, ProgressView
from prep.hub.client_errors import describe_huggingface_error, make_download_error
from prep.hub.endpoint import HUGGINGFACE, Endpoint, check_token, choose_token, read_endpoint
from prep.hub.interrupts import stop_when_stalled
from prep.hub.listing import RemoteFile, check_listing
from prep.hub.snapshot import Staging
from prep.secrets import mask_text
from prep.storage.bounded import read_bounded

_COMMIT = re.compile(r"[0-9a-f]{40}")
# The hub serves larger files through its xet storage alone.
_MAX_PLAIN_BYTES = 50_000_000_000
_MAX_READ_TIMEOUT_S = 10.0
_LIBRARY: dict[str, Any] = {"library_name": "llamafactory-companion", "library_version": __version__}
# Read when the client is imported: no bars, no storage of its own, nothing told of this machine.
_ENVIRONMENT = {
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


class HuggingFaceHub(HubClient):
    """Hugging Face's client, held to one endpoint; it never holds the token: the session adds it where due."""

    site = HUGGINGFACE

    def __init__(self, options: DownloadOptions) -> None:
        endpoint = read_endpoint(options.endpoint, HUGGINGFACE)
        client = _import_client()
        from huggingface_hub.utils._headers import build_hf_headers

        from prep.hub.huggingface_session import RefusedError, make_session
        from prep.hub.transport import Guard

        self.options = options
        self.endpoint = endpoint.address
        self._guard = Guard(endpoint, _choose_token(endpoint, options.token), RefusedError)
        read_timeout_s = min(_MAX_READ_TIMEOUT_S, options.timeout_s)
        headers = build_hf_headers(token=False, **_LIBRARY)
        self._make_session: Callable[[], Any] = lambda: make_session(self._guard, read_timeout_s, headers)
        self._api = client.HfApi(endpoint=endpoint.address, token=False, **_LIBRARY)

    def list_repository(self, request: Request) -> Listing:
        """Ask which commit a revision is, then for all files at it, and check the answers."""
        from huggingface_hub.errors import HFValidationError, RevisionNotFoundError
        from huggingface_hub.utils._validators import validate_repo_id

        repository, kind = request.repository, self.options.repo_type
        revision = self.options.revision or HUGGINGFACE.default_revision
        try:
            validate_repo_id(repository)
        except HFValidationError:
            raise DownloadError(
                f"{repository!r} is no name on Hugging Face", hint="OWNER/NAME as the hub's page shows it"
            ) from None
        with self._explain_answer(repository):
            try:
                commit = self._ask(lambda: self._api.repo_info(repository, repo_type=kind, revision=revision).sha)
            except RevisionNotFoundError:
                self._explain_unknown_revision(request, revision)
            if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
                raise ValueError("no commit")
            entries = self._ask(lambda: self._list_entries(repository, commit))
        if not entries:
            raise DownloadError(f"{repository} at {revision} lists no files", hint="check --revision, or --model")
        files = check_listing(entries, repository, self._guard.repeats_secret)
        return Listing(request, kind, self.endpoint, revision, commit, files)

    def fetch(self, listing: Listing, files: Sequence[RemoteFile], staging: Staging, view: ProgressView) -> None:
        """Fetch files into the staging folder, going on where an earlier run stopped."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils._http import hf_raise_for_status

        from prep.hub.huggingface_session import FileFetcher

        request = listing.request
        _refuse_large_files(request, files)
        addresses = [
            (
                file,
                hf_hub_url(
                    request.repository,
                    file.path,
                    repo_type=listing.repo_type,
                    revision=listing.commit,
                    endpoint=self.endpoint,
                ),
                staging.files / file.path,
            )
            for file in files
        ]
        progress = Progress(view)
        with self._explain(request.repository), self._make_session() as session:
            fetcher = FileFetcher(session, hf_raise_for_status, progress)
            with stop_when_stalled(self.options.timeout_s, self._explain_stall, progress.count_bytes):
                fetcher.fetch_all(addresses, self.options.jobs)
        progress.raise_fault()

    def _ask(self, question: Callable[[], Any]) -> Any:
        from prep.hub.huggingface_session import ask_again

        with _lend_session(self._make_session):
            return ask_again(question)

    def _list_entries(self, repository: str, commit: str) -> list[dict[str, Any]]:
        """Return the tree of a commit in the shape that the listing's check takes."""
        entries = []
        tree = self._api.list_repo_tree(
            repository, repo_type=self.options.repo_type, revision=commit, recursive=True
        )
        for item in tree:
            # A folder has no size.
            if not hasattr(item, "size"):
                entries.append({"Path": item.path, "Type": "tree"})
                continue
            lfs = item.lfs
            if lfs is not None and (lfs.size != item.size or not lfs.sha256):
                path = str(item.path)[:200]
                raise DownloadError(f"{repository}: the listing gives {path!r} two sizes, or no sha256")
            entries.append(
                {
                    "Path": item.path,
                    "Size": item.size,
                    "Sha256": lfs.sha256 if lfs is not None else None,
                    "GitSha1": item.blob_id if lfs is None else None,
                }
            )
        return entries

    def _explain_unknown_revision(self, request: Request, revision: str) -> NoReturn:
        refs = self._ask(lambda: self._api.list_repo_refs(request.repository, repo_type=self.options.repo_type))
        names = [str(ref.name)[:80] for ref in [*refs.branches, *refs.tags][:SHOWN_REVISIONS]]
        known = f"; its revisions are {', '.join(names)}" if names else ""
        raise DownloadError(
            mask_text(f"{request.repository} has no revision {revision}{known}", self._guard.secrets),
            hint="check --revision, or --model",
        )

    @contextmanager
    def _explain(self, repository: str) -> Iterator[None]:
        """Turn the client's errors into one line of ours, without the token."""
        from prep.hub.huggingface_session import CLIENT_FAULTS, FailedFilesError, goes_by_proxy

        try:
            yield
        except (*CLIENT_FAULTS, FailedFilesError, OSError) as error:
            # Without its cause: a traceback would hold what the server said, and it may repeat the token.
            if self._guard.fault:
                raise self._guard.fault from None
            kind = "datasets/" if self.options.repo_type == "dataset" else ""
            page = f"https://huggingface.co/{kind}{repository}"
            what, hint = describe_huggingface_error(error, page, by_proxy=goes_by_proxy(self.endpoint))
            message = mask_text(f"{repository}: {what} ({self.endpoint})", self._guard.secrets)
            raise make_download_error(what, message, hint) from None


@contextmanager
def _lend_session(make: Callable[[], Any]) -> Iterator[None]:
    """Let the client use our session for the block, and its own again after it."""
    import huggingface_hub
    from huggingface_hub.utils import _http as client

    earlier = getattr(client, "_GLOBAL_CLIENT_FACTORY", client.default_client_factory)
    huggingface_hub.set_client_factory(make)
    try:
        yield
    finally:
        huggingface_hub.set_client_factory(earlier)


def _choose_token(endpoint: Endpoint, named: str | None) -> str | None:
    """Return the token for the hub: the one named for it; of huggingface.co itself also HF_TOKEN, and the login."""
    from huggingface_hub import constants

    if named is not None or not endpoint.is_public:
        return choose_token(endpoint, named, None)
    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        return None
    path = Path(constants.HF_TOKEN_PATH)
    try:
        stored = read_bounded(path).strip() if path.is_file() else ""
    except (OSError, ValueError):
        raise DownloadError(f"the stored login {path} cannot be read", hint="hf auth login") from None
    return choose_token(endpoint, None, check_token(stored, f"the stored login {path}") if stored else None)


def _refuse_large_files(request: Request, files: Sequence[RemoteFile]) -> None:
    large = next((file for file in files if file.size > _MAX_PLAIN_BYTES), None)
    if large is not None:
        raise DownloadError(
            f"{request.repository}: {large.path!r} is larger than 50 GB: the hub gives it over xet alone",
            hint=f"leave it out with --exclude; hf download {request.repository} can fetch it",
        )


def _import_client() -> Any:
    """Import huggingface_hub as a quiet client; raises DownloadError when it cannot be used.

    The environment is restored, because a training started later may want its bars.
    """
    earlier = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        with warnings.catch_warnings():
            # Of variables for what is not used here.
            warnings.simplefilter("ignore")
            import huggingface_hub
            import huggingface_hub.hf_api
    except (ImportError, ValueError) as error:
        raise DownloadError(
            f"huggingface_hub cannot be loaded: {error}",
            hint="check the variables HF_… of the environment, and pip install 'huggingface_hub>=1.0'",
        ) from error
    finally:
        for name, value in earlier.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    if not hasattr(huggingface_hub, "set_client_factory"):
        raise DownloadError(
            f"huggingface_hub {huggingface_hub.__version__} is installed; hf: needs 1.0 or later",
            hint="pip install 'huggingface_hub>=1.0', or name the same repository of ModelScope",
        )
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise DownloadError(
            "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set: Hugging Face is not asked",
            hint="unset it for the download; --offline verifies what is there",
        )
    if not os.environ.get("HF_HUB_VERBOSITY"):
        # All that it logs comes back as an error, which is shown once and in one line.
        logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    return huggingface_hub
