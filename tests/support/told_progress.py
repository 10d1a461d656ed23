"""What a step tells of itself, written down."""

from prep.progress import Progress


class ToldProgress(Progress):
    """Adds up rows; `expected` and `shares` are what was told of the whole."""

    def __init__(self) -> None:
        self.rows, self.expected = 0, 0
        self.shares: list[float] = []

    def __call__(self, rows: int) -> None:
        self.rows += rows

    def expect(self, rows: int) -> None:
        self.expected = rows

    def reach(self, share: float) -> None:
        self.shares.append(share)
