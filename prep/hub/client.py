"""What a hub's client is to a download, whichever hub it is: what it is asked, what it answers, what it shows.

`prep.hub.modelscope` and `prep.hub.huggingface` are the two; everything that a download checks, it checks of both.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from prep.errors import DownloadError
from prep.hub.catalog import Request
from prep.hub.endpoint import Site
from prep.hub.interrupts import RESUME_HINT, stop_when_stalled
from prep.hub.listing import RemoteFile
from prep.hub.snapshot import Staging

if TYPE_CHECKING:
    from prep.hub.transport import Guard

DEFAULT_TIMEOUT_S = 300.0
SHOWN_REVISIONS = 20


@dataclass(frozen=True)
class DownloadOptions:
    """How to download: the same for all repositories of one call. `token` is never shown or written.

    `timeout_s` bounds the listing of a repository in all, and how long its files may stand still. Of a `split` only
    the files are taken for which `find_split` says it, or says "": those of no split.
    """

    repo_type: str = "dataset"
    revision: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    endpoint: str | None = None
    token: str | None = field(default=None, repr=False)
    jobs: int = 4
    force: bool = False
    allow_unhashed: bool = False
    timeout_s: float = DEFAULT_TIMEOUT_S
    split: str = ""
    find_split: Callable[[str], str] = lambda _: ""


class ProgressView(Protocol):
    """Shown what goes on; called from several threads."""

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
class Listing:
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
        parts = [self.request.name, self.commit or "", *map(str, () if self.commit else self.files)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


class HubClient(ABC):
    """One hub, asked with the options of one call. Its errors are DownloadErrors, without the token."""

    site: Site
    options: DownloadOptions
    endpoint: str
    _guard: "Guard"

    @abstractmethod
    def list_repository(self, request: Request) -> Listing:
        """Ask for all files of a repository, and check the answer."""

    @abstractmethod
    def fetch(self, listing: Listing, files: Sequence[RemoteFile], staging: Staging, view: ProgressView) -> None:
        """Fetch files into the staging folder, going on where an earlier run stopped."""

    @abstractmethod
    def _explain(self, repository: str) -> AbstractContextManager[None]:
        """Turn the client's errors into one line of ours, without the token."""

    @contextmanager
    def _explain_answer(self, repository: str) -> Iterator[None]:
        """Explain errors around questions to the hub, whose answers the client takes apart without a look."""
        try:
            with (
                self._explain(repository),
                self._guard.expect_answers(self.options.timeout_s),
                stop_when_stalled(self.options.timeout_s, self._explain_slow_answer),
            ):
                yield
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            # Without its cause, which repeats what the server said.
            raise DownloadError(
                f"{repository}: {self.endpoint} answers with something else than a hub's JSON", hint=self.site.hint
            ) from (None if self._guard.secrets else error)

    def _explain_slow_answer(self) -> tuple[str, str]:
        from prep.hub.transport import explain_slow_answer

        return explain_slow_answer(self.endpoint, self.options.timeout_s)

    def _explain_stall(self) -> tuple[str, str]:
        return (
            f"{self.endpoint} has sent next to nothing for {self.options.timeout_s:g} seconds",
            f"{RESUME_HINT}; --timeout waits longer",
        )


def open_hub(site: Site, options: DownloadOptions) -> HubClient:
    """Return the client of a hub; raises DownloadError when its endpoint or token cannot be."""
    if site.key == "huggingface":
        from prep.hub.huggingface import HuggingFaceHub

        return HuggingFaceHub(options)
    from prep.hub.modelscope import ModelScopeHub

    return ModelScopeHub(options)


class Progress:
    """Passes the client's progress on; a view that fails does not make the client fetch a file again."""

    def __init__(self, view: ProgressView) -> None:
        self._view = view
        self._counted: dict[str, int] = {}
        self._received = 0
        self._fault: Exception | None = None

    def count_bytes(self) -> int:
        """Return how many bytes have come, those that came twice too."""
        return self._received

    def raise_fault(self) -> None:
        """Raise what the view raised first: it is a fault of ours, not of the network."""
        if self._fault is not None:
            raise self._fault

    def restart(self, path: str, size: int) -> None:
        """Take back a file that had failed: the client counts it from the start again."""
        earlier = self._counted.pop(path, None)
        if earlier is not None:
            self.show(lambda view: view.advance(path, size, -earlier))

    def advance(self, path: str, size: int, byte_count: int, received: int | None = None) -> None:
        """Count bytes of a file; `received` are those of them that just came, all of them unless it is given."""
        self._counted[path] = self._counted.get(path, 0) + byte_count
        self._received += max(0, byte_count if received is None else received)
        self.show(lambda view: view.advance(path, size, byte_count))

    def show(self, tell: Callable[[ProgressView], None]) -> None:
        """Tell the view, as long as it has not failed."""
        if self._fault is None:
            try:
                tell(self._view)
            except Exception as error:  # noqa: BLE001
                # Raised when the client has ended: inside it, every error of ours becomes one of the network.
                self._fault = error
