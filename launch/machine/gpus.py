"""The GPUs of this machine, asked of the driver itself: no torch, no nvidia-smi, milliseconds."""

import ctypes
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BUFFER_BYTES = 96
# Accelerators that NVML does not know: there is a device, and nothing more is said about it.
_OTHER_DEVICES = ("/dev/kfd", "/dev/davinci0", "/dev/mlu_dev0", "/dev/xpu0")


@dataclass(frozen=True)
class Gpu:
    """One GPU as the driver names it; `capability` is CUDA's, (8, 0) and above has bf16."""

    name: str
    memory_bytes: int
    capability: tuple[int, int]
    uuid: str = ""
    free_bytes: int = 0

    @property
    def has_bf16(self) -> bool:
        """Whether it computes bf16 itself: Ampere and later."""
        return self.capability >= (8, 0)


@dataclass(frozen=True)
class GpuReport:
    """What the driver told: `gpus` None when there is a device of a kind that it does not describe."""

    gpus: tuple[Gpu, ...] | None
    driver: str = ""


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def read_gpus(env: Mapping[str, str] | None = None) -> GpuReport:
    """Return the GPUs that a process started with `env` would see, after CUDA_VISIBLE_DEVICES."""
    report = _ask_driver()
    if report is None:
        other = sys.platform == "darwin" or any(Path(device).exists() for device in _OTHER_DEVICES)
        return GpuReport(None if other else ())
    visible = (os.environ if env is None else env).get("CUDA_VISIBLE_DEVICES")
    if visible is None or report.gpus is None:
        return report
    return GpuReport(choose_visible(report.gpus, visible), report.driver)


def choose_visible(gpus: tuple[Gpu, ...], visible: str) -> tuple[Gpu, ...]:
    """Choose GPUs as CUDA_VISIBLE_DEVICES does: by number or by the start of a UUID, up to the first unknown."""
    chosen = []
    for entry in (part.strip() for part in visible.split(",")):
        found = [
            gpu
            for number, gpu in enumerate(gpus)
            if entry == str(number) or (entry.startswith("GPU-") and gpu.uuid.startswith(entry))
        ]
        if not found:
            break
        chosen.append(found[0])
    return tuple(chosen)


def _ask_driver() -> GpuReport | None:
    """Return what NVML, the driver's own library, says; None without an NVIDIA driver."""
    try:
        nvml = ctypes.CDLL("nvml.dll" if os.name == "nt" else "libnvidia-ml.so.1")
    except OSError:
        return None
    if nvml.nvmlInit_v2() != 0:
        return None
    try:
        count = ctypes.c_uint()
        nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
        gpus = tuple(_describe_gpu(nvml, number) for number in range(count.value))
        driver = ctypes.create_string_buffer(_BUFFER_BYTES)
        nvml.nvmlSystemGetDriverVersion(driver, _BUFFER_BYTES)
        return GpuReport(gpus, driver.value.decode())
    finally:
        nvml.nvmlShutdown()


def _describe_gpu(nvml: Any, number: int) -> Gpu:
    handle = ctypes.c_void_p()
    nvml.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(handle))
    name, uuid = (ctypes.create_string_buffer(_BUFFER_BYTES) for _ in range(2))
    memory, major, minor = _Memory(), ctypes.c_int(), ctypes.c_int()
    nvml.nvmlDeviceGetName(handle, name, _BUFFER_BYTES)
    nvml.nvmlDeviceGetUUID(handle, uuid, _BUFFER_BYTES)
    nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
    nvml.nvmlDeviceGetCudaComputeCapability(handle, ctypes.byref(major), ctypes.byref(minor))
    return Gpu(name.value.decode(), memory.total, (major.value, minor.value), uuid.value.decode(), memory.free)
