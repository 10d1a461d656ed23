"""Where the files of images, videos and audio are, and what a row calls them so that LLaMA-Factory finds them."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from prep.errors import RecordError
from prep.rows.records import MediaFiles
from prep.storage.paths import is_file

_URL = re.compile(r"(?:https?|data|s3|oss|ftp):", re.IGNORECASE)
_MAX_KNOWN = 50_000
_MAX_PATH_CHARACTERS = 4096


@dataclass(frozen=True)
class MediaFolders:
    """The folders in which a relative path is looked for, in order, and the one that written paths start from.

    LLaMA-Factory joins a path to `media_dir`, which is the folder of dataset_info.json unless a config says more.
    """

    looked_in: tuple[Path, ...]
    written_from: Path
    keeps_missing: bool = False
    _known: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def find_files(self, media: MediaFiles) -> MediaFiles:
        """Return the media with each path as it is to be written.

        Raises: RecordError when a file does not exist, or is on the network.
        """
        return tuple((name, tuple(map(self._find, paths))) for name, paths in media)

    def _find(self, path: str) -> str:
        if path not in self._known:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[path] = self._look(path)
        return self._known[path]

    def _look(self, path: str) -> str:
        shown = path if len(path) <= 80 else f"{path[:79]}…"
        if _URL.match(path):
            raise RecordError(f"{shown} is no file on this disk", hint="save it, and write the file's path")
        if len(path) > _MAX_PATH_CHARACTERS or "\0" in path:
            raise RecordError(f"{shown} is no path")
        for folder in self.looked_in:
            found = folder / path
            if is_file(found):
                return self._name(found)
        if self.keeps_missing:
            return path
        raise RecordError(
            f"{shown} does not exist in {self.looked_in[0].as_posix()}",
            hint="name its folder with --media-dir DIR, or keep such paths with --missing-media keep",
        )

    def _name(self, found: Path) -> str:
        try:
            return Path(os.path.relpath(found, self.written_from)).as_posix()
        except ValueError:
            # Another drive, on Windows.
            return found.absolute().as_posix()
