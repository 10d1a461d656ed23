"""Train a tiny model from rows and from tokens made once, in one process for many variants: a program, for a test.

`token_trainings.py FOLDER NAME…` writes FOLDER/NAME.json for each variant: the losses of every batch and evaluation
from the rows, and from the tokens.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from prep.tokenized.make import make_tokens
from prep.tokenized.settings import read_settings
from tests.support.boost_variants import BASE, Record, write_data, write_models

VARIANTS: dict[str, dict[str, Any]] = {
    "rows": {"dataset": "turns"},
    "last answers": {"dataset": "turns", "mask_history": True, "cutoff_len": 90},
    "prompts too": {"train_on_prompt": True, "dataset": "bare", "template": "empty"},
    "held out": {"val_size": 8, "eval_strategy": "steps", "eval_steps": 2, "per_device_eval_batch_size": 4},
    "packed": {"packing": True, "cutoff_len": 200, "per_device_train_batch_size": 1},
    "neatly packed": {"neat_packing": True, "cutoff_len": 200, "per_device_train_batch_size": 1},
    "texts": {"stage": "pt", "dataset": "texts", "cutoff_len": 64, "per_device_train_batch_size": 2},
}


def run_variant(folder: Path, name: str) -> dict[str, dict[str, list[float]]]:
    """Train one variant twice and return the losses of both."""
    from llamafactory.train import tuner

    settings = {**BASE, **VARIANTS[name], "dataset_dir": str(folder), "model_name_or_path": str(folder / "qwen3")}
    made = make_tokens(read_settings(settings), folder / "tokens" / name)
    told = {}
    for road, keys in {"rows": {}, "tokens": {"tokenized_path": str(made.path)}}.items():
        record, config = Record(), folder / "config.yaml"
        output = {"output_dir": str(folder / "out" / name / road)}
        config.write_text(json.dumps({**settings, **keys, **output}), encoding="utf-8")
        with record.listen():
            sys.argv = ["llamafactory-cli", str(config)]
            tuner.run_exp()
        told[road] = {"losses": record.losses, "evaluations": record.eval_losses}
    return told


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    os.environ["DISABLE_VERSION_CHECK"] = "1"
    write_data(folder)
    write_models(folder, set())
    for name in names:
        (folder / f"{name}.json").write_text(json.dumps(run_variant(folder, name)), encoding="utf-8")


if __name__ == "__main__":
    main()
