"""Regular expressions that are compiled when they are first used: a run needs few of those that there are."""

import re
from typing import Any


class LazyPattern:
    """Stands for `re.compile(pattern, flags)`, whose methods and attributes it has."""

    def __init__(self, pattern: str, flags: int = 0) -> None:
        self.pattern = pattern
        self.flags = flags

    def __getattr__(self, name: str) -> Any:
        compiled = re.compile(self.pattern, self.flags)
        # From now on they are found without this call.
        for method in ("match", "fullmatch", "search", "sub", "split", "findall", "finditer"):
            self.__dict__[method] = getattr(compiled, method)
        return getattr(compiled, name)
