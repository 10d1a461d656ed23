"""A run that makes no step for many times its usual."""

from dataclasses import dataclass, field
from statistics import median

FACTOR = 10.0
# Below this a run that loads, saves or evaluates would count as one that stands still.
LEAST_S = 180.0
_KEPT = 64


@dataclass
class StallWatch:
    """Sees a run's step from time to time; `factor` is how many times the usual time of a step is too long."""

    factor: float = FACTOR
    least_s: float = LEAST_S
    _step: int | None = None
    _at: float = 0.0
    _is_told: bool = False
    _times: list[float] = field(default_factory=list)

    def see(self, step: int | None, now: float) -> str | None:
        """Return a sentence the first time that a run stands still, None otherwise.

        Shape: `step` counts up, None before the first; `now` in seconds, of any clock that goes on.
        """
        if step is None:
            return None
        if self._step is None or step < self._step:
            self._step, self._at, self._times, self._is_told = step, now, [], False
            return None
        if step > self._step:
            self._times = [*self._times, (now - self._at) / (step - self._step)][-_KEPT:]
            self._step, self._at, self._is_told = step, now, False
            return None
        usual = median(self._times) if self._times else None
        if self._is_told or usual is None or now - self._at < max(self.factor * usual, self.least_s):
            return None
        self._is_told = True
        return f"no step for {_describe(now - self._at)} at step {step}; a step usually takes {_describe(usual)}"


def _describe(seconds: float) -> str:
    return (
        f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    )
