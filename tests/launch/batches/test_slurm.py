"""A batch on a real Slurm: jobs, preemption, failures, a launcher that is killed, and a stop."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.runs.folder import RunState, list_runs, read_job, read_run
from tests.support.cluster_batches import (
    HELD,
    MEMORY,
    WAIT_S,
    finish,
    install_program,
    read_starts,
    start_batch,
    start_lfc,
    wait_until,
    write_configs,
)
from tests.support.slurm import Slurm, lacks_slurm, serve_slurm

pytestmark = pytest.mark.skipif(
    bool(lacks_slurm()) and "CI" not in os.environ, reason=f"Slurm is not installed: {lacks_slurm()}"
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with serve_slurm(tmp_path_factory.mktemp("slurm")) as slurm:
        yield slurm


@pytest.fixture
def slurm(cluster: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    monkeypatch.setenv("SLURM_CONF", cluster.env()["SLURM_CONF"])
    monkeypatch.chdir(tmp_path)
    install_program()
    return cluster


def test_runs_are_jobs_of_one_array_and_end_as_the_local_ones(slurm: Slurm) -> None:
    codes = {"good": "", "bad": "raise ValueError('bad data')", "large": MEMORY}
    code, runs = finish(start_batch(*write_configs(codes), "--name", "b", "--backend", "slurm"))
    local_code, local = finish(start_batch(*write_configs(codes), "--name", "l"))
    assert (code, local_code) == (1, 1)
    told = {name: (run["state"], run["attempts"], run["cause"]) for name, run in runs.items()}
    assert told == {
        "good": ("finished", 1, None),
        "bad": ("failed", 1, "config or data"),
        "large": ("finished", 3, None),
    }
    assert told == {name: (run["state"], run["attempts"], run["cause"]) for name, run in local.items()}
    jobs = {read_job(run.folder)["id"].partition("_")[0] for run in list_runs(Path("runs/b"))}
    assert len(jobs) == 1
    assert [start["batch"] for start in read_starts("large")][:3] == [4, 2, 1]


def test_a_preempted_job_is_begun_again_and_goes_on_from_its_checkpoint(slurm: Slurm) -> None:
    configs = write_configs({"held": HELD, "other": HELD})
    launcher = start_batch(
        *configs, "--name", "p", "--backend", "slurm", "--partition", "spare", "--max-attempts", "1"
    )
    wait_until(lambda: bool(read_starts("held")) and bool(read_starts("other")), slurm.read_logs)
    urgent = subprocess.Popen(
        ["srun", "-p", "urgent", "-n", "4", "sleep", "3"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: read_state("runs/p/held") is not RunState.RUNNING, slurm.read_logs)
    assert urgent.wait(timeout=WAIT_S) == 0
    wait_until(lambda: len(read_starts("held")) == 2 and len(read_starts("other")) == 2, slurm.read_logs)
    Path("let-go").touch()
    code, runs = finish(launcher)
    assert code == 0
    assert {name: (run["state"], run["attempts"]) for name, run in runs.items()} == {
        "held": ("finished", 2),
        "other": ("finished", 2),
    }
    first, again = read_starts("held")
    assert (first["resume"], again["resume"]) == (None, "saves/held/checkpoint-3")
    assert first["job"] == again["job"]
    assert read_run(Path("runs/p/held")).result["cause"] == "preempted"


def test_a_launcher_that_is_killed_loses_nothing(slurm: Slurm) -> None:
    launcher = start_batch(*write_configs({"held": HELD, "large": MEMORY}), "--name", "k", "--backend", "slurm")
    wait_until(lambda: bool(read_starts("held")), slurm.read_logs)
    launcher.kill()
    launcher.communicate()
    # Its own machine tries again with a smaller batch, without a launcher.
    wait_until(lambda: len(read_starts("large")) == 3, slurm.read_logs)
    again = start_batch("--continue", "k")
    time.sleep(2)
    Path("let-go").touch()
    code, runs = finish(again)
    assert code == 0
    assert {name: (run["state"], run["attempts"]) for name, run in runs.items()} == {
        "held": ("finished", 1),
        "large": ("finished", 3),
    }
    assert len(read_starts("held")) == 1


def test_stop_ends_what_runs_and_cancels_what_waits(slurm: Slurm) -> None:
    configs = write_configs(dict.fromkeys(("a", "b", "c"), HELD))
    launcher = start_batch(*configs, "--name", "s", "--backend", "slurm", "--slots", "1")
    wait_until(lambda: bool(read_starts("a")), slurm.read_logs)
    assert sorted(slurm.list_jobs().values()) == ["PENDING", "PENDING", "RUNNING"]
    assert start_lfc("stop", "s").communicate(timeout=WAIT_S)[0] == "s: stopped\n"
    launcher.communicate(timeout=WAIT_S)
    assert launcher.returncode == 130
    wait_until(lambda: not slurm.list_jobs(), slurm.read_logs)
    assert {run.name: run.state for run in list_runs(Path("runs"))} == dict.fromkeys(
        ("s/a", "s/b", "s/c"), RunState.STOPPED
    )
    again = start_batch("--continue", "s")
    Path("let-go").touch()
    code, runs = finish(again)
    assert (code, {run["state"] for run in runs.values()}) == (0, {"finished"})
    assert [start["resume"] for start in read_starts("a")] == [None, "saves/a/checkpoint-3"]
    assert [start["resume"] for start in read_starts("b")] == [None]


def test_one_waiting_run_can_be_stopped_by_its_name(slurm: Slurm) -> None:
    launcher = start_batch(
        *write_configs({"a": HELD, "b": HELD}), "--name", "o", "--backend", "slurm", "--slots", "1"
    )
    wait_until(lambda: bool(read_starts("a")), slurm.read_logs)
    assert "o/b: " in start_lfc("stop", "o/b").communicate(timeout=WAIT_S)[0]
    Path("let-go").touch()
    code, runs = finish(launcher)
    assert (code, runs["a"]["state"], runs["b"]["state"]) == (1, "finished", "stopped")
    assert read_starts("b") == []


def test_what_scancel_ended_is_stopped_and_goes_on_when_it_is_asked_for(slurm: Slurm) -> None:
    configs = write_configs(dict.fromkeys(("a", "b", "c"), HELD))
    launcher = start_batch(*configs, "--name", "x", "--backend", "slurm", "--slots", "2")
    wait_until(lambda: bool(read_starts("a")) and bool(read_starts("b")), slurm.read_logs)
    (waiting,) = [job for job, state in slurm.list_jobs().items() if state == "PENDING"]
    running = read_job(read_run(Path("runs/x/a")).folder)["id"]
    slurm.call("scancel", running, waiting)
    wait_until(lambda: read_state("runs/x/a") is RunState.STOPPED, slurm.read_logs)
    wait_until(lambda: read_state("runs/x/c") is RunState.STOPPED, slurm.read_logs)
    Path("let-go").touch()
    code, runs = finish(launcher)
    assert code != 0
    told = {name: (run["state"], run["attempts"], run["cause"]) for name, run in runs.items()}
    assert told == {"a": ("stopped", 1, "stopped"), "b": ("finished", 1, None), "c": ("stopped", 1, "stopped")}
    assert read_run(Path("runs/x/a")).flags == ["its job was cancelled from outside, as by scancel"]
    code, runs = finish(start_batch("--continue", "x"))
    assert (code, {run["state"] for run in runs.values()}) == (0, {"finished"})
    assert [start["resume"] for start in read_starts("a")] == [None, "saves/a/checkpoint-3"]


def test_a_refusal_is_told_in_slurms_own_words_and_leaves_a_batch_that_can_go_on(slurm: Slurm) -> None:
    launcher = start_batch(*write_configs({"a": ""}), "--name", "r", "--backend", "slurm", "--partition", "nowhere")
    _, said = launcher.communicate(timeout=WAIT_S)
    assert launcher.returncode == 1
    assert "Slurm refused: " in said
    assert "invalid partition specified: nowhere" in said


def read_state(folder: str) -> RunState:
    return read_run(Path(folder)).state
