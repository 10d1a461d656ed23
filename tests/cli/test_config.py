"""`lfc launch config`: exit codes, streams and JSON."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from launch.cli import lfc
from tests.launch.configs.test_config import make_dataset


def run_config(*arguments: str | Path) -> Result:
    return CliRunner().invoke(lfc, ["launch", "config", *map(str, arguments)])


def test_config_ls_names_every_preset() -> None:
    result = run_config("ls", "--json")
    assert result.exit_code == 0
    assert "medical-hybrid" in [preset["name"] for preset in json.loads(result.stdout)["presets"]]


def test_config_show_prints_the_shipped_file() -> None:
    result = run_config("show", "cpu-smoke")
    assert result.exit_code == 0
    shipped = Path("llamafactory_configs/presets/cpu-smoke.yaml")
    assert result.stdout == shipped.read_text(encoding="utf-8")


def test_config_show_of_an_unknown_preset_exits_1() -> None:
    result = run_config("show", "cpu-smok")
    assert result.exit_code == 1
    assert "Try: cpu-smoke\n" in result.stderr


def test_config_new_writes_a_yaml_and_prints_it_as_json(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", "mine", policy="masked")
    target = tmp_path / "cpu.yaml"
    result = run_config(
        *("new", "cpu-smoke", "dataset=mine", "max_steps=3", "-o", target),
        *("--dataset-dir", tmp_path / "data", "--json"),
    )
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)["values"]
    assert (values["enable_thinking"], values["max_steps"]) == (None, 3)
    assert target.is_file()


def test_config_new_of_an_unknown_dataset_exits_1_and_writes_nothing(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", "mine")
    target = tmp_path / "cpu.yaml"
    result = run_config("new", "cpu-smoke", "dataset=other", "-o", target, "--dataset-dir", tmp_path / "data")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: dataset 'other' is not in")
    assert not target.exists()


BROKEN = "model_name_or_path: Qwen/Qwen3-4B\ntemplate: qwen3\nlora_rnk: 8\nmax_steps: '5'\nfp16: true\nfp16: true\n"


def test_config_check_reports_all_faults_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(BROKEN, encoding="utf-8")
    result = run_config("check", path, "--for", "any")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{path}:3:1: error: `lora_rnk` is no key of LLaMA-Factory  [schema]",
        "  Try: did you mean `lora_rank`?",
        f"{path}:4:1: error: `max_steps` is '5', allowed is a whole number  [schema]",
        "  Try: max_steps: 5 without quotes",
        f"{path}:6:1: error: `fp16` is given twice, first on line 5  [yaml]",
        "  Try: keep one of the two `fp16` lines",
        f"{path}: 3 errors, 0 warnings (train config, judged for any machine)",
    ]


def test_a_config_for_a_gpu_checked_where_there_is_none_is_told_how_to_be_judged_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    path = tmp_path / "my config.yaml"
    path.write_text(
        "model_name_or_path: Qwen/Qwen3-4B\ntemplate: qwen3\nbf16: true\ndo_train: true\n", encoding="utf-8"
    )
    here, there = run_config("check", path), run_config("check", path, "--for", "gpu")
    errors = there.stdout.rpartition(f"{path}: ")[2].partition(",")[0].replace("0 errors", "no error")
    assert (
        here.stdout.splitlines()[-1] == f"  Try: lfc launch config check '{path}' --for gpu, which finds {errors}"
    )
    assert "needs a GPU" in here.stdout
    assert "Try: lfc launch config check" not in there.stdout
    assert "--for gpu" not in run_config("check", path, "--for", "cpu").stdout


def test_config_check_as_json_names_rule_and_place(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(BROKEN, encoding="utf-8")
    result = run_config("check", path, "--for", "any", "--json")
    assert result.exit_code == 1
    first = json.loads(result.stdout)["findings"][0]
    assert (first["rule"], first["line"], first["column"], first["severity"]) == ("schema", 3, 1, "error")


def test_config_check_of_a_good_config_exits_0(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text("model_name_or_path: Qwen/Qwen3-4B\ntemplate: qwen3\nexport_dir: out\n", encoding="utf-8")
    result = run_config("check", path, "--for", "any")
    assert (result.exit_code, result.stdout) == (
        0,
        f"{path}: nothing wrong (infer config, judged for any machine)\n",
    )


def test_config_check_refuses_warnings_only_when_strict(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text("model_name_or_path: Qwen/Qwen3-4B\ntemplate: qwen\n", encoding="utf-8")
    assert run_config("check", path, "--for", "any").exit_code == 0
    assert run_config("check", path, "--for", "any", "--strict").exit_code == 1


def test_config_check_of_broken_yaml_says_where(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("a: [1\n", encoding="utf-8")
    result = run_config("check", path)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {path} line 2 column 1: ")


def test_config_check_loads_neither_torch_nor_jsonschema(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text("model_name_or_path: Qwen/Qwen3-4B\ntemplate: qwen3\nlora_rank: 8\n", encoding="utf-8")
    code = (
        "import sys, json, pathlib\nfrom launch.configs.config import check_config\nfrom launch.configs.rules import read_machine\n"
        "check_config(pathlib.Path(sys.argv[1]), read_machine())\nprint(json.dumps(sorted(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, check=True)
    loaded = {name.split(".")[0] for name in json.loads(result.stdout)}
    assert loaded & {"torch", "transformers", "llamafactory", "jsonschema", "pandas", "pyarrow"} == set()


def test_config_diff_shows_the_keys_that_differ(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("model_name_or_path: Qwen/Qwen3-4B\ntop_k: 20\n", encoding="utf-8")
    other = tmp_path / "other.yaml"
    other.write_text("model_name_or_path: Qwen/Qwen3-8B\ntop_p: 0.8\n", encoding="utf-8")
    result = run_config("diff", path, other, "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["differing"]["model_name_or_path"] == ["Qwen/Qwen3-4B", "Qwen/Qwen3-8B"]
    assert (told["only_in_a"], told["only_in_b"]) == (["top_k"], ["top_p"])


def test_config_diff_takes_presets_and_refuses_unknown_names() -> None:
    result = run_config("diff", "infer-thinking", "infer-nothink", "--json")
    assert set(json.loads(result.stdout)["differing"]) == {
        "enable_thinking",
        "temperature",
        "top_p",
        "max_new_tokens",
    }
    unknown = run_config("diff", "infer-thinking", "infer-nothnk")
    assert unknown.exit_code == 1
    assert "Try: infer-nothink\n" in unknown.stderr


def test_config_schema_prints_the_shipped_schema() -> None:
    result = run_config("schema", "--as", "infer")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["title"] == "LLaMA-Factory 0.9.5: infer"


def test_config_schema_refresh_without_a_folder_is_a_wrong_call() -> None:
    assert run_config("schema", "--refresh").exit_code == 2


def test_config_new_refuses_a_key_that_llamafactory_does_not_know(tmp_path: Path) -> None:
    target = tmp_path / "cpu.yaml"
    result = run_config("new", "cpu-smoke", "lora_rnk=4", "-o", target)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {target}: `lora_rnk` is no key of LLaMA-Factory\n  Try: did you mean `lora_rank`?\n"
    )
    assert not target.exists()


def test_config_new_puts_the_schema_beside_the_yaml(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", "mine")
    target = tmp_path / "configs" / "cpu.yaml"
    result = run_config("new", "cpu-smoke", "dataset=mine", "-o", target, "--dataset-dir", tmp_path / "data")
    assert result.exit_code == 0
    named = target.read_text(encoding="utf-8").splitlines()[0].partition("$schema=")[2]
    assert json.loads((target.parent / named).read_text(encoding="utf-8"))["required"] == ["model_name_or_path"]


def test_doctor_quick_as_json_exits_1_without_a_stack(tmp_path: Path) -> None:
    result = CliRunner().invoke(lfc, ["doctor", "--quick", "--json", "--llamafactory-cli", str(tmp_path / "none")])
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["can_train"] is False
    assert told["findings"][0]["key"] == "llamafactory"


def test_config_new_of_a_recipe_says_how_recipes_are_run(tmp_path: Path) -> None:
    result = run_config("new", "customer-service", "-o", tmp_path / "a.yaml")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: 'customer-service' is a recipe, which goes the whole way; `config new` takes a preset\n"
        "  Try: lfc run customer-service\n",
    )
    assert not (tmp_path / "a.yaml").exists()
