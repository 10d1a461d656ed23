"""What SwanLab's and W&B's variables add to a config."""

from typing import Any

import pytest

from launch.configs.tracking import read_tracking

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
