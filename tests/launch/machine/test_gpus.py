"""What the driver says about GPUs."""

import ctypes
from pathlib import Path

import pytest

from launch.machine import gpus as gpu_module
from launch.machine.gpus import Gpu, GpuReport, read_gpus


def refuse_library(name: str) -> None:
    raise OSError(f"{name}: cannot open shared object file")


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", refuse_library)
    monkeypatch.setattr(gpu_module, "_OTHER_DEVICES", ())
    monkeypatch.setattr("sys.platform", "linux")
    assert read_gpus({}) == GpuReport(())


def test_an_accelerator_of_another_maker_is_not_looked_into(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", refuse_library)
    monkeypatch.setattr(gpu_module, "_OTHER_DEVICES", (str(tmp_path),))
    assert read_gpus({}).gpus is None


def test_what_a_child_would_see_is_what_its_environment_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = (Gpu("a", 1, (8, 0)), Gpu("b", 1, (7, 5)))
    monkeypatch.setattr(gpu_module, "_ask_driver", lambda: GpuReport(gpus, "580"))
    assert read_gpus({}).gpus == gpus
    assert read_gpus({"CUDA_VISIBLE_DEVICES": "1"}) == GpuReport((gpus[1],), "580")


def test_bf16_begins_with_ampere() -> None:
    assert [Gpu("", 0, capability).has_bf16 for capability in ((7, 5), (8, 0), (9, 0))] == [False, True, True]
