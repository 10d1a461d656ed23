"""How a step tells what it has done, while it works."""


class Progress:
    """Called with the rows that were done since the last call; this one shows nobody anything."""

    def __call__(self, rows: int) -> None:
        """Take note of rows that are done."""

    def expect(self, rows: int) -> None:
        """Take note of how many rows there are in all, where that is known."""

    def reach(self, share: float) -> None:
        """Take note of the share of the input, 0 to 1, that is done, where the number of its rows is not known."""


SILENT = Progress()
