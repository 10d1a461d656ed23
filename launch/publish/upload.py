"""Sends planned files to a hub in one commit, and believes that they are there only when the hub lists them so."""

import contextlib
import hashlib
import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from launch.publish.plan import PublishedFile, PublishedKind
from prep.errors import DownloadError, OutputError, StackError
from prep.hub.catalog import Request
from prep.hub.client import DownloadOptions, open_hub
from prep.hub.endpoint import HUGGINGFACE, MODELSCOPE, Endpoint, Site, choose_token, read_endpoint
from prep.hub.listing import RemoteFile
from prep.secrets import mask_known

_SHOWN = 300
_MESSAGE = "Published by llamafactory-companion"


@dataclass(frozen=True)
class Target:
    """Where something is published: `token` is never shown; `address` is None for the hub of the environment."""

    site: Site
    repository: str
    is_private: bool = True
    address: str | None = None
    token: str | None = field(default=None, repr=False)

    @property
    def endpoint(self) -> Endpoint:
        """The hub; raises DownloadError when its address is none."""
        return read_endpoint(self.address, self.site)


def publish(target: Target, kind: PublishedKind, files: Sequence[PublishedFile], licence: str | None) -> str:
    """Create the repository where it is missing, send all files in one commit, and return its address.

    Raises: OutputError when the hub refuses something, or does not list afterwards what was sent; DownloadError
    when it cannot be reached; StackError without its client or a token.
    """
    endpoint = target.endpoint
    token = choose_token(endpoint, target.token, None)
    if token is None:
        variable = target.site.token_variables[0]
        raise StackError(
            f"{target.site.name} takes nothing without a token", hint=f"put it into {variable}, or --token-env NAME"
        )
    with _explain(target, token):
        if target.site is HUGGINGFACE:
            _send_to_huggingface(target, endpoint, token, kind, files)
        else:
            _send_to_modelscope(target, endpoint, token, kind, files, licence)
    _check_arrived(target, token, kind, files)
    folder = "datasets/" if kind is PublishedKind.DATASET else "models/" if target.site is MODELSCOPE else ""
    return f"{endpoint.address}/{folder}{target.repository}"


@contextmanager
def _explain(target: Target, token: str) -> Iterator[None]:
    """Turn what the hubs' clients raise into one error, without the token."""
    import requests

    # The clients raise RuntimeError where a file could not be sent.
    errors: tuple[type[BaseException], ...] = (OSError, ValueError, RuntimeError, requests.RequestException)
    if target.site is HUGGINGFACE:
        import httpx
        from huggingface_hub.errors import HfHubHTTPError

        errors = (*errors, HfHubHTTPError, httpx.HTTPError)
    else:
        from modelscope_hub.errors import HubError

        errors = (*errors, HubError)
    try:
        yield
    except errors as error:
        told = [str(part) for part in (error, error.__cause__) if part is not None and str(part)]
        said = mask_known("; ".join(told) or type(error).__name__, [token]).splitlines()[0][:_SHOWN]
        raise OutputError(
            f"{target.repository} was not published: {said}",
            hint="the same command again goes on; the token may lack the right to write",
        ) from error


def _send_to_huggingface(
    target: Target, endpoint: Endpoint, token: str, kind: PublishedKind, files: Sequence[PublishedFile]
) -> None:
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    api = HfApi(endpoint=endpoint.address, token=token)
    repo_type = _name_type(kind)
    api.create_repo(target.repository, repo_type=repo_type, private=target.is_private, exist_ok=True)
    if target.is_private and not api.repo_info(target.repository, repo_type=repo_type).private:
        _refuse_public(target)
    operations = [
        CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=file.path or file.content or b"")
        for file in files
    ]
    api.create_commit(target.repository, operations, commit_message=_MESSAGE, repo_type=repo_type)


def _refuse_public(target: Target) -> None:
    raise OutputError(
        f"{target.repository} is there already, and public: what is private is not sent there",
        hint="--public, or another --repo",
    )


def _send_to_modelscope(
    target: Target,
    endpoint: Endpoint,
    token: str,
    kind: PublishedKind,
    files: Sequence[PublishedFile],
    licence: str | None,
) -> None:
    import modelscope_hub

    logging.getLogger("modelscope_hub").setLevel(logging.WARNING)
    api = modelscope_hub.HubApi(modelscope_hub.HubConfig(endpoint=endpoint.address, token=token))
    repo_type = _name_type(kind)
    if not api.repo_exists(target.repository, repo_type):
        visibility = "private" if target.is_private else "public"
        api.create_repo(target.repository, repo_type, visibility=visibility, license=licence)
    elif (
        target.is_private
        and api.get_repo(target.repository, repo_type).visibility == modelscope_hub.Visibility.PUBLIC
    ):
        _refuse_public(target)
    # The client sends folders: one with links to what is published alone.
    with tempfile.TemporaryDirectory(prefix="lfc-publish-") as folder:
        for file in files:
            place = Path(folder, file.name)
            if file.path is None:
                place.write_bytes(file.content or b"")
            else:
                place.symlink_to(file.path.resolve())
        # It prints a report of its own, and stdout holds results alone.
        with contextlib.redirect_stdout(io.StringIO()):
            api.upload_folder(
                target.repository, repo_type, folder, commit_message=_MESSAGE, use_cache=False, disable_tqdm=True
            )


def _name_type(kind: PublishedKind) -> str:
    return "dataset" if kind is PublishedKind.DATASET else "model"


def _check_arrived(target: Target, token: str, kind: PublishedKind, files: Sequence[PublishedFile]) -> None:
    """Raise OutputError unless the hub lists every file with the size and the hash that it has here."""
    options = DownloadOptions(repo_type=_name_type(kind), endpoint=target.address, token=token)
    try:
        hub = open_hub(target.site, options)
        listed = {
            file.path: file for file in hub.list_repository(Request(target.repository, site=target.site)).files
        }
    except DownloadError as error:
        raise OutputError(
            f"{target.repository} was sent, but the hub does not list it: {error}", hint="the same command again"
        ) from error
    wrong = [file.name for file in files if not _is_same(file, listed.get(file.name))]
    if wrong:
        raise OutputError(
            f"{target.repository} is not whole on the hub: {', '.join(wrong)} is missing there, or another file",
            hint="the same command again sends it anew",
        )


def _is_same(file: PublishedFile, remote: RemoteFile | None) -> bool:
    if remote is None or remote.size != file.size:
        return False
    if remote.sha256:
        return remote.sha256 == file.sha256
    sha256, git_sha1 = _hash_as_git_does(file)
    # It may have changed since it was planned; then what was sent is not what was told.
    return sha256 == file.sha256 and remote.git_sha1 in (None, git_sha1)


def _hash_as_git_does(file: PublishedFile) -> tuple[str, str]:
    """Return the sha256 of a file's bytes now, and the name that git gives them: Hugging Face's of a small one."""
    digests = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    with io.BytesIO(file.content or b"") if file.path is None else file.path.open("rb") as stream:
        while block := stream.read(1 << 20):
            for digest in digests:
                digest.update(block)
    return digests[0].hexdigest(), digests[1].hexdigest()
