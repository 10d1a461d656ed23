"""`lfc launch eval` with the real llamafactory-cli: a second stage, added tokens and a DPO training each answer."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.test_eval import CONFIG, run_lfc, write_rows

CASES: dict[str, dict[str, Any]] = {
    "second": {"adapter_name_or_path": "saves/first", "create_new_adapter": True},
    "tokens": {"add_tokens": "zzq1,zzq2"},
    "preferred": {"stage": "dpo", "dataset": "pairs"},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, warm_cli: None) -> Path:
    """A folder in which a first adapter, and on or beside it one of each case, were trained for two steps."""
    if not request.config.getoption("--full"):
        pytest.skip("trains four times: only with --full")
    folder = tmp_path_factory.mktemp("models")
    data = folder / "data"
    data.mkdir()
    write_rows(data / "rows.jsonl", spoiled=False)
    rows = [json.loads(line) for line in (data / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    (data / "held_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:8]), encoding="utf-8")
    pairs = [{"instruction": row["instruction"], "chosen": row["output"], "rejected": "no"} for row in rows[8:40]]
    (data / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    for name in ("rows", "held_out"):
        run_lfc(folder, "prep", "register", f"data/{name}.jsonl", "--name", name)
    registry = json.loads((data / "dataset_info.json").read_text(encoding="utf-8"))
    columns = {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"}
    registry["pairs"] = {"file_name": "pairs.jsonl", "ranking": True, "columns": columns}
    (data / "dataset_info.json").write_text(json.dumps(registry), encoding="utf-8")
    run_lfc(folder, "launch", "tiny-model", "data/rows.jsonl", "--to", "model")
    everything: dict[str, dict[str, Any]] = {"first": {}, **CASES}
    for name, changes in everything.items():
        values = {**yaml.safe_load(CONFIG.format(dataset="rows", name=name)), "max_steps": 2, "learning_rate": 0.01}
        (folder / f"{name}.yaml").write_text(json.dumps({**values, **changes}), encoding="utf-8")
        run_lfc(folder, "launch", "train", f"{name}.yaml")
    return folder


@pytest.mark.stack
@pytest.mark.parametrize("name", CASES)
def test_a_model_answers_with_all_that_makes_it(name: str, trained: Path) -> None:
    run_lfc(trained, "launch", "eval", f"{name}.yaml", "--eval-dataset", "held_out", "max_new_tokens=4")
    log = (trained / f"runs/{name}-eval/adapter/log.txt").read_text(encoding="utf-8")
    adapters = ["saves/first", "saves/second"] if name == "second" else [f"saves/{name}"]
    assert f"Loaded adapter(s): {','.join(adapters)}" in log
    assert f"Merged {len(adapters)} adapter(s)." in log
    assert ("Add tokens zzq1,zzq2 to tokenizer's vocabulary." in log) is (name == "tokens")
    content = json.loads((trained / f"runs/{name}-eval/comparison.json").read_text(encoding="utf-8"))
    assert content["rows"] == 8
