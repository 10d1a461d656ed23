"""What auto chooses: checkpointing by a rehearsal of the longest rows, compiled layers by the length of the run."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launch.guest import boost

rehearsal: Any = boost.rehearsal
OPTIONS = boost.Options("auto", "auto", "boost.json", ("config.yaml", "max_steps=3"))
GIB = 1 << 30


def measured(peak: int, budget: int = 80 * GIB) -> Any:
    return rehearsal.Rehearsal(rows=8, tokens=9_000, peak_bytes=peak, optimizer_bytes=GIB, budget_bytes=budget)


def make_trainer(**changes: Any) -> Any:
    args = SimpleNamespace(
        device=SimpleNamespace(type="cuda"), gradient_accumulation_steps=2, max_steps=-1,
        per_device_train_batch_size=8, num_train_epochs=3.0, optim="adamw_torch",
    )  # fmt: skip
    for name, value in changes.items():
        setattr(args, name, value)
    return SimpleNamespace(args=args, train_dataset=[{"input_ids": [0]}] * 4_000)


@pytest.fixture
def report() -> boost.Report:
    return boost.Report(OPTIONS, None)


@pytest.mark.parametrize(
    ("peak", "fits"), [(10 * GIB, True), (72 * GIB, True), (73 * GIB, False), (90 * GIB, False)]
)
def test_what_fits_leaves_some_of_the_memory_free(peak: int, fits: bool) -> None:
    assert measured(peak).fits is fits


@pytest.mark.parametrize(
    ("checkpointing", "peak", "again"),
    [("auto", 10, None), ("auto", 79, "keep"), ("keep", 79, None), ("off", 79, None)],
)
def test_a_batch_that_fills_the_gpu_brings_checkpointing_back_where_auto_took_it(
    monkeypatch: pytest.MonkeyPatch, report: boost.Report, checkpointing: str, peak: int, again: str | None
) -> None:
    monkeypatch.setattr(rehearsal, "rehearse", lambda *_: measured(peak * GIB))
    options = replace(OPTIONS, checkpointing=checkpointing)
    if again is None:
        boost.rehearse(make_trainer(), None, None, options, report)
        assert report.rehearsal is not None
        assert (report.rehearsal["tokens"], report.rehearsal["fits"]) == (9_000, peak < 70)
        return
    with pytest.raises(
        boost.OtherOptionsError, match=r"without gradient checkpointing [\d,]+ bytes of [\d,]+"
    ) as error:
        boost.rehearse(make_trainer(), None, None, options, report)
    assert error.value.options == replace(OPTIONS, checkpointing=again)


@pytest.mark.parametrize(
    ("checkpointing", "raised"), [("auto", boost.OtherOptionsError), ("keep", rehearsal.TooLargeError)]
)
def test_out_of_memory_is_an_answer_for_auto_and_an_error_else(
    monkeypatch: pytest.MonkeyPatch, report: boost.Report, checkpointing: str, raised: type[Exception]
) -> None:
    def fail(*_: Any) -> None:
        raise rehearsal.TooLargeError("8 of the longest rows do not fit: CUDA out of memory")

    monkeypatch.setattr(rehearsal, "rehearse", fail)
    with pytest.raises(raised, match="CUDA out of memory"):
        boost.rehearse(make_trainer(), None, None, replace(OPTIONS, checkpointing=checkpointing), report)


def test_rows_that_are_streamed_keep_their_checkpointing(
    monkeypatch: pytest.MonkeyPatch, report: boost.Report
) -> None:
    monkeypatch.setattr(boost, "is_checkpointing_off", lambda options: options.checkpointing != "keep")
    trainer = SimpleNamespace(train_dataset=iter(()))
    with pytest.raises(boost.OtherOptionsError, match="the rows are streamed") as error:
        boost.rehearse(trainer, None, None, OPTIONS, report)
    boost.rehearse(trainer, None, None, error.value.options, report)
    assert report.rehearsal is None


def test_without_a_gpu_nothing_is_measured_or_changed(report: boost.Report) -> None:
    trainer = make_trainer(device=SimpleNamespace(type="cpu"))
    boost.rehearse(trainer, None, None, OPTIONS, report)
    assert report.rehearsal is None
    assert boost.is_checkpointing_off(replace(OPTIONS, checkpointing="keep")) is False
    assert boost.is_checkpointing_off(replace(OPTIONS, checkpointing="off")) is True


class Rows(list[Any]):
    """Rows as a dataset gives them: one by its place, or a whole column."""

    def __getitem__(self, key: Any) -> Any:
        return [row["input_ids"] for row in self] if key == "input_ids" else super().__getitem__(key)


@pytest.mark.parametrize("epochs", [1.0, 2.5])
def test_the_largest_batch_is_that_of_the_trainings_own_order(epochs: float) -> None:
    torch = pytest.importorskip("torch")
    data_loader = pytest.importorskip("accelerate.data_loader")
    rows = Rows({"input_ids": [0] * (1 + (place * 37) % 101)} for place in range(60))
    sampler = data_loader.SeedableRandomSampler(rows, data_seed=5)
    loader = torch.utils.data.DataLoader(rows, batch_size=8, sampler=sampler)
    trainer = make_trainer(num_train_epochs=epochs)
    trainer.train_dataset = rows
    found = sum(len(row["input_ids"]) for row in rehearsal.find_largest_batch(trainer, loader))
    # The sampler itself goes on from epoch to epoch, as in a training.
    totals = [
        sum(len(rows[place]["input_ids"]) for place in batch)
        for _ in range(-int(-epochs // 1))
        for batch in loader.batch_sampler
    ]
    assert found == max(totals)


def test_rows_in_an_order_that_nobody_knows_are_measured_by_the_longest() -> None:
    trainer = make_trainer(per_device_train_batch_size=3)
    trainer.train_dataset = Rows([{"input_ids": [0] * count} for count in (3, 9, 1, 7, 9, 2)])
    found = rehearsal.find_largest_batch(trainer, SimpleNamespace(batch_sampler=None))
    assert [len(row["input_ids"]) for row in found] == [9, 9, 7]


@pytest.mark.parametrize(
    ("changes", "epochs"), [({}, 3), ({"num_train_epochs": 2.1}, 3), ({"max_steps": 10}, 2), ({"max_steps": 6}, 1)]
)
def test_the_epochs_of_a_run_are_counted(changes: dict[str, Any], epochs: int) -> None:
    assert rehearsal.count_epochs(make_trainer(**changes), 100) == epochs


@pytest.mark.parametrize(("optim", "size"), [("adamw_torch", 800), ("paged_adamw_8bit", 200)])
def test_the_optimizers_own_state_is_counted(optim: str, size: int) -> None:
    weights = [
        SimpleNamespace(numel=lambda: 100, requires_grad=True),
        SimpleNamespace(numel=lambda: 9_000, requires_grad=False),
    ]
    trainer = SimpleNamespace(model=SimpleNamespace(parameters=lambda: weights), args=SimpleNamespace(optim=optim))
    assert rehearsal.estimate_optimizer(trainer) == size


@pytest.mark.parametrize(
    ("changes", "model", "pays"),
    [
        ({}, {}, True),
        ({"num_train_epochs": 2.0}, {}, False),
        ({"max_steps": 100}, {}, False),
        ({"max_steps": 800}, {}, True),
        ({}, {"use_unsloth": True}, False),
        ({}, {"quantization_bit": 4}, False),
        ({"device": SimpleNamespace(type="cpu")}, {}, False),
    ],
)
def test_layers_are_compiled_where_the_run_is_long_enough(
    changes: dict[str, Any], model: dict[str, Any], pays: bool
) -> None:
    arguments = SimpleNamespace(**{"use_unsloth": False, "quantization_bit": None, **model})
    assert boost.pays_to_compile(make_trainer(**changes), arguments) is pays


@pytest.mark.parametrize(("choice", "raised"), [("auto", boost.OtherOptionsError), ("on", RuntimeError)])
def test_layers_that_do_not_compile_are_not_compiled_where_auto_chose_it(
    choice: str, raised: type[Exception]
) -> None:
    with (
        pytest.raises(raised, match="no compiler"),
        boost.starts_anew_with_less(replace(OPTIONS, compile=choice), compiled=True),
    ):
        raise RuntimeError("no compiler\nand a long story")
    with pytest.raises(RuntimeError), boost.starts_anew_with_less(OPTIONS, compiled=False):
        raise RuntimeError("another fault")


def test_options_are_written_as_the_command_line_that_asks_for_them() -> None:
    assert boost.parse_options(OPTIONS.words) == OPTIONS
    bare = replace(OPTIONS, report=None, checkpointing="keep", compile="off")
    assert boost.parse_options(bare.words) == bare


def test_other_options_start_the_same_program_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[tuple[str, ...]] = []

    def start_instead(*words: str) -> int:
        started.append(words)
        return 7

    monkeypatch.setattr(boost, "start_instead", start_instead)

    def train(options: boost.Options, report: boost.Report) -> None:
        raise boost.OtherOptionsError(replace(options, checkpointing="keep"), "the memory does not suffice")

    monkeypatch.setattr(boost, "train", train)
    assert boost.main(["--report", str(tmp_path / "boost.json"), "config.yaml"]) == 7
    (words,) = started
    assert Path(words[0]) == Path(boost.__file__)
    assert boost.parse_options(words[1:]).checkpointing == "keep"
