"""Run a training program and profile three of its steps: how busy the card is, and with what.

Run:   python benchmarks/gpu/profile_steps.py PROFILE.json launch/guest/boost.py CONFIG
"""

import json
import runpy
import sys
import time
from pathlib import Path
from typing import Any

FIRST, COUNT, SHOWN = 20, 3, 12


def main() -> None:
    """Run the program with transformers' trainer profiled."""
    target, program = Path(sys.argv[1]), sys.argv[2]
    sys.argv = sys.argv[2:]
    import torch
    from transformers import Trainer

    step, seen = Trainer.training_step, {"steps": 0, "started": 0.0}
    profile = torch.profiler.profile(activities=list(torch.profiler.supported_activities()))

    def training_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        if seen["steps"] == FIRST:
            torch.cuda.synchronize()
            profile.start()
            seen["started"] = time.perf_counter()
        if seen["steps"] == FIRST + COUNT:
            torch.cuda.synchronize()
            seconds = time.perf_counter() - seen["started"]
            profile.stop()
            target.write_text(json.dumps(summarise(profile, seconds), indent=1) + "\n", encoding="utf-8")
        seen["steps"] += 1
        return step(self, *args, **kwargs)

    Trainer.training_step = training_step
    runpy.run_path(program, run_name="__main__")


def summarise(profile: Any, seconds: float) -> dict[str, Any]:
    """Return what a step took on the card, in ms, and its longest kernels; the profiler itself slows the CPU."""
    from torch.autograd import DeviceType

    kernels = [event for event in profile.key_averages() if event.device_type == DeviceType.CUDA]
    busy = sum(event.self_device_time_total for event in kernels) / 1e3
    longest = sorted(kernels, key=lambda event: -event.self_device_time_total)[:SHOWN]
    return {
        "step_ms_profiled": round(seconds * 1e3 / COUNT, 1),
        "card_ms_a_step": round(busy / COUNT, 1),
        "kernels_a_step": round(sum(event.count for event in kernels) / COUNT),
        "longest": [
            {
                "kernel": event.key[:100],
                "ms": round(event.self_device_time_total / 1e3 / COUNT, 2),
                "count": event.count // COUNT,
            }
            for event in longest
        ],
    }


if __name__ == "__main__":
    main()
