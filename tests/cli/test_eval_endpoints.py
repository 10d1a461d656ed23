"""`lfc launch eval` with servers: one alone, several, beside a local model, in both modes; and LLaMA-Factory's own."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from launch.cli import lfc
from launch.evaluation import endpoints
from tests.launch.evaluation.test_endpoints import Server, complete

ROOT = Path(__file__).parents[2]
THOUGHT = "<think>\nI add.\n</think>\n\n"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    pytest.importorskip("rouge_chinese")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(endpoints, "_LONGEST_PAUSE_S", 0.01)
    Path("data").mkdir()
    rows = [
        {
            "instruction": f"add {number}",
            "input": "",
            "output": f"{THOUGHT}it is {number}",
            "origin": f"x/a.csv:{number}",
        }
        for number in range(1, 13)
    ]
    Path("data/held_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    Path("data/dataset_info.json").write_text(
        json.dumps({"held_out": {"file_name": "held_out.jsonl"}}), encoding="utf-8"
    )
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def evaluate(*options: str) -> Result:
    return CliRunner().invoke(lfc, ["launch", "eval", "--eval-dataset", "held_out", *options])


def name(server: Server, name: str, model: str = "one") -> str:
    return f"{name}={server.endpoint.url}#{model}"


def answer_by_model(body: dict[str, Any]) -> tuple[int, Any]:
    """The model `right` answers rightly and thinks where it is asked; the other one does neither."""
    number = body["messages"][-1]["content"].split()[-1]
    thinks = body.get("chat_template_kwargs", {}).get("enable_thinking", True)
    if body["model"] == "right":
        return complete({"content": f"it is {number}", **({"reasoning_content": "I add."} if thinks else {})})
    return complete({"content": "no idea"})


def test_two_servers_are_compared_by_the_rows_of_a_registered_dataset(server: Server) -> None:
    server.answer = answer_by_model
    result = evaluate(
        "--endpoint", name(server, "old", "wrong"), "--endpoint", name(server, "new", "right"), "--json"
    )
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    old, new = told["sides"]
    assert (told["rows"], old["name"], new["name"]) == (12, "old", "new")
    assert (old["figures"]["think_format"], new["figures"]["think_format"]) == (0, 100)
    assert (old["figures"]["unthought"], new["figures"]["unthought"]) == (100, 0)
    assert new["figures"]["rouge_l"] > 99 > old["figures"]["rouge_l"]
    assert new["changes"]["rouge_l"]["is_clear"]
    assert len(server.seen) == 24


def test_an_evaluation_that_is_asked_for_again_asks_no_row_again(server: Server) -> None:
    server.answer = answer_by_model
    options = ("--endpoint", name(server, "a", "right"))
    assert evaluate(*options).exit_code == 0
    assert evaluate(*options, "--name", "another").exit_code == 0
    assert len(server.seen) == 12


def test_both_modes_stand_side_by_side(server: Server) -> None:
    server.answer = answer_by_model
    options = ("--endpoint", name(server, "a", "wrong"), "--endpoint", name(server, "b", "right"))
    result = evaluate(*options, "--modes", "think,nothink")
    assert result.exit_code == 0, result.output
    assert "nothink: b" in " ".join(result.output.split())
    sampled = {body["chat_template_kwargs"]["enable_thinking"]: body["temperature"] for body in server.seen}
    assert sampled == {True: 0.6, False: 0.7}
    compared = {
        mode: json.loads(Path(f"runs/endpoints-eval/{mode}/comparison.json").read_text(encoding="utf-8"))
        for mode in ("think", "nothink")
    }
    figures = {mode: compared[mode]["sides"][1]["figures"] for mode in compared}
    assert figures["think"]["unthought"] == 0
    # A thought is neither wanted nor asked for there.
    assert "unthought" not in figures["nothink"]
    assert figures["nothink"]["unasked"] == 0
    assert figures["nothink"]["think_format"] == 100


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "give CONFIGs of different names, or --endpoint"),
        (["--endpoint", "a=b"], "endpoint a has no URL of a server"),
        (["--endpoint", "a=http://127.0.0.1:9/v1"], "endpoint a does not answer"),
        (["--endpoint", "a=http://h/v1#m", "--endpoint", "a=http://i/v1#m"], "would be called 'a'"),
        (["--endpoint", "a=http://h/v1#m", "--modes", "loud"], "--modes takes think, nothink"),
    ],
)
def test_what_cannot_be_asked_is_one_error_before_any_row(server: Server, options: list[str], said: str) -> None:
    result = evaluate(*options)
    assert result.exit_code in (1, 2)
    assert said in result.output
    assert server.seen == []


def test_no_file_of_a_run_holds_the_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LFC_ENDPOINT_KEY", "canary-0123456789abcdef")
    result = evaluate("--endpoint", name(server, "a"))
    assert result.exit_code == 0, result.output
    assert server.headers["Authorization"] == "Bearer canary-0123456789abcdef"
    assert "canary" not in result.output
    assert [path for path in Path().rglob("*") if path.is_file() and b"canary" in path.read_bytes()] == []


def run_lfc(folder: Path, *argv: str) -> str:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from launch.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code, *argv],
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    return ended.stdout


@pytest.mark.stack
def test_llamafactorys_own_api_answers_as_its_own_prediction_does(tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("--full")
    (tmp_path / "data").mkdir()
    rows = [
        {
            "instruction": f"what is {'red and ' * number}blue",
            "input": "",
            "output": f"it is {number}",
            "system": "",
        }
        for number in range(8)
    ]
    for part in ("train", "held_out"):
        text = "".join(json.dumps(row) + "\n" for row in (rows if part == "held_out" else rows * 4))
        (tmp_path / f"data/{part}.jsonl").write_text(text, encoding="utf-8")
        run_lfc(tmp_path, "prep", "register", f"data/{part}.jsonl", "--name", part)
    run_lfc(tmp_path, "launch", "tiny-model", "data/train.jsonl", "--to", "model")
    training = {
        "model_name_or_path": "model", "stage": "sft", "do_train": True, "finetuning_type": "lora", "dataset": "train",
        "dataset_dir": "data", "template": "qwen3", "enable_thinking": False, "cutoff_len": 256, "max_steps": 2,
        "output_dir": "saves/a", "report_to": "none", "use_cpu": True, "infer_dtype": "float32",
        "save_strategy": "no",
    }  # fmt: skip
    (tmp_path / "a.yaml").write_text(json.dumps(training), encoding="utf-8")
    run_lfc(tmp_path, "launch", "train", "a.yaml", "--no-check")
    served = {key: training[key] for key in ("model_name_or_path", "template", "enable_thinking", "infer_dtype")}
    (tmp_path / "api.yaml").write_text(json.dumps({**served, "do_sample": False}), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "API_PORT": str(port), "API_HOST": "127.0.0.1", "CUDA_VISIBLE_DEVICES": ""}
    cli = Path(sys.executable).with_name("llamafactory-cli")
    with (tmp_path / "api.log").open("wb") as log:
        api = subprocess.Popen([cli, "api", "api.yaml"], cwd=tmp_path, env=env, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/v1/models", api)
        argv = ("--endpoint", f"api=http://127.0.0.1:{port}/v1", "max_new_tokens=8", "do_sample=false", "--json")
        told = json.loads(run_lfc(tmp_path, "launch", "eval", "a.yaml", "--eval-dataset", "held_out", *argv))
    finally:
        api.terminate()
        api.wait(timeout=30)
    names = [side["name"] for side in told["sides"]]
    assert names == ["base", "adapter", "api"]
    answers = {
        side: [
            json.loads(line)["predict"]
            for line in (tmp_path / f"runs/a-eval/{side}/predictions/generated_predictions.jsonl")
            .read_text(encoding="utf-8")
            .splitlines()
        ]
        for side in names
    }
    assert len(answers["api"]) == 8
    assert answers["api"] == answers["base"]
    ranked = (tmp_path / "runs/a-eval/row_losses.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["dataset"] for line in ranked} == {"held_out"}
    assert set(told["losses"]["held_out"]) == {"base", "adapter"}


def wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a server answers; fails when it has ended."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(240):
        assert process.poll() is None
        try:
            opener.open(url, timeout=5).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise AssertionError(f"{url} does not answer")
