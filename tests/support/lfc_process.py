"""`lfc` as a process of its own, and a llamafactory-cli that writes what the real one writes, in no time."""

import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Prints its whole config, as careless programs do; fails when that says `seed: 13`.
RECORDER = """#!{python}
import json, os, sys
import yaml
text = open(sys.argv[2], encoding="utf-8").read()
print(sys.argv, text, dict(os.environ))
config = yaml.safe_load(text)
if config.get("seed") == 13:
    print("ValueError: refused: " + " ".join(map(str, config.values())))
    sys.exit(3)
folder = config["output_dir"]
os.makedirs(folder, exist_ok=True)
def write(name, content):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as stream:
        stream.write(content)
entry = {{"current_steps": 1, "total_steps": 1, "loss": 1.5}}
write("trainer_log.jsonl", json.dumps(entry) + "\\n")
write("adapter_config.json", "{{}}")
with open(os.path.join(folder, "adapter_model.safetensors"), "wb") as stream:
    stream.write((2).to_bytes(8, "little") + b"{{}}")
if config.get("do_predict"):
    row = {{"prompt": "q", "predict": "<think>\\n\\n</think>\\n\\na", "label": "<think>\\n\\n</think>\\n\\na"}}
    with open(os.path.join(config.get("dataset_dir", "data"), "dataset_info.json"), encoding="utf-8") as stream:
        entry = json.load(stream)[config["eval_dataset"]]
    with open(os.path.join(config.get("dataset_dir", "data"), entry["file_name"]), encoding="utf-8") as stream:
        count = len(stream.readlines())
    write("generated_predictions.jsonl", (json.dumps(row) + "\\n") * count)
    write("predict_results.json", "{{}}")
"""


def run_lfc(
    folder: Path, *argv: str | bytes, env: Mapping[str, str] | None = None, code: str = ""
) -> "subprocess.CompletedProcess[bytes]":
    """Run `lfc` in a folder whose modules it does not import; `code` runs in its process first."""
    if code:
        start = f"{code}\nfrom launch.cli import main\nmain()"
        command: list[str | bytes] = [sys.executable, "-P", "-c", start, *argv]
    else:
        command = [sys.executable, "-P", "-m", "launch", *argv]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, check=False, timeout=120)


def write_recorder(folder: Path) -> Path:
    """Write the llamafactory-cli into `folder/bin`, with a Python beside it, and return it."""
    program = folder / "bin" / "llamafactory-cli"
    program.parent.mkdir(parents=True)
    program.write_text(RECORDER.format(python=sys.executable), encoding="utf-8")
    program.chmod(0o755)
    (program.parent / "python").symlink_to(sys.executable)
    return program


def find_leaks(folder: Path, secrets: Mapping[str, str]) -> list[str]:
    """Return `file: secret` for every secret in a file that others than its owner can read."""
    leaks = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file() or not stat.S_IMODE(path.stat().st_mode) & 0o077:
            continue
        content = path.read_bytes()
        leaks += [
            f"{path.relative_to(folder)}: {name}" for name, text in secrets.items() if text.encode() in content
        ]
    return leaks
