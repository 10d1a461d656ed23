"""Repositories of a hub → folders that hold exactly what the hub listed.

What the client believes too readily is checked here: the listing before, every file on the disk after.
"""

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from prep import __version__
from prep.errors import DownloadError, OutputError
from prep.hub.catalog import Request
from prep.hub.client import DownloadOptions, HubClient, Listing, NoProgress, ProgressView, open_hub
from prep.hub.download_manifest import DownloadManifest, read_download_manifest
from prep.hub.endpoint import SITES, Site
from prep.hub.interrupts import stop_resumable
from prep.hub.listing import RemoteFile, check_selection, select_files, show_paths
from prep.hub.snapshot import Staging, find_conflicts, find_intact, refuse_link, verify_folder
from prep.storage.locks import lock_file
from prep.storage.os_errors import explain_os_error


class DownloadResult(NamedTuple):
    """One repository's folder afterwards. `state` is downloaded, updated, verified or (dry run) planned.

    Shape: `fetched_bytes` came over the network or, in a dry run, would at most; `unhashed` are the paths
    for which the hub states no sha256; `set_aside` are the names that the user's own files in the way got.
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
    set_aside: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Plan:
    """What one repository's folder is to hold, and what an earlier download left there."""

    listing: Listing
    target: Path
    files: list[RemoteFile]
    earlier: DownloadManifest | None

    @property
    def gone(self) -> list[RemoteFile]:
        """Files of the earlier download that are no longer listed."""
        listed = {file.path for file in self.files}
        return [file for file in (self.earlier.remote_files() if self.earlier else ()) if file.path not in listed]

    @property
    def is_same_commit(self) -> bool:
        """Whether the earlier download is known to have been of this commit."""
        return self.earlier is not None and None is not self.listing.commit == self.earlier.commit

    @property
    def recorded(self) -> set[str]:
        """Paths that the earlier download recorded as they are listed now."""
        earlier = self.earlier.files if self.earlier else {}
        return {
            file.path
            for file in self.files
            if file.path in earlier
            and file.size == earlier[file.path]["bytes"]
            and (file.sha256 == earlier[file.path]["sha256"] or (file.git_sha1 and self.is_same_commit))
        }


class _Work(NamedTuple):
    """A plan, where it is carried out, the sha256 of what needs no fetching, and the user's files in the way."""

    plan: _Plan
    staging: Staging
    present: dict[str, str]
    in_the_way: list[str]

    @property
    def missing(self) -> list[RemoteFile]:
        return [file for file in self.plan.files if file.path not in self.present]

    def count_missing_bytes(self) -> int:
        return max(0, sum(file.size for file in self.missing) - self.staging.count_bytes())


def download_repositories(
    requests: Sequence[Request], folder: Path, options: DownloadOptions, view: ProgressView | None = None
) -> list[DownloadResult]:
    """Download each repository into `<folder>/<its name>`, or verify that it is there already.

    Every listing is checked and the disk's room counted before the first byte is fetched. A folder changes
    in one step, from its old state to the new one, after every file was read back from the disk.
    Raises: DownloadError, OutputError, InterruptedDownloadError; the folders are then as they were.
    """
    view = view or NoProgress()
    with stop_resumable(), ExitStack() as locks:
        hub = _open_one_hub(requests, options)
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
        works = [
            _Work(plan, staging, *_find_present(plan, view, options))
            for plan, staging in zip(plans, stagings, strict=True)
        ]
        _require_free_disk(folder, works)
        return [_carry_out(hub, work, view) for work in works]


def plan_downloads(requests: Sequence[Request], folder: Path, options: DownloadOptions) -> list[DownloadResult]:
    """Return what `download_repositories` would do, from the listings and manifests alone; write nothing."""
    hub = _open_one_hub(requests, options)
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
    with stop_resumable():
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
            held = _keep_split(files, request, options)
            chosen = select_files(held, options.include or request.include, options.exclude)
            if not chosen:
                raise DownloadError(
                    f"{target} holds none of the files asked for", hint="download them once without --offline"
                )
            view.start(f"verifying {request.repository}", sum(file.size for file in files))
            verify_folder(target, files, lambda path, size: _count_whole(view, path, size))
            unhashed = tuple(path for path, entry in manifest.files.items() if entry["verified"] == "size")
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


def measure_free_disk(folder: Path) -> int:
    """Return the free bytes of the disk on which a folder lies or would be made."""
    with explain_os_error(folder):
        existing = folder.absolute()
        while not existing.exists():
            existing = existing.parent
        return shutil.disk_usage(existing).free


def _open_one_hub(requests: Sequence[Request], options: DownloadOptions) -> HubClient:
    """Return the hub of the requests; raises DownloadError when they are of two."""
    sites = list(dict.fromkeys(request.site for request in requests))
    if len(sites) > 1:
        names = [next(request.name for request in requests if request.site is site) for site in sites]
        raise DownloadError(f"{' and '.join(names)} are of two hubs", hint="download them in two calls")
    return open_hub(sites[0], options)


def _plan_download(listing: Listing, folder: Path, options: DownloadOptions) -> _Plan:
    request = listing.request
    target = folder / request.folder_name
    refuse_link(target)
    earlier = _read_own_manifest(target, request, options)
    include = options.include or request.include
    offered = _keep_split(listing.files, request, options)
    files = select_files(offered, include, options.exclude)
    if not files:
        asked = " ".join([f"--include {pattern!r}" for pattern in include])
        asked += "".join(f" --exclude {pattern!r}" for pattern in options.exclude)
        raise DownloadError(
            f"{request.repository}: no file is taken by {asked.strip()}; "
            f"there are {show_paths([file.path for file in listing.files])}",
            hint="quote the patterns; * also stands for /",
        )
    # One folder holds one commit: what an earlier call took stays in it, as the new commit has it.
    kept = dict.fromkeys(earlier.files) if earlier else {}
    offered += [file for file in listing.files if file.path in kept and file not in offered]
    files = select_files(offered, include, options.exclude, keep=kept)
    check_selection(files, request.repository, allow_unhashed=options.allow_unhashed)
    return _Plan(listing, target, files, earlier)


def _keep_split(files: Sequence[RemoteFile], request: Request, options: DownloadOptions) -> list[RemoteFile]:
    """Return the files of the split that is asked for, and those of none; raises DownloadError without any."""
    if not options.split:
        return list(files)
    splits = {file.path: options.find_split(file.path) for file in files}
    if options.split not in splits.values():
        known = ", ".join(sorted(filter(None, set(splits.values())))) or "none that its files' names tell"
        raise DownloadError(
            f"{request.repository} has no split '{options.split}'; it has {known}",
            hint="--split NAME, or --include GLOB",
        )
    return [file for file in files if splits[file.path] in ("", options.split)]


def _read_own_manifest(target: Path, request: Request, options: DownloadOptions) -> DownloadManifest | None:
    manifest = read_download_manifest(target)
    if manifest is None:
        return None
    held = Request(manifest.repository, site=SITES[manifest.hub]).name
    if (held, manifest.type) != (request.name, options.repo_type):
        raise OutputError(
            f"{target} holds the {manifest.type} {held}, not the {options.repo_type} {request.name}",
            hint="choose another --to",
        )
    return manifest


def _find_present(plan: _Plan, view: ProgressView, options: DownloadOptions) -> tuple[dict[str, str], list[str]]:
    """Return the sha256 by path of what needs no fetching, and those where a file of the user's is in the way.

    Raises: OutputError when something is in the way that may not be set aside.
    """
    earlier = {file.path: file for file in plan.earlier.remote_files()} if plan.earlier else {}
    candidates = [
        # Without a listed hash, the recorded one decides as long as the commit has not moved.
        earlier[file.path] if file.verified == "size" and plan.is_same_commit and file.path in earlier else file
        for file in plan.files
    ]
    if not plan.target.is_dir():
        return {}, find_conflicts(plan.target, plan.files, (), force=options.force)
    view.start(f"verifying {plan.target}", sum(file.size for file in candidates))
    present = find_intact(plan.target, candidates, lambda path, size: _count_whole(view, path, size))
    others = [earlier[file.path] for file in plan.files if file.path in earlier and file.path not in present]
    unchanged = find_intact(plan.target, others, lambda path, size: None)
    return present, find_conflicts(plan.target, plan.files, {*present, *unchanged}, force=options.force)


def _count_whole(view: ProgressView, path: str, size: int) -> None:
    view.advance(path, size, size)
    view.finish(path)


def _require_free_disk(folder: Path, works: Sequence[_Work]) -> None:
    needed = sum(work.count_missing_bytes() for work in works)
    free = measure_free_disk(folder)
    if needed > free:
        raise OutputError(
            f"{folder} has {free:,} bytes of free disk, and {needed:,} are needed",
            hint="free some disk space, choose another --to, or take fewer files with --include",
        )


def _carry_out(hub: HubClient, work: _Work, view: ProgressView) -> DownloadResult:
    plan, staging, missing = work.plan, work.staging, work.missing
    if not missing and not plan.gone:
        manifest = _make_manifest(plan, work.present)
        if manifest != plan.earlier:
            staging.record(manifest)
        staging.discard()
        return _describe(plan, "verified", 0)
    staging.open()
    fetched_bytes = work.count_missing_bytes()
    if missing:
        view.start(f"downloading {plan.listing.request.repository}", sum(file.size for file in missing))
        hub.fetch(plan.listing, missing, staging, view)
    staging.reuse(sorted(work.present))
    view.start(f"verifying {plan.listing.request.repository}", sum(file.size for file in missing))
    digests = dict(work.present)
    for file in missing:
        digests[file.path] = staging.seal(file)
        _count_whole(view, file.path, file.size)
    # One that the user has changed since is the user's own now, and stays.
    removed = find_intact(plan.target, plan.gone, lambda path, size: None)
    aside = staging.publish(_make_manifest(plan, digests), removed, work.in_the_way)
    result = _describe(plan, "updated" if plan.earlier else "downloaded", fetched_bytes, tuple(sorted(removed)))
    return result._replace(set_aside=tuple(aside))


def _make_manifest(plan: _Plan, digests: dict[str, str]) -> DownloadManifest:
    site = plan.listing.request.site
    return DownloadManifest(
        endpoint=plan.listing.endpoint,
        repository=plan.listing.request.repository,
        type=plan.listing.repo_type,
        revision=plan.listing.revision,
        commit=plan.listing.commit,
        files={
            file.path: {
                "bytes": file.size,
                "sha256": digests[file.path],
                "verified": file.verified,
            }
            for file in plan.files
        },
        clients=_read_client_versions(site),
        hub=site.key,
    )


def _read_client_versions(site: Site) -> dict[str, str]:
    clients = {"llamafactory-companion": __version__}
    for name in site.packages:
        try:
            clients[name] = version(name)
        except PackageNotFoundError:
            continue
    return clients


def _describe(plan: _Plan, state: str, fetched_bytes: int, removed: tuple[str, ...] = ()) -> DownloadResult:
    listing = plan.listing
    unhashed = tuple(file.path for file in plan.files if file.verified == "size")
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
