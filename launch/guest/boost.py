"""Train with LLaMA-Factory faster, and train the same: its own entry, with batches that hold no padding.

This file is a program that the Python with the training stack runs in the place of `llamafactory-cli train CONFIG
[key=value …]`:

    boost.py [--checkpointing auto|keep|off] [--compile auto|on|off] [--report FILE] CONFIG [key=value …]

It needs the files beside it, boostable.py, padding_free.py, piecewise_loss.py and rehearsal.py, and nothing else of
ours.

The same rows train in the same order, with the same labels and the same weight in the loss. Before the first step
the loss of the first batches is computed both ways; where it differs, LLaMA-Factory starts anew without any change.

auto: without gradient checkpointing where the longest rows leave memory free on the GPU, measured by a rehearsal of
that batch, else with what the config says; layers compiled where the run is long enough to pay for it.

Exit codes: those of LLaMA-Factory; 78 when the run cannot be boosted, with the reason as the last line on stderr.
Files: FILE (by default boost.json in output_dir) says whether the training is boosted, why not, and what was
compared.

Source: LLaMA-Factory 0.9.5. Changed while it runs: train.tuner.get_train_args; get_train_dataloader and
compute_loss of train.sft.trainer.CustomSeq2SeqTrainer and train.pt.trainer.CustomTrainer; and with
`--checkpointing off` model.model_utils.unsloth._get_unsloth_kwargs and model.adapter.get_unsloth_peft_model.
"""

import argparse
import contextlib
import gc
import importlib
import importlib.util
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

EXIT_REFUSED = 78
# Of one batch's loss, boosted against plain; relative, for losses below 1 absolute.
TOLERANCE_FLOAT32, TOLERANCE_HALF = 1e-5, 2e-3
_CHECKED_ROWS, _CHECKED_BATCHES = 8, 2
# Compiling takes 77 to 118 s and saves about 0.14 s a batch (benchmarks/gpu/train_speed.py, one H100).
_COMPILED_FROM_BATCHES = 1_500


def load_neighbour(name: str) -> Any:
    """Import the module that stands beside this file, however this file was started."""
    spec = importlib.util.spec_from_file_location(f"lfc_{name}", Path(__file__).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise ImportError(f"{name}.py does not stand beside {__file__}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


boostable = load_neighbour("boostable")
padding_free = load_neighbour("padding_free")
piecewise_loss = load_neighbour("piecewise_loss")
rehearsal = load_neighbour("rehearsal")


class NotTheSameError(Exception):
    """The boosted training would not be the same training."""


class OtherOptionsError(Exception):
    """The boosted training has to start anew with other options; `options` are these."""

    def __init__(self, options: "Options", reason: str):
        super().__init__(reason)
        self.options = options


@dataclass(frozen=True)
class Options:
    """What the command line asks for; `training` is what LLaMA-Factory reads."""

    checkpointing: str
    compile: str
    report: str | None
    training: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        """The command line that asks for the same."""
        report = ["--report", self.report] if self.report else []
        return ["--checkpointing", self.checkpointing, "--compile", self.compile, *report, *self.training]


@dataclass
class Report:
    """What becomes of the boost: boost.json."""

    options: Options
    path: Path | None
    active: bool = False
    reason: str | None = None
    tolerance: float | None = None
    selfcheck: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    has_checkpointing: bool | None = None
    compiled_layers: int = 0
    has_piecewise_loss: bool = False
    rehearsal: dict[str, Any] | None = None

    def write(self) -> None:
        """Write the file whole or not at all, where its place is known."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f".{self.path.name}.partial")
        text = json.dumps({**asdict(self), "path": str(self.path)}, indent=1)
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(self.path)


def main(argv: Sequence[str]) -> int:
    """Train boosted; refuse with 78, or start LLaMA-Factory unchanged when the boosted losses differ."""
    options = parse_options(argv)
    report = Report(options, Path(options.report) if options.report else None)
    try:
        train(options, report)
    except boostable.RefusedError as reason:
        report.active, report.reason = False, str(reason)
        report.write()
        sys.stderr.write(f"boost refused: {reason}\n")
        return EXIT_REFUSED
    except NotTheSameError as reason:
        report.active, report.reason = False, str(reason)
        report.write()
        sys.stderr.write(f"boost off, LLaMA-Factory starts anew without it: {reason}\n")
        return start_instead("-m", "llamafactory.cli", "train", *options.training)
    except OtherOptionsError as error:
        sys.stderr.write(f"boost starts anew: {error}\n")
        return start_instead(__file__, *error.options.words)
    return 0


def parse_options(argv: Sequence[str]) -> Options:
    """Return what the command line asks for; a wrong call ends with 2, as argparse does."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--checkpointing", choices=("auto", "keep", "off"), default="auto")
    parser.add_argument("--compile", choices=("auto", "on", "off"), default="auto")
    parser.add_argument("--report")
    parser.add_argument("training", nargs="+", metavar="CONFIG [key=value …]")
    given = parser.parse_args(argv)
    return Options(given.checkpointing, given.compile, given.report, tuple(given.training))


def start_instead(*words: str) -> int:
    """Start another Python program in the place of this process where the system can do that."""
    command = [sys.executable, "-P", *words]
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name != "nt":
        os.execv(command[0], command)  # noqa: S606  # does not return; signals go on reaching the training
    return subprocess.call(command)


def train(options: Options, report: Report) -> None:
    """Run LLaMA-Factory's own training with the changes in place.

    Raises: RefusedError, NotTheSameError, and OtherOptionsError when what auto chose does not work.
    """
    boostable.check_surroundings(os.environ)
    if not {"PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"} & set(os.environ):
        # Batches of ever other lengths leave holes in memory that nothing fits into.
        os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"
    report.versions = boostable.read_versions()
    tuner = importlib.import_module("llamafactory.train.tuner")
    boostable.check_devices()
    checkpointing_off = is_checkpointing_off(options)
    sys.argv = ["llamafactory-cli", *options.training]
    with contextlib.ExitStack() as changes:
        original = tuner.get_train_args

        def get_train_args(*args: Any) -> Any:
            model, data, training, finetuning, generating = original(*args)
            report.path = report.path or Path(training.output_dir) / "boost.json"
            boostable.check_arguments(model, data, training, finetuning, compiled=options.compile == "on")
            module, name = boostable.TRAINERS[finetuning.stage]
            trainer = getattr(importlib.import_module(module), name)
            changes.enter_context(change_trainer(trainer, options, report, model))
            if checkpointing_off:
                changes.enter_context(turn_checkpointing_off(model, training))
            return model, data, training, finetuning, generating

        changes.enter_context(replaced(tuner, "get_train_args", get_train_args))
        tuner.run_exp()


def is_checkpointing_off(options: Options) -> bool:
    """Whether gradient checkpointing is turned off; auto tries that on a GPU, where the memory can be measured."""
    if options.checkpointing == "auto":
        return bool(importlib.import_module("torch").cuda.is_available())
    return options.checkpointing == "off"


def pays_to_compile(trainer: Any, model_args: Any) -> bool:
    """Whether a run has so many batches that compiled layers save more time than compiling takes."""
    if trainer.args.device.type != "cuda" or model_args.use_unsloth or model_args.quantization_bit is not None:
        return False
    accumulation = trainer.args.gradient_accumulation_steps
    if trainer.args.max_steps > 0:
        return bool(trainer.args.max_steps * accumulation >= _COMPILED_FROM_BATCHES)
    batches = len(trainer.train_dataset) / trainer.args.per_device_train_batch_size
    return bool(batches * trainer.args.num_train_epochs >= _COMPILED_FROM_BATCHES)


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Put `value` in the place of an attribute for a while."""
    own = name in vars(owner)
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, original)
        else:
            delattr(owner, name)


@contextlib.contextmanager
def turn_checkpointing_off(model: Any, training: Any) -> Iterator[None]:
    """Turn gradient checkpointing off, with Unsloth too, where LLaMA-Factory asks for it whatever a config says."""
    model.disable_gradient_checkpointing = True
    training.gradient_checkpointing = False
    source = importlib.import_module("llamafactory.model.model_utils.unsloth")
    adapter = importlib.import_module("llamafactory.model.adapter")
    original = source._get_unsloth_kwargs

    def get_unsloth_kwargs(*args: Any) -> dict[str, Any]:
        return {**original(*args), "use_gradient_checkpointing": False}

    def get_unsloth_peft_model(model: Any, model_args: Any, peft_kwargs: dict[str, Any]) -> Any:
        unsloth = importlib.import_module("unsloth").FastLanguageModel
        length = model_args.model_max_length
        return unsloth.get_peft_model(
            model=model, max_seq_length=length, use_gradient_checkpointing=False, **peft_kwargs
        )

    with (
        replaced(source, "_get_unsloth_kwargs", get_unsloth_kwargs),
        replaced(adapter, "get_unsloth_peft_model", get_unsloth_peft_model),
    ):
        yield


@contextlib.contextmanager
def change_trainer(trainer_class: Any, options: Options, report: Report, model_args: Any) -> Iterator[None]:
    """Give LLaMA-Factory's trainer batches without padding in training; evaluation stays as it is."""
    get_dataloader, compute_loss = trainer_class.get_train_dataloader, trainer_class.compute_loss

    def get_train_dataloader(self: Any) -> Any:
        flat = padding_free.PaddingFreeCollator(self.data_collator, for_unsloth=model_args.use_unsloth)
        if not report.active:
            compiled = options.compile == "on" or (options.compile == "auto" and pays_to_compile(self, model_args))
            # LLaMA-Factory itself sets use_unsloth to false for a model that Unsloth does not know.
            for_unsloth = model_args.use_unsloth
            with starts_anew_with_less(options, compiled=compiled):
                compare_losses(
                    self, flat, report, lambda: install(self.model, report, for_unsloth, compiled=compiled)
                )
        with replaced(self, "data_collator", flat):
            loader = get_dataloader(self)
        if not report.active:
            rehearse(self, flat, loader, options, report)
            # What is there now stays to the end: a search for garbage through all of it takes half a second.
            gc.collect()
            gc.freeze()
            report.active = True
            report.write()
        return loader

    def compute_boosted_loss(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return compute_loss(self, model, padding_free.ignore_first_labels(inputs), *args, **kwargs)

    with (
        replaced(trainer_class, "get_train_dataloader", get_train_dataloader),
        replaced(trainer_class, "compute_loss", compute_boosted_loss),
    ):
        yield


@contextlib.contextmanager
def starts_anew_with_less(options: Options, *, compiled: bool) -> Iterator[None]:
    """Let the training start anew when what auto chose does not fit, does not run, or computes something else."""
    try:
        yield
    except importlib.import_module("torch").OutOfMemoryError as error:
        if options.checkpointing != "auto":
            raise
        raise OtherOptionsError(replace(options, checkpointing="keep"), f"the first batches: {error}") from error
    except Exception as error:
        if not compiled or options.compile != "auto":
            raise
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise OtherOptionsError(
            replace(options, compile="off"), f"compiled layers do not work: {reason}"
        ) from error


def rehearse(trainer: Any, flat: Any, loader: Any, options: Options, report: Report) -> None:
    """Measure the largest batch; raises OtherOptionsError when it needs the checkpointing that auto took away."""
    if not hasattr(trainer.train_dataset, "__len__"):
        if options.checkpointing == "auto" and is_checkpointing_off(options):
            reason = "the rows are streamed, and which are the longest is not known"
            raise OtherOptionsError(replace(options, checkpointing="keep"), reason)
        return
    try:
        measured = rehearsal.rehearse(trainer, flat, loader)
    except rehearsal.TooLargeError as error:
        if options.checkpointing == "auto":
            raise OtherOptionsError(replace(options, checkpointing="keep"), str(error)) from error
        raise
    if measured is None:
        return
    if options.checkpointing == "auto" and not measured.fits:
        needed, budget = measured.peak_bytes + measured.optimizer_bytes, measured.budget_bytes
        reason = f"without gradient checkpointing {needed:,} bytes of {budget:,} are needed"
        raise OtherOptionsError(replace(options, checkpointing="keep"), reason)
    report.rehearsal = {**asdict(measured), "fits": measured.fits}


def install(model: Any, report: Report, for_unsloth: bool, *, compiled: bool) -> None:
    """Change the loaded model: its attention, its loss, and its layers' code where that is asked for."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if for_unsloth:
        padding_free.give_unsloth_varlen()
    else:
        padding_free.install_attention(base)
        # Unsloth has such a loss of its own.
        report.has_piecewise_loss = piecewise_loss.install(base)
    if compiled:
        report.compiled_layers = padding_free.compile_layers(base)
    report.has_checkpointing = any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def compare_losses(trainer: Any, flat: Any, report: Report, install_boost: Callable[[], None]) -> None:
    """Compute the first batches' losses plain and boosted, without dropout; raises NotTheSameError."""
    torch = importlib.import_module("torch")
    size = trainer.args.per_device_train_batch_size
    count = max(_CHECKED_BATCHES, -(-_CHECKED_ROWS // size))
    rows = list(itertools.islice(iter(trainer.train_dataset), count * size))
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    # What is drawn here must not change what the training draws.
    with torch.random.fork_rng(), without_dropout(trainer.model):
        plain = [compute_one_loss(trainer, trainer.data_collator, batch, torch.no_grad()) for batch in batches]
        install_boost()
        # With gradients, as in training: so layers are compiled once.
        boosted = [compute_one_loss(trainer, flat, batch, torch.enable_grad()) for batch in batches]
    is_half = trainer.args.bf16 or trainer.args.fp16 or trainer.model.dtype != torch.float32
    report.tolerance = TOLERANCE_HALF if is_half else TOLERANCE_FLOAT32
    report.selfcheck = [
        {
            "rows": len(batch),
            "plain": first,
            "boosted": second,
            "difference": abs(second - first) / max(1.0, abs(first)),
        }
        for batch, first, second in zip(batches, plain, boosted, strict=True)
    ]
    worst = max(entry["difference"] for entry in report.selfcheck)
    if not worst <= report.tolerance:  # not so either when a loss is not a number
        raise NotTheSameError(
            f"a batch's loss differs by {worst:.1e} from the plain one, {report.tolerance:.0e} is allowed"
        )


def compute_one_loss(trainer: Any, collate: Any, rows: list[Any], mode: Any) -> float:
    """Return one batch's loss as the trainer computes it and divides it."""
    batch = collate([dict(row) for row in rows])
    (batch,), count = trainer.get_batch_samples(iter([batch]), 1, trainer.args.device)
    inputs = trainer._prepare_inputs(batch)
    with mode, trainer.accelerator.autocast():
        return float(trainer.compute_loss(trainer.model, inputs, num_items_in_batch=count).detach())


@contextlib.contextmanager
def without_dropout(model: Any) -> Iterator[None]:
    """Put the model into training, but for its dropout."""
    dropouts = [module for module in model.modules() if "Dropout" in type(module).__name__]
    model.train()
    for module in dropouts:
        module.eval()
    try:
        yield
    finally:
        model.train()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
