"""One candidate, measured: a short real training in a process of its own, and what became of it."""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from launch.configs.config import format_config
from launch.configs.private import write_config_text
from launch.machine.command import Command, build_llamafactory_command, find_stack_python
from launch.machine.gpus import read_gpus
from launch.runs.causes import Cause, find_telling_lines, judge_end
from launch.runs.logs import read_tail
from launch.runs.process import Child, run_child
from launch.tune.candidates import Candidate
from prep.secrets import mask_text

_PROGRAM = Path(__file__).parent.parent / "guest" / "trial.py"
_MAX_EVENTS_BYTES = 8 << 20
_EXIT_REFUSED, _EXIT_NOT_THE_SAME = 78, 79
_GRACE_S = 3.0
# A candidate is given up once it has been so much slower than the best for so long.
_HOPELESS_SHARE, _HOPELESS_STEPS, _HOPELESS_S = 0.5, 4, 3.0


class End(StrEnum):
    """How a trial ended."""

    MEASURED = "measured"
    OUT_OF_MEMORY = "out of memory"
    TOO_LARGE = "would not fit"
    HOPELESS = "given up: slower"
    NO_TIME = "no time left"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class Rows:
    """What the training set holds, as the first trial found it: rows, real tokens and the longest row."""

    count: int
    tokens: int
    longest: int


@dataclass(frozen=True)
class Outcome:
    """What a candidate showed: `tokens_per_s` are real ones in steady steps, 0 where none was seen.

    Shape: `losses` are (step, loss); `start_s` lasts from the process's start to the end of its first step.
    """

    candidate: Candidate
    end: End
    reason: str = ""
    tokens_per_s: float = 0.0
    peak_bytes: int = 0
    start_s: float = 0.0
    seconds: float = 0.0
    losses: tuple[tuple[int, float], ...] = ()
    rows: Rows | None = None
    estimated_bytes: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return what tune.json holds of it."""
        return {**asdict(self), "end": str(self.end)}


@dataclass(frozen=True)
class Bench:
    """Where and with what trials run: `max_bytes` 0 is the whole GPU; tokens are made once, in `folder`/tokens."""

    cli: Path
    folder: Path
    max_bytes: int = 0
    steps: int = 40
    seconds: float = 8.0
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


@dataclass(frozen=True)
class Stops:
    """What ends a trial early: the best tokens a second so far (0 for none), and a time of time.monotonic()."""

    best: float
    deadline: float
    on_poll: Callable[[], None] = lambda: None


# What was tried, how it ended, and why.
Ended = tuple[Candidate, End, str]


class _GivenUpError(Exception):
    """The trial is not worth its time any more."""

    def __init__(self, end: End) -> None:
        super().__init__(str(end))
        self.end = end


def measure(
    candidate: Candidate,
    values: Mapping[str, Any],
    bench: Bench,
    number: int,
    stops: "Stops",
) -> Outcome:
    """Run one candidate until enough was seen of it, it is hopeless, or the time is over.

    Out of memory, a crash and a refusal are answers, and raise nothing.
    """
    folder = bench.folder / f"{number:02d}"
    folder.mkdir(parents=True)
    command = _write_trial(candidate, values, bench, folder)
    log, started, began = folder / "log.txt", time.monotonic(), time.time()

    def poll() -> None:
        stops.on_poll()
        if time.monotonic() > stops.deadline:
            raise _GivenUpError(End.NO_TIME)
        if stops.best and _is_hopeless(read_events(folder / "trial.jsonl"), stops.best):
            raise _GivenUpError(End.HOPELESS)

    try:
        exit_code = run_child(command, log, poll, Child(grace_s=_GRACE_S))
        end, reason = _judge(exit_code, log)
    except _GivenUpError as given_up:
        end, reason = given_up.end, ""
    finally:
        shutil.rmtree(folder / "out", ignore_errors=True)
    took = time.monotonic() - started
    events = read_events(folder / "trial.jsonl")
    return _summarise((candidate, end, reason), events, began, took, needs_speed=bench.seconds > 0)


def _write_trial(candidate: Candidate, values: Mapping[str, Any], bench: Bench, folder: Path) -> Command:
    """Write a trial's config, and return its command."""
    trial = candidate.apply(values) | {
        "output_dir": (folder / "out").as_posix(),
        "tokenized_path": _find_tokens(values, bench).as_posix(),
        "disable_shuffling": True,
        "max_steps": bench.steps,
        "logging_steps": 1,
        "save_strategy": "no",
        "eval_strategy": "no",
        "do_eval": False,
        "report_to": "none",
        "plot_loss": False,
        "overwrite_cache": False,
    }
    for key in ("val_size", "eval_dataset", "resume_from_checkpoint", "push_to_hub", "load_best_model_at_end"):
        trial.pop(key, None)
    config = folder / "config.yaml"
    write_config_text(config, format_config(trial, header=f"A trial: {candidate.name}"), trial)
    environ = {**bench.environ, "LFC_BOOST": "1"}
    # One GPU, the one with the most free memory unless the user has chosen.
    command = build_llamafactory_command(bench.cli, "train", config, trial, environ, read_gpus().gpus or ())
    told = ["--to", str(folder / "trial.jsonl"), "--steps", str(bench.steps), "--seconds", str(bench.seconds)]
    told += ["--max-bytes", str(bench.max_bytes)] if bench.max_bytes else []
    steps = values.get("max_steps")
    told += ["--whole-steps", str(steps)] if isinstance(steps, int) and steps > 0 else []
    told += ["--in-order"] if values.get("disable_shuffling") else []
    told += ["--boost", candidate.boost] if candidate.boost else []
    told += ["--compile"] if candidate.compiles else []
    argv = (str(find_stack_python(bench.cli)), str(_PROGRAM), *told, str(config))
    return Command(argv, {**command.env, "DISABLE_VERSION_CHECK": bench.environ.get("DISABLE_VERSION_CHECK", "")})


def _find_tokens(values: Mapping[str, Any], bench: Bench) -> Path:
    """Return where the set's tokens are: the config's own where there are any, else what the first trial makes."""
    own = Path(str(values.get("tokenized_path") or ""))
    return own if values.get("tokenized_path") and own.is_dir() else bench.folder / "tokens"


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return a trial's events; what is not whole is left out."""
    events = []
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_EVENTS_BYTES)
    except OSError:
        return []
    for line in content.split(b"\n"):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            events.append(event)
    return events


def _is_hopeless(events: list[dict[str, Any]], best: float) -> bool:
    """Tell whether a trial has been far slower than the best for some steps behind the longest rows."""
    steps = [event for event in events if event.get("event") == "step"]
    if len(steps) < _HOPELESS_STEPS:
        return False
    first, last = steps[2], steps[-1]
    took = last["at"] - first["at"]
    rate = _count_tokens(events, first["step"], last["step"]) / took if took > 0 else best
    return took >= _HOPELESS_S and rate < _HOPELESS_SHARE * best


def _count_tokens(events: list[dict[str, Any]], after: int, until: int) -> int:
    tokens: list[int] = next((event["tokens"] for event in events if event.get("event") == "rows"), [])
    return sum(tokens[after:until])


def _judge(exit_code: int, log: Path) -> tuple[End, str]:
    if exit_code == 0:
        return End.MEASURED, ""
    said = read_tail(log)
    lines = find_telling_lines(said) or [""]
    reason = mask_text(lines[-1].strip())[:300]
    if exit_code in (_EXIT_REFUSED, _EXIT_NOT_THE_SAME):
        return End.REFUSED, mask_text(said.strip().rpartition("\n")[2])[:300]
    cause = judge_end(exit_code, said)
    is_memory = cause in (Cause.OUT_OF_MEMORY, Cause.HOST_MEMORY, Cause.KILLED)
    return (End.OUT_OF_MEMORY, "") if is_memory else (End.FAILED, reason or f"exit code {exit_code}")


def _summarise(
    ended: Ended, events: list[dict[str, Any]], began: float, seconds: float, *, needs_speed: bool
) -> Outcome:
    candidate, end, reason = ended
    steps = [event for event in events if event.get("event") == "step"]
    found = next((event for event in events if event.get("event") == "rows"), None)
    rows = Rows(found["all_rows"], found["all_tokens"], found["longest"]) if found else None
    steady = next((event["step"] for event in events if event.get("event") == "steady"), 0)
    behind = [event for event in steps if event["step"] >= steady]
    rate = 0.0
    if steady and len(behind) > 1:
        took = behind[-1]["at"] - behind[0]["at"]
        rate = _count_tokens(events, behind[0]["step"], behind[-1]["step"]) / took if took > 0 else 0.0
    if end is End.MEASURED and not rate and needs_speed:
        end, reason = End.FAILED, "it ended before its speed was steady"
    return Outcome(
        candidate,
        end,
        reason,
        round(rate, 1),
        max((event.get("peak", 0) for event in steps), default=0),
        round(steps[0]["at"] - began, 1) if steps else 0.0,
        round(seconds, 1),
        tuple((event["step"], event["loss"]) for event in events if event.get("event") == "loss"),
        rows,
    )
