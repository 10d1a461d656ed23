"""What a step tells of itself, written down."""

from prep.progress import Progress


class ToldProgress(Progress):
    """Keeps the count of each call, and what was told of the whole."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.expected = 0
        self.shares: list[float] = []

    def __call__(self, rows: int) -> None:
        self.counts.append(rows)

    @property
    def rows(self) -> int:
        return sum(self.counts)

    def expect(self, rows: int) -> None:
        self.expected = rows

    def reach(self, share: float) -> None:
        self.shares.append(share)
