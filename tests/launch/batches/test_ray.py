"""A batch on a real Ray of two machines' raylets: a worker, a raylet and the launcher are killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launch.cli import lfc
from launch.runs.folder import RunState, list_runs, read_run
from tests.support.cluster_batches import (
    HELD,
    MEMORY,
    ROOT,
    WAIT_S,
    finish,
    install_program,
    read_starts,
    start_batch,
    start_lfc,
    wait_until,
    write_configs,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Ray's clusters of several machines are POSIX ones")
SMALL = {"object_store_memory": 100 << 20, "include_dashboard": False}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **SMALL})
    for _ in range(2):
        cluster.add_node(num_cpus=2, **SMALL)
    yield cluster.address
    cluster.shutdown()


@pytest.fixture(autouse=True)
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    install_program()


def read_parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])


def read_worker(folder: str) -> int:
    """Return the process of Ray's worker: it starts one that starts a run's supervisor."""
    # A run's program may be at work before its supervisor has written down that it began.
    wait_until(Path(folder, "process.json").is_file, tell)
    supervisor = int(json.loads(Path(folder, "process.json").read_text(encoding="utf-8"))["pid"])
    return read_parent(read_parent(supervisor))


def tell() -> str:
    return "\n".join(f"{run.name}: {run.state} {run.result}" for run in list_runs(Path("runs")))


def test_a_batch_outlives_a_worker_a_raylet_and_its_launcher(address: str) -> None:
    configs = write_configs({"held": HELD, "bad": "raise ValueError('bad data')", "large": MEMORY})
    launcher = start_batch(*configs, "--name", "b", "--backend", "ray", "--address", address)
    wait_until(lambda: len(read_starts("held")) == 1, tell)
    worker = read_worker("runs/b/held")
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: len(read_starts("held")) == 2, tell)
    launcher.kill()
    launcher.communicate()
    raylet = read_parent(read_worker("runs/b/held.2"))
    os.kill(raylet, signal.SIGKILL)
    # A child of this process: a dead one that nobody waited for would count as one that lives.
    os.waitpid(raylet, 0)
    wait_until(lambda: len(read_starts("held")) == 3, tell)
    again = start_batch("--continue", "b")
    Path("let-go").touch()
    code, runs = finish(again)
    assert code == 1
    assert {name: (run["state"], run["attempts"], run["cause"]) for name, run in runs.items()} == {
        "held": ("finished", 3, None),
        "bad": ("failed", 1, "config or data"),
        "large": ("finished", 3, None),
    }
    assert [start["resume"] for start in read_starts("held")] == [None, *["saves/held/checkpoint-3"] * 2]
    assert read_run(Path("runs/b/held")).result["cause"] == "preempted"


def test_stop_ends_what_runs_and_what_waits(address: str) -> None:
    configs = write_configs(dict.fromkeys(("a", "b", "c"), HELD))
    launcher = start_batch(
        *configs, "--name", "s", "--backend", "ray", "--address", address, "--slots", "1", "--cpus-each", "2"
    )
    wait_until(lambda: bool(read_starts("a")), tell)
    assert start_lfc("stop", "s").communicate(timeout=WAIT_S)[0] == "s: stopped\n"
    launcher.communicate(timeout=WAIT_S)
    assert launcher.returncode == 130
    assert {run.name: run.state for run in list_runs(Path("runs"))} == {"s/a": RunState.STOPPED}
    again = start_batch("--continue", "s")
    Path("let-go").touch()
    code, runs = finish(again)
    assert (code, {run["state"] for run in runs.values()}) == (0, {"finished"})
    assert [start["resume"] for start in read_starts("a")] == [None, "saves/a/checkpoint-3"]


def list_converters() -> list[int]:
    """Return the workers that convert now, by the title that Ray gives them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes().startswith(b"ray::do_task"):
                found.append(int(path.parent.name))
    return found


def kill_converters(running: subprocess.Popen[str]) -> list[int]:
    """Kill the cluster's workers once there are some, and return them."""
    wait_until(lambda: bool(list_converters()) or running.poll() is not None, tell)
    killed = list_converters()
    for worker in killed:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
    return killed


def test_a_conversion_on_the_cluster_has_the_bytes_of_one_process_though_a_worker_is_killed(address: str) -> None:
    with Path("rows.jsonl").open("w", encoding="utf-8") as stream:
        for number in range(20_000):
            row = {
                "question": f"What is {number}? " + "x" * 150,
                "think": f"思考 {number} " * 20,
                "answer": f"It is {number}.",
            }
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        stream.write('{"question": "no answer"}\n')
    options = ["rows.jsonl", "--max-rejects", "1", "--dedup", "exact"]
    one = CliRunner().invoke(lfc, ["prep", "convert", *options, "-o", "one/rows.jsonl"])
    assert one.exit_code == 0, one.output
    command = [sys.executable, "-m", "launch", "prep", "convert", *options, "-o", "many/rows.jsonl"]
    running = subprocess.Popen(
        [*command, "--engine", "ray", "--address", address],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    killed = kill_converters(running)
    said = running.communicate(timeout=WAIT_S)[1]
    assert (running.returncode, bool(killed)) == (0, True), said
    for name in ("rows.jsonl", "rows.jsonl.rejects.jsonl"):
        assert Path("many", name).read_bytes() == Path("one", name).read_bytes()
    assert list(Path("many", ".lfc").glob("*.shards")) == []


def test_tokens_of_the_cluster_are_those_of_one_process_though_a_worker_is_killed(
    address: str, qwen3_folder: Path
) -> None:
    Path("data").mkdir()
    with Path("data/rows.jsonl").open("w", encoding="utf-8") as stream:
        for number in range(400):
            row = {
                "instruction": f"问题 {number}? {'一二三 four ' * 99}",
                "input": "",
                "output": f"It is {number}.",
            }
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    Path("data/dataset_info.json").write_text('{"rows": {"file_name": "rows.jsonl"}}', encoding="utf-8")
    config = {"model_name_or_path": str(qwen3_folder), "stage": "sft", "do_train": True, "template": "qwen3"}
    config |= {"dataset": "rows", "dataset_dir": "data", "cutoff_len": 256, "val_size": 0.1, "output_dir": "o"}
    Path("c.yaml").write_text(json.dumps(config), encoding="utf-8")
    command = ["prep", "tokenize", "--config", "c.yaml", "-o"]
    one = CliRunner().invoke(lfc, [*command, "one"])
    assert one.exit_code == 0, one.output
    running = subprocess.Popen(
        [sys.executable, "-m", "launch", *command, "many", "--engine", "ray", "--address", address],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    killed = kill_converters(running)
    said = running.communicate(timeout=WAIT_S)[1]
    assert (running.returncode, bool(killed)) == (0, True), said
    names = sorted(path.relative_to("one").as_posix() for path in Path("one").rglob("*") if path.is_file())
    assert names == sorted(
        path.relative_to("many").as_posix() for path in Path("many").rglob("*") if path.is_file()
    )
    assert sum(name.endswith(".arrow") for name in names) == 2
    for name in names:
        assert Path("many", name).read_bytes() == Path("one", name).read_bytes(), name
    assert sorted(path.name for path in Path(".lfc").iterdir() if not path.name.endswith(".lock")) == []


def test_a_batch_whose_cluster_is_gone_says_so_and_goes_on_elsewhere(
    address: str,
) -> None:
    """Begun on a cluster of which nothing is left but what the run's folder and the plan tell."""
    Path("let-go").touch()
    configs = write_configs({"a": "save_checkpoint(3)", "b": ""})
    assert finish(start_batch(*configs, "--name", "g", "--backend", "ray", "--address", address))[0] == 0
    gone = "127.0.0.1:1"
    plan = Path("runs/g/batch.json")
    plan.write_text(plan.read_text(encoding="utf-8").replace(address, gone), encoding="utf-8")
    job = Path("runs/g/a/job.json")
    job.write_text(job.read_text(encoding="utf-8").replace(address, gone), encoding="utf-8")
    # Its machine died before the end could be written down.
    Path("runs/g/a/result.json").unlink()
    launcher = start_batch("--continue", "g")
    said = ""
    assert launcher.stderr is not None
    while "ray does not answer" not in said:
        line = launcher.stderr.readline()
        assert line, said
        said += line
    launcher.kill()
    launcher.communicate()
    code, runs = finish(start_batch("--continue", "g", "--address", address))
    assert (code, runs["a"]["state"], runs["a"]["attempts"], runs["b"]["attempts"]) == (0, "finished", 2, 1)
    assert json.loads(plan.read_text(encoding="utf-8"))["backend_options"]["address"] == address
    assert read_starts("a")[1]["resume"] == "saves/a/checkpoint-3"


def test_a_cluster_that_does_not_answer_is_told(unused_tcp_port: int = 1) -> None:
    launcher = start_batch(
        *write_configs({"a": ""}), "--name", "n", "--backend", "ray", "--address", f"127.0.0.1:{unused_tcp_port}"
    )
    _, said = launcher.communicate(timeout=WAIT_S)
    assert launcher.returncode == 1
    assert "no Ray cluster answers at '127.0.0.1:1'" in said
