"""Measure some steps of a LLaMA-Factory training on the rows of its own set, the longest first.

This file is a program that the Python with the training stack runs:

    trial.py --to FILE [--steps N] [--seconds S] [--max-bytes N] [--whole-steps N] [--in-order]
             [--boost off|keep [--compile]] CONFIG

LLaMA-Factory's own entry trains, plain or boosted (boost.py, beside this file), on chosen rows: the first two
steps are the largest of the whole training, in whose order they are looked for, so that memory that does not
suffice shows at once; the others have rows of all lengths in the shares in which the set has them. The same rows in
the same order, whatever the config's batches look like. The process ends as soon as enough was seen, and saves no
weights.

--whole-steps is how many steps the whole training has, where its config says; --in-order, that it does not shuffle.

--max-bytes lets the training have no more memory than a smaller GPU would give it; without a GPU, than a process
that the system limits.

FILE gets one JSON line an event: {"event": "rows", "tokens": [a step's real tokens, …], "all_rows", "all_tokens"},
{"event": "start"}, {"event": "step", "step", "at", "peak"}, {"event": "loss", "step", "loss"}, {"event": "end"};
`at` is in seconds of the epoch, `peak` in bytes.

Exit codes: LLaMA-Factory's; 78 when it cannot be boosted; 79 when the boost would not be the same training.
Source: LLaMA-Factory 0.9.5, train/*/workflow.py (get_dataset) and train/tuner.py (run_exp).
"""

import argparse
import functools
import importlib
import importlib.util
import json
import os
import random
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

EXIT_NOT_THE_SAME = 79
_STAGES = ("pt", "sft", "rm", "dpo", "kto")
_LARGE_STEPS = 2
# Beyond this, looking at every step takes minutes.
_MOST_ROWS_SEEN = 5_000_000
# The speed is steady after so many steps, or where these take long, after so many seconds of them.
_WARM_STEPS, _WARM_SECONDS, _LEAST_WARM_STEPS = 10, 6.0, 3
_LEAST_STEADY_STEPS = 3
_SEED = 42


def main(argv: Sequence[str]) -> int:
    """Train until enough was seen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--max-bytes", type=int, default=0)
    parser.add_argument("--whole-steps", type=int, default=0)
    parser.add_argument("--in-order", action="store_true")
    parser.add_argument("--boost", choices=("off", "keep"))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("config")
    given = parser.parse_args(argv)
    if given.boost and not {"PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"} & set(os.environ):
        # As boost.py does, which is too late to do it once torch is there.
        os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"
    sys.argv = ["llamafactory-cli", given.config]
    tuner: Any = importlib.import_module("llamafactory.train.tuner")
    if given.max_bytes:
        limit_memory(given.max_bytes)
    notes = Notes(given.to)
    for stage in _STAGES:
        workflow: Any = importlib.import_module(f"llamafactory.train.{stage}.workflow")
        workflow.get_dataset = choose_rows(workflow.get_dataset, given, notes)
    watch = make_watch(notes, given.seconds)
    tuner.run_exp = functools.partial(tuner.run_exp, callbacks=[watch])
    if not given.boost:
        tuner.run_exp()
        return 0
    boost = load_neighbour("boost")
    boost.start_instead = lambda *_: EXIT_NOT_THE_SAME
    compiled = "on" if given.compile else "off"
    told = [
        "--checkpointing",
        given.boost,
        "--compile",
        compiled,
        "--report",
        str(given.to.with_name("boost.json")),
    ]
    return int(boost.main([*told, given.config]))


def load_neighbour(name: str) -> Any:
    """Import the module that stands beside this file, however this file was started."""
    spec = importlib.util.spec_from_file_location(f"lfc_{name}", Path(__file__).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise ImportError(f"{name}.py does not stand beside {__file__}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def limit_memory(most: int) -> None:
    """Let this process have so many bytes of its GPU; without one, so many more of the machine than it has now."""
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, most / total))
        return
    resource = importlib.import_module("resource")
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    held = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (held + most, held + most))


class Notes:
    """The file of events."""

    def __init__(self, path: Path) -> None:
        """Begin the file anew."""
        self._stream = path.open("w", encoding="utf-8")

    def add(self, event: str, **values: Any) -> None:
        """Write one event down at once."""
        self._stream.write(json.dumps({"event": event, **values}) + "\n")
        self._stream.flush()


def choose_rows(get_dataset: Any, given: Any, notes: Notes) -> Any:
    """Return LLaMA-Factory's get_dataset with the rows of a trial in the place of the whole set."""

    def get_chosen(template: Any, model: Any, data: Any, training: Any, *args: Any, **kwargs: Any) -> Any:
        module = get_dataset(template, model, data, training, *args, **kwargs)
        rows = module["train_dataset"]
        size = training.per_device_train_batch_size * training.gradient_accumulation_steps
        lengths = measure_rows(rows)
        orders = (
            [range(len(lengths))]
            if given.in_order
            else list_orders(len(lengths), size, given.whole_steps, training)
        )
        places = order_rows(lengths, size, given.steps, find_largest(lengths, size, orders))
        tokens = [
            sum(lengths[place] for place in places[start : start + size]) for start in range(0, len(places), size)
        ]
        notes.add("rows", tokens=tokens, all_rows=len(lengths), all_tokens=sum(lengths), longest=max(lengths))
        return {**module, "train_dataset": rows.select(places)}

    return get_chosen


def measure_rows(rows: Any) -> list[int]:
    """Return how many tokens each row has; of a pair both answers."""
    names = [
        name
        for name in ("input_ids", "chosen_input_ids", "rejected_input_ids", "kl_input_ids")
        if name in rows.column_names
    ]
    columns = [[len(ids) for ids in rows[name]] for name in names]
    return [sum(lengths) for lengths in zip(*columns, strict=True)]


def list_orders(rows: int, size: int, steps: int, training: Any) -> Iterator[Sequence[int]]:
    """Yield the order of rows in each epoch of the whole training, `size` rows a step.

    Source: accelerate 1.11, data_loader.SeedableRandomSampler; transformers 5.6, Trainer._get_train_sampler.
    """
    torch = importlib.import_module("torch")
    seed = training.seed if training.data_seed is None else training.data_seed
    epochs = -(-steps * size // rows) if steps else int(-(-training.num_train_epochs // 1))
    for epoch in range(min(epochs, max(1, _MOST_ROWS_SEEN // rows))):
        generator = torch.Generator()
        generator.manual_seed(seed + epoch)
        yield torch.randperm(rows, generator=generator).tolist()


def find_largest(lengths: Sequence[int], size: int, orders: Iterable[Sequence[int]]) -> list[int]:
    """Return the rows of the step with the most tokens, then those of the one with the longest row.

    >>> find_largest([1, 5, 3, 4, 3, 3], 2, [range(6)])
    [2, 3, 0, 1]
    """
    batches = [
        list(order[start : start + size]) for order in orders for start in range(0, len(order) - size + 1, size)
    ]
    if not batches:
        return []
    most = max(batches, key=lambda batch: sum(lengths[place] for place in batch))
    longest = max(batches, key=lambda batch: max(lengths[place] for place in batch))
    return [*most, *longest]


def order_rows(lengths: Sequence[int], size: int, steps: int, first: Sequence[int] = ()) -> list[int]:
    """Return which rows are trained, `size` a step: two large steps first, then all lengths alike.

    Shape: `first` are the rows of the first two steps; the longest of the set where there are none.

    >>> order_rows([3, 1, 2], 1, 4)
    [0, 2, 1, 0]
    """
    ranked = sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    large = list(first) or [ranked[number % len(ranked)] for number in range(_LARGE_STEPS * size)]
    wanted = max(0, (steps - _LARGE_STEPS) * size)
    # One row of each part of the lengths: the mean is that of the set with few rows already.
    spread = [ranked[(2 * number + 1) * len(ranked) // (2 * wanted)] for number in range(wanted)]
    random.Random(_SEED).shuffle(spread)  # noqa: S311 - no secret
    return [*large, *spread]


def make_watch(notes: Notes, seconds: float) -> Any:
    """Return the callback that notes each step, and ends the process when enough was seen."""
    torch = importlib.import_module("torch")
    is_gpu = torch.cuda.is_available()

    class Watch(importlib.import_module("transformers").TrainerCallback):  # type: ignore[misc]
        """Notes times, memory and losses."""

        first = steady = 0.0
        steady_step = 0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            notes.add("start", at=time.time())

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            now, step = time.time(), int(state.global_step)
            peak = torch.cuda.max_memory_allocated() if is_gpu else read_peak()
            notes.add("step", step=step, at=now, peak=peak)
            self.first = self.first or now
            if not self.steady:
                if step >= _WARM_STEPS or (step >= _LEAST_WARM_STEPS and now - self.first >= _WARM_SECONDS):
                    self.steady, self.steady_step = now, step
                    notes.add("steady", step=step)
            elif step >= self.steady_step + _LEAST_STEADY_STEPS and now - self.steady >= seconds:
                control.should_training_stop = True

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                notes.add("loss", step=int(state.global_step), loss=float(logs["loss"]))

        def on_train_end(self, *_: Any, **__: Any) -> None:
            notes.add("end")
            sys.stdout.flush()
            sys.stderr.flush()
            # Nothing is saved: an adapter of some steps is of no use to anybody.
            os._exit(0)

    return Watch()


def read_peak() -> int:
    """Return the most memory that this process has had, in bytes; 0 where the system does not tell."""
    try:
        resource = importlib.import_module("resource")
    except ImportError:
        return 0
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
