"""What SwanLab's and W&B's variables add to a config, and what is known of a run by what they wrote."""

import json
from pathlib import Path
from typing import Any

import pytest

from launch.configs.tracking import find_tracking, format_tracking, read_tracking

BOTH = {"swanlab", "wandb"}


@pytest.mark.parametrize(
    ("values", "environ", "changes"),
    [
        ({}, {}, {}),
        ({}, {"SWANLAB_API_KEY": "k", "WANDB_API_KEY": "k"}, {}),
        (
            {"report_to": "none"},
            {"SWANLAB_PROJECT": "medical", "SWANLAB_WORKSPACE": "team", "SWANLAB_MODE": "offline"},
            {
                "use_swanlab": True,
                "swanlab_project": "medical",
                "swanlab_workspace": "team",
                "swanlab_mode": "local",
                "swanlab_run_name": "r",
            },
        ),
        ({"report_to": "none"}, {"WANDB_PROJECT": "p"}, {"report_to": "wandb", "run_name": "r"}),
        (
            {"report_to": ["tensorboard"], "run_name": "mine"},
            {"WANDB_PROJECT": "p"},
            {"report_to": ["tensorboard", "wandb"]},
        ),
        # What the config gives stays.
        (
            {"use_swanlab": True, "swanlab_project": "own", "swanlab_run_name": "mine"},
            {"SWANLAB_PROJECT": "other", "SWANLAB_LOG_DIR": "logs"},
            {"swanlab_logdir": "logs"},
        ),
        ({"report_to": "wandb"}, {}, {"run_name": "r"}),
        ({"use_swanlab": False}, {"SWANLAB_PROJECT": "medical"}, {}),
        ({}, {"SWANLAB_PROJECT": "medical", "SWANLAB_MODE": "disabled"}, {}),
        ({}, {"WANDB_PROJECT": "p", "WANDB_MODE": "disabled"}, {}),
        ({}, {"WANDB_PROJECT": "p", "WANDB_DISABLED": "true"}, {}),
        ({}, {"WANDB_PROJECT": ""}, {}),
    ],
)
def test_variables_fill_what_the_config_leaves_open(
    values: dict[str, Any], environ: dict[str, str], changes: dict[str, Any]
) -> None:
    assert read_tracking(values, environ, "r", BOTH).changes == changes


@pytest.mark.parametrize(
    ("values", "environ", "installed", "note"),
    [
        (
            {},
            {"SWANLAB_PROJECT": "p"},
            set(),
            "SWANLAB_PROJECT is set, but SwanLab is not installed: not tracked (pip install swanlab beside LLaMA-Factory)",
        ),
        (
            {},
            {"WANDB_PROJECT": "p"},
            BOTH,
            "WANDB_PROJECT is set: W&B tracks this run; WANDB_MODE=disabled stops it",
        ),
        (
            {"use_swanlab": False},
            {"SWANLAB_PROJECT": "p"},
            BOTH,
            "SWANLAB_PROJECT is set, but the config says `use_swanlab: false`",
        ),
    ],
)
def test_what_is_done_or_not_done_is_said(
    values: dict[str, Any], environ: dict[str, str], installed: set[str], note: str
) -> None:
    assert read_tracking(values, environ, "r", installed).notes == (note,)


@pytest.mark.parametrize(
    ("log", "entry"),
    [
        (
            "\x1b[34m\x1b[1mwandb\x1b[0m: 🚀 View run \x1b[33mslow\x1b[0m at: \x1b[34mhttps://wandb.ai/team/p/runs/x1y2z3w4\x1b[0m\n",
            {"tool": "wandb", "url": "https://wandb.ai/team/p/runs/x1y2z3w4", "id": "x1y2z3w4"},
        ),
        (
            "wandb: Run data is saved locally in wandb/offline-run-20261128_101500-x1y2z3w4\n",
            {"tool": "wandb", "folder": "wandb/offline-run-20261128_101500-x1y2z3w4", "id": "x1y2z3w4"},
        ),
        (
            "swanlab: 🚀 View run at https://swanlab.cn/@team/p/runs/ab12cd34\n",
            {"tool": "swanlab", "url": "https://swanlab.cn/@team/p/runs/ab12cd34", "id": "ab12cd34"},
        ),
        (
            "swanlab: 💾 Run data saved at swanlog/run-20261128_011328-ma04a7k0\n",
            {"tool": "swanlab", "folder": "swanlog/run-20261128_011328-ma04a7k0", "id": "ma04a7k0"},
        ),
        ("View run at https://example.com/runs/1\n", None),
    ],
)
def test_a_line_of_the_log_tells_id_and_place(log: str, entry: dict[str, str] | None) -> None:
    assert find_tracking([log], None) == ([entry] if entry else [])


def test_swanlabs_own_file_is_read_and_a_broken_one_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "swanlab_public_config.json"
    told = {
        "run_id": "ab12",
        "run_dir": "swanlog/run",
        "cloud": {"experiment_url": "https://swanlab.cn/x/runs/ab12"},
    }
    path.write_text(json.dumps(told), encoding="utf-8")
    (entry,) = find_tracking([], tmp_path)
    assert format_tracking([entry]) == ["swanlab ab12 https://swanlab.cn/x/runs/ab12"]
    path.write_text("[1", encoding="utf-8")
    assert find_tracking([], tmp_path) == []


def test_entries_of_another_shape_are_left_out() -> None:
    assert format_tracking({"tool": "wandb"}) == []
    assert format_tracking([1, {"tool": "wandb", "id": "x"}]) == ["wandb x"]


@pytest.mark.parametrize("width", [80, 79, 60, 200, 0])
def test_a_folder_that_is_broken_over_lines_is_found_whole(tmp_path: Path, width: int) -> None:
    folder = tmp_path / ("a" * 40) / "swanlog" / "run-20261128_025525-fn359xx5"
    folder.mkdir(parents=True)
    path = folder.as_posix()
    width = len(folder.parent.as_posix()) if width == 0 else width
    broken = "\n".join(path[start : start + width] for start in range(0, len(path), width))
    log = f"swanlab: \U0001f4be Run data saved at \n{broken}\nswanlab: done\n"
    assert find_tracking([log], None) == [{"tool": "swanlab", "folder": path, "id": "fn359xx5"}]
