"""Signs in a run's log that it did less than its config says."""

import sys
from pathlib import Path
from typing import Any

import pytest

from launch.runs.folder import RunFolder
from launch.runs.record import find_boost_flags, find_flags, read_versions

VALUES: dict[str, Any] = {"do_train": True, "dataset": "a,b"}
MANIFESTS: dict[str, Any] = {"a": {"counts": {"records": 30}}, "b": {"counts": {"records": 10}}}


def test_a_log_of_all_rows_has_no_flag() -> None:
    assert find_flags(["***** Running training *****\n  Num examples = 40\n"], VALUES, MANIFESTS) == []


def test_a_run_on_other_row_counts_is_flagged() -> None:
    assert find_flags(["Num examples = 1,039"], VALUES, MANIFESTS) == ["trained on 1,039 rows; the data holds 40"]


@pytest.mark.parametrize("change", [{"val_size": 0.1}, {"packing": True}, {"streaming": True}])
def test_a_config_that_changes_the_count_is_no_reason_for_a_flag(change: dict[str, Any]) -> None:
    assert find_flags(["Num examples = 36"], {**VALUES, **change}, MANIFESTS) == []


def test_max_samples_is_counted_for_each_dataset() -> None:
    assert find_flags(["Num examples = 30"], {**VALUES, "max_samples": 20}, MANIFESTS) == []


def test_data_without_a_manifest_is_not_judged() -> None:
    assert find_flags(["Num examples = 7"], VALUES, {"a": None, "b": MANIFESTS["b"]}) == []


def test_a_fall_back_from_unsloth_is_flagged() -> None:
    log = "[WARNING] Unsloth does not support model type qwen9."
    assert find_flags([log], {}, {}) == ["Unsloth does not know qwen9 and was not used"]


def test_dropped_rows_are_counted() -> None:
    log = "Dropped lengthy example with length 9 > 8.\n" * 3 + "Skipping this abnormal example.\n"
    assert find_flags([log], {}, {}) == [
        "3 rows dropped, longer than cutoff_len",
        "1 row skipped, which LLaMA-Factory calls abnormal",
    ]


@pytest.mark.parametrize(
    ("told", "flags"),
    [
        (None, []),
        ('{"active": true}', []),
        ('{"active": false, "reason": "stage: dpo"}', ["it was not boosted: stage: dpo"]),
        ('{"active": false, "reason": "' + "x" * 900 + '"}', ["it was not boosted: " + "x" * 300]),
        ("[]", []),
        ("{", ["cannot be read"]),
        ("[" * 100_000, ["cannot be read"]),
        (" " * (2 << 20), ["too large to be read"]),
    ],
    ids=["plain", "boosted", "refused", "a long reason", "another shape", "torn", "deep", "large"],
)
def test_a_run_that_was_not_boosted_is_flagged(tmp_path: Path, told: str | None, flags: list[str]) -> None:
    run = RunFolder(tmp_path)
    if told is not None:
        run.boost.write_text(told, encoding="utf-8")
    found = find_boost_flags(run)
    assert len(found) == len(flags)
    assert all(flag in seen for flag, seen in zip(flags, found, strict=True))


def test_versions_are_read_without_starting_the_stack(tmp_path: Path) -> None:
    for name, version in (("llamafactory", "0.9.5"), ("unsloth_zoo", "2026.10.7"), ("numpy", "2.0")):
        info = tmp_path / "lib" / "python3.11" / "site-packages" / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8"
        )
    assert read_versions(tmp_path / "bin" / "llamafactory-cli") == {
        "llamafactory": "0.9.5",
        "unsloth_zoo": "2026.10.7",
    }
    assert read_versions(Path(sys.executable).parent / "no" / "cli") == {}
