"""What comes in, in its order: readers → shards, by the fastest road that each reader has."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from prep.convert.inputs import InputHashes
from prep.convert.kernel import Job
from prep.convert.options import ConvertOptions
from prep.convert.plain import make_job
from prep.convert.roads.arrays import convert_array
from prep.convert.roads.batches import convert_batches
from prep.convert.roads.fields import convert_fields
from prep.convert.roads.lines import LineConverter, LineRange, make_range_converter
from prep.convert.shard import ConvertPlan, ShardResult, convert_rows
from prep.convert.where import all_hold
from prep.errors import RecordError
from prep.inputs.batches import BatchReader
from prep.inputs.json_documents import ArrayReader
from prep.inputs.lines import LinesReader
from prep.inputs.reader import BadRow, Reader, SourceRow
from prep.inputs.tables import DelimitedReader
from prep.parallel.threads import WorkAhead
from prep.storage.stream_hash import open_hash

if TYPE_CHECKING:
    from prep.parallel.cluster import ClusterPool
    from prep.parallel.processes import WorkerPool

    _Pool = WorkerPool[LineRange, ShardResult] | ClusterPool[LineRange, ShardResult]

_SHARD_ROWS = 500
_RANGE_BYTES = 1 << 20
_BLOCK_BYTES = 2 << 20
_BLOCKS_AHEAD = 4
# Below this, starting processes takes longer than they save.
_PARALLEL_BYTES = 48 << 20
_MANY = 1 << 10


class RowStream:
    """The shards of all files in their order; `room` is a name for a folder beside the output, for a cluster."""

    def __init__(
        self,
        plan: ConvertPlan,
        readers: Sequence[Reader],
        options: ConvertOptions,
        hashes: InputHashes,
        stack: ExitStack,
        room: Path,
    ) -> None:
        self.plan = plan
        self._readers = readers
        self._options = options
        self._stack = stack
        self._room = room
        self._pool: _Pool | None = None
        self._hashes = hashes
        self._sizes = [reader.file.path.stat().st_size for reader in readers]

    def measure_share(self, index: int) -> float:
        """Return the share of the whole input that has been read, when the file of an index is being read."""
        before = sum(self._sizes[:index])
        return (before + self._sizes[index] * self._readers[index].share) / max(sum(self._sizes), 1)

    def read(self) -> Iterator[tuple[int, ShardResult]]:
        """Yield (the file's index, shard) for every file."""
        if self._options.limit is not None or self._options.sample is not None:
            yield from self._read_chosen()
            return
        for index, reader in enumerate(self._readers):
            with closing(self._read_one(index, reader)) as shards:
                for shard in shards:
                    yield index, shard

    def _read_one(self, index: int, reader: Reader) -> Generator[ShardResult, None, None]:
        """Take the fastest road that a reader has."""
        if isinstance(reader, BatchReader):
            return convert_batches(self.plan, reader)
        if isinstance(reader, ArrayReader):
            return convert_array(self.plan, reader)
        if isinstance(reader, DelimitedReader) and (job := make_job(self.plan, reader.file.label)) is not None:
            return self._read_fields(index, reader, job)
        if not isinstance(reader, LinesReader):
            return self._read_rows(reader)
        workers = self._count_workers(reader)
        return self._read_parallel(index, reader, workers) if workers > 1 else self._read_lines(index, reader)

    def _read_fields(self, index: int, reader: DelimitedReader, job: Job) -> Generator[ShardResult, None, None]:
        with closing(open_hash()) as digest:
            yield from convert_fields(self.plan, reader, job, digest.update)
            if not reader.is_packed:
                self._hashes.note(index, digest.hexdigest())

    def _read_rows(self, reader: Reader) -> Generator[ShardResult, None, None]:
        rows = reader.read_rows()
        while shard := list(islice(rows, _SHARD_ROWS)):
            yield convert_rows(self.plan, shard, reader.file.name, reader.file.label)

    def _count_workers(self, reader: LinesReader) -> int:
        """Return how many processes convert a file: several when it is large, and keeps the interpreter busy."""
        file = reader.file
        if self._options.cluster is not None and not reader.is_packed:
            # As many as it has.
            return _MANY
        if reader.is_packed or file.path.stat().st_size < _PARALLEL_BYTES:
            return 1
        with closing(reader.read_blocks()) as blocks:
            first = next(blocks)
        if LineConverter(self.plan, file.name, file.label).is_mostly_plain(first.data):
            return 1
        from prep.parallel.processes import count_workers

        return self._options.workers or count_workers()

    def _read_lines(self, index: int, reader: LinesReader) -> Generator[ShardResult, None, None]:
        """Read and hash in a thread, convert here."""

        def read() -> Generator[bytes, None, None]:
            for data in reader.read_bytes(_BLOCK_BYTES):
                digest.update(data)
                yield data

        converter = LineConverter(self.plan, reader.file.name, reader.file.label)
        with closing(open_hash()) as digest, closing(WorkAhead(read(), _BLOCKS_AHEAD)) as blocks:
            for data in blocks:
                yield converter.convert(data, converter.next_row)
            if not reader.is_packed:
                self._hashes.note(index, digest.hexdigest())

    def _read_parallel(self, index: int, reader: LinesReader, workers: int) -> Generator[ShardResult, None, None]:
        """Find the lines' ends and hash here, convert in the other processes."""

        def find_ranges() -> Iterator[LineRange]:
            for block in reader.read_blocks(_RANGE_BYTES):
                digest.update(block.data)
                yield LineRange(reader.file, block.start, len(block.data), block.first_row)

        if self._pool is None:
            self._pool = self._open_pool(workers)
        with closing(open_hash()) as digest:
            yield from self._pool.map(find_ranges())
            self._hashes.note(index, digest.hexdigest())

    def _open_pool(
        self, workers: int
    ) -> "WorkerPool[LineRange, ShardResult] | ClusterPool[LineRange, ShardResult]":
        if self._options.cluster is None:
            from prep.parallel.processes import WorkerPool

            return self._stack.enter_context(WorkerPool(workers, make_range_converter, self.plan))
        from prep.parallel.cluster import ClusterPool

        return self._stack.enter_context(
            ClusterPool(self._options.cluster, self._room, make_range_converter, self.plan)
        )

    def _read_chosen(self) -> Iterator[tuple[int, ShardResult]]:
        """Convert the rows that --limit and --sample choose, one after the other."""
        chosen = self._choose_rows()
        passed = 0
        for index, reader in enumerate(self._readers):
            file, rows = reader.file, []
            for row in reader.read_rows():
                takes = self._passes(row)
                if not takes or chosen is None or passed in chosen:
                    rows.append(row)
                passed += takes
                if len(rows) == _SHARD_ROWS:
                    yield index, convert_rows(self.plan, rows, file.name, file.label)
                    rows = []
                if passed == self._options.limit:
                    break
            yield index, convert_rows(self.plan, rows, file.name, file.label)
            if passed == self._options.limit:
                return

    def _choose_rows(self) -> set[int] | None:
        """Draw the sample among the rows that pass --where, and are within the limit."""
        import random

        if self._options.sample is None:
            return None
        total = sum(self._passes(row) for reader in self._readers for row in reader.read_rows())
        total = min(total, self._options.limit or total)
        # random.Random's sample is the same on every machine and Python since 3.11.
        rng = random.Random(self._options.seed)  # noqa: S311 - a draw, not a secret
        return set(rng.sample(range(total), min(self._options.sample, total)))

    def _passes(self, row: SourceRow | BadRow) -> bool:
        """Whether a row counts for --limit; a broken one does, and is rejected."""
        if isinstance(row, BadRow):
            return True
        try:
            return all_hold(self.plan.where, row.values)
        except RecordError:
            return True
