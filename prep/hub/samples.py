"""The bundled sample datasets: our own rows in the exact shapes of the real sets."""

from contextlib import ExitStack
from importlib.resources import as_file, files
from pathlib import Path

from prep.errors import InputError
from prep.storage.atomic import refuse_existing, stage_file
from prep.storage.locks import lock_file

SAMPLE_FILES = ("r1_data_example.jsonl", "finetome_example.parquet")


def check_sample_name(name: object) -> str:
    """Return the name of a bundled sample file; raises InputError for any other, whatever path it is."""
    if name not in SAMPLE_FILES:
        raise InputError(
            f"there is no sample {str(name)[:80]!r}", hint=f"the samples are {', '.join(SAMPLE_FILES)}"
        )
    return str(name)


def copy_samples(folder: Path, *, force: bool = False) -> list[Path]:
    """Copy the sample files into a folder and return their paths: all of them, or none.

    Raises: OutputError when one stands there, or cannot be written.
    """
    targets = [folder / check_sample_name(name) for name in SAMPLE_FILES]
    for target in targets:
        refuse_existing(target, force=force)
    with ExitStack() as stack:
        for target in targets:
            stack.enter_context(lock_file(target, timeout_s=0))
        staged = [stack.enter_context(stage_file(target)) for target in targets]
        for target, out in zip(targets, staged, strict=True):
            with as_file(files("llamafactory_configs") / "samples" / target.name) as source:
                out.write(source.read_bytes())
            out.flush()
        for target in targets:
            # Another may have written it meanwhile.
            refuse_existing(target, force=force)
        for out in staged:
            out.publish()
    return targets
