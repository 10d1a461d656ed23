"""A program in llamafactory-cli's place: it notes how it was called, writes what LLaMA-Factory would, ends as told."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PROGRAM = """
import json, os, sys, time
from pathlib import Path
import yaml
here = Path(__file__).resolve().parent
told = json.loads((here / "told.json").read_text())
config = yaml.safe_load(Path(sys.argv[2]).read_text())
kind = "predict" if config.get("do_predict") else sys.argv[1]
with (here / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps({"argv": sys.argv[1:], "cwd": os.getcwd(), "kind": kind, "config": config}) + "\\n")
output = Path(config["output_dir"])
output.mkdir(parents=True, exist_ok=True)
(output / "trainer_log.jsonl").write_text('{"current_steps": 1, "total_steps": 1, "loss": 1.0, "elapsed_time": "0:00:01", "remaining_time": "0:00:00"}\\n')
if kind == "predict":
    entries = json.loads(Path(config["dataset_dir"], "dataset_info.json").read_text())
    rows = Path(config["dataset_dir"], entries[config["eval_dataset"]]["file_name"]).read_text().splitlines()
    (output / "predict_results.json").write_text("{}")
    answer = json.dumps({"prompt": "p", "predict": "<think>\\\\n\\\\n</think>\\\\n\\\\nyes", "label": "yes"})
    (output / "generated_predictions.jsonl").write_text((answer + "\\n") * len(rows))
else:
    (output / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": config["model_name_or_path"]}))
    header = json.dumps({"__metadata__": {"config": json.dumps(config, sort_keys=True)}}).encode()
    (output / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
time.sleep(told.get("seconds", 0))
sys.exit(told.get(kind, 0))
"""
# Stands beside it for what runs under LLaMA-Factory's Python: the model that it makes is three files, and an
# evaluation (launch/guest/answers.py) is the recorder's own prediction.
_PYTHON = """
import json, os, sys
from pathlib import Path
if Path(sys.argv[1]).name == "answers.py":
    program = str(Path(__file__).resolve().with_name("llamafactory-cli"))
    os.execv(program, [program, "train", sys.argv[-1]])
told = json.loads((Path(__file__).resolve().parent / "told.json").read_text())
folder = Path(sys.argv[-1])
folder.mkdir(parents=True)
(folder / "config.json").write_text('{"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}')
(folder / "tokenizer_config.json").write_text("{}")
header = b'{"lm_head.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}'
(folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
sys.exit(told.get("python", 0))
"""


class Recorder:
    """Its folder; `told` says with which exit code `train`, `predict` and `python` end."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.program = folder / "llamafactory-cli"
        for path, text in ((self.program, _PROGRAM), (folder / "python", _PYTHON)):
            path.write_text(f"#!{sys.executable} -I\n{text}", encoding="utf-8")
            path.chmod(0o755)
        self.tell({})

    def tell(self, told: Mapping[str, Any]) -> None:
        """Say how the next calls are to end."""
        (self.folder / "told.json").write_text(json.dumps(told), encoding="utf-8")

    def calls(self) -> list[dict[str, Any]]:
        """Return every call so far."""
        path = self.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
