"""The bundled sample datasets: our own rows in the exact shapes of the real sets."""

from importlib.resources import as_file, files
from pathlib import Path

from prep.files import open_atomic, refuse_existing

SAMPLE_FILES = ("r1_data_example.jsonl", "finetome_example.parquet")


def copy_samples(folder: Path, *, force: bool = False) -> list[Path]:
    """Copy the sample files into a folder and return their paths; raises OutputError when one stands there."""
    targets = [folder / name for name in SAMPLE_FILES]
    for target in targets:
        refuse_existing(target, force=force)
    for target in targets:
        with as_file(files("llamafactory_configs") / "samples" / target.name) as source, open_atomic(target) as out:
            out.write(source.read_bytes())
    return targets
