"""Doctor: versions against the tested set and both packages' pins, pairs that break, imports in children."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.machine import doctor as doctor_module
from launch.machine import stack as stack_module
from launch.machine.doctor import check_caches, check_gpu, check_kernel, check_network, examine, sort_findings
from launch.machine.gpus import Gpu, GpuReport, choose_visible
from launch.machine.stack import (
    Stack,
    check_broken_pairs,
    check_declared,
    check_metrics,
    check_python,
    check_tested,
    read_stack,
    read_tested_versions,
    try_imports,
)
from prep.errors import StackError

TESTED = read_tested_versions()
NO_GPU = GpuReport(())


def make_stack(**versions: str) -> Stack:
    """The tested stack with other versions of some packages; "" leaves one out."""
    seen = {**TESTED, **{name.replace("_", "-"): version for name, version in versions.items()}}
    declared = {
        "llamafactory": ["trl<=0.24.0,>=0.18.0", "peft<=0.18.1,>=0.18.0", 'deepspeed; extra == "deepspeed"']
    }
    return Stack(Path("py"), "3.11.7", True, {name: version for name, version in seen.items() if version}, declared)


def test_the_tested_set_holds_what_is_watched() -> None:
    assert {name for name in stack_module.WATCHED if name not in TESTED} == set()
    assert TESTED["torchao"] == "0.15.0"


def test_the_tested_stack_has_no_fault() -> None:
    stack = make_stack()
    found = [
        *check_tested(stack, TESTED),
        *check_declared(stack),
        *check_broken_pairs(stack),
        *check_metrics(stack),
    ]
    assert [(finding.key, finding.severity) for finding in found] == [("tested set", "note")]


def test_torchao_that_pip_resolves_by_itself_is_an_error_with_its_fix() -> None:
    (finding,) = check_broken_pairs(make_stack(torchao="0.18.0"))
    assert finding.severity == "error"
    assert finding.message == (
        "0.18.0 breaks LoRA with peft 0.18.1: cannot import name 'LinearActivationQuantizedTensor'"
    )
    assert finding.fix == 'py -m pip install "torchao==0.15.0"'


def test_the_cpu_build_of_torch_is_an_error() -> None:
    (finding,) = check_broken_pairs(make_stack(torch="2.14.1+cpu"))
    assert finding.message.startswith("2.14.1+cpu is the CPU build")


def test_trl_out_of_llamafactorys_range_is_an_error() -> None:
    (finding,) = check_declared(make_stack(trl="0.26.0"))
    assert (finding.key, finding.severity) == ("trl", "error")
    assert finding.message == "is 0.26.0; llamafactory needs trl<=0.24.0,>=0.18.0"
    assert finding.fix == 'py -m pip install "trl==0.24.0"'


def test_a_declared_package_that_is_missing_is_an_error() -> None:
    (finding,) = check_declared(make_stack(peft=""))
    assert finding.message == "is not installed; llamafactory needs peft<=0.18.1,>=0.18.0"


def test_another_version_than_the_tested_one_is_a_warning() -> None:
    found = [finding for finding in check_tested(make_stack(gradio="5.45.0"), TESTED) if finding.severity != "note"]
    assert [(finding.key, finding.severity, finding.message) for finding in found] == [
        ("gradio", "warning", f"is 5.45.0; {TESTED['gradio']} was seen to train")
    ]


def test_missing_metrics_packages_are_a_warning() -> None:
    (finding,) = check_metrics(make_stack(jieba="", nltk=""))
    assert finding.message == "jieba, nltk not installed: predict_with_generate needs them"
    assert finding.fix == 'py -m pip install "jieba" "nltk"'


def test_a_kernel_that_is_not_compiled_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_module, "has_kernel", lambda: False)
    (finding,) = check_kernel()
    assert (finding.key, finding.severity) == ("conversion", "warning")
    assert finding.fix == f'{sys.executable} -m pip install --no-deps -e "{Path(__file__).parents[3]}"'
    monkeypatch.setattr(doctor_module, "has_kernel", lambda: True)
    assert [finding.severity for finding in check_kernel()] == ["note"]


def test_an_environment_without_pip_is_fixed_by_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    assert Stack(Path("py"), "3.11", False, {}, {}).install("a==1") == 'uv pip install --python py "a==1"'


def test_a_python_that_is_too_new_is_an_error() -> None:
    (finding,) = check_python(Stack(Path("py"), "3.14.0", True, {}, {}))
    assert finding.severity == "error"


def test_gpus_are_named_with_memory_and_driver() -> None:
    (finding,) = check_gpu(GpuReport((Gpu("H200", 140 << 30, (9, 0)),), "580.1"))
    assert (finding.severity, finding.message) == ("note", "H200 140 GiB; driver 580.1")
    assert [finding.severity for finding in check_gpu(NO_GPU)] == ["warning"]


@pytest.mark.parametrize(
    ("visible", "names"),
    [("0", ["a"]), ("1,0", ["b", "a"]), ("", []), ("-1,0", []), ("GPU-bb", ["b"]), ("0,7,1", ["a"])],
)
def test_visible_devices_are_chosen_as_cuda_does(visible: str, names: list[str]) -> None:
    gpus = (Gpu("a", 0, (9, 0), "GPU-aa"), Gpu("b", 0, (9, 0), "GPU-bb"))
    assert [gpu.name for gpu in choose_visible(gpus, visible)] == names


def test_a_port_in_use_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        monkeypatch.setattr(doctor_module, "_WEBUI_PORT", server.getsockname()[1])
        assert [finding.key for finding in check_network({})] == ["port"]


def test_proxies_that_catch_loopback_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_module, "_WEBUI_PORT", 1)
    found = list(check_network({"HTTP_PROXY": "http://10.0.0.1:3128", "ALL_PROXY": "socks5://10.0.0.1:1080"}))
    assert [finding.fix for finding in found] == ["pip install socksio", "export NO_PROXY=127.0.0.1,localhost"]
    assert list(check_network({"HTTP_PROXY": "http://10.0.0.1:3128", "NO_PROXY": "127.0.0.1"})) == []


def test_a_cache_that_cannot_be_written_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(dir: Path) -> None:  # noqa: A002 - the name that tempfile has
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    found = list(check_caches({"HF_HOME": str(tmp_path / "hf")}))
    assert found[0].message == f"{tmp_path / 'hf'} cannot be written: permission denied"
    assert found[0].fix == "export HF_HOME=FOLDER"


def test_errors_come_first() -> None:
    found = sort_findings([*check_gpu(NO_GPU), *check_broken_pairs(make_stack(torchao="0.18.0"))])
    assert [finding.severity for finding in found] == ["error", "warning"]


def test_without_the_stack_the_fix_installs_the_tested_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_none(given: str | None) -> Path:
        raise StackError("llamafactory-cli is not installed here")

    monkeypatch.setattr(doctor_module, "find_llamafactory_cli", find_none)
    first = examine(None)[0]
    assert (first.key, first.severity) == ("llamafactory", "error")
    assert '"llamafactory==0.9.5" "unsloth==2026.10.7" "torchao==0.15.0"' in first.fix
    assert "constraints.txt" in first.fix


def test_an_interpreter_is_asked_for_its_versions() -> None:
    stack = read_stack(Path(sys.executable))
    assert stack.python_version.startswith("3.")
    assert "click" in stack.versions


def test_an_interpreter_that_is_missing_is_a_stack_error(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="does not answer"):
        read_stack(tmp_path / "python")


def test_an_import_that_fails_is_an_error_with_what_it_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # -I keeps a broken package of ours out of the child, so one that is not installed stands for it.
    monkeypatch.setattr(stack_module, "_TRIES", (("click", "no_such_package"),))
    stack = Stack(Path(sys.executable), "3.11", True, {"click": "8", "no-such-package": "1"}, {})
    found = try_imports(stack, NO_GPU, lambda _: None)
    assert [(finding.key, finding.severity) for finding in found] == [
        ("import click", "note"),
        ("import no_such_package", "error"),
    ]
    assert found[1].message == "ModuleNotFoundError: No module named 'no_such_package'"


def test_doctor_loads_nothing_of_the_stack() -> None:
    code = (
        "import sys, json, launch.machine.doctor as s; s.find_llamafactory_cli = lambda given: (_ for _ in ()).throw("
        "s.StackError('none')); s.examine(None); print(json.dumps(sorted(sys.modules)))"
    )
    start = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    elapsed_s = time.perf_counter() - start
    loaded = {name.split(".")[0] for name in json.loads(result.stdout)}
    assert loaded & {"torch", "transformers", "llamafactory", "peft", "datasets", "unsloth"} == set()
    assert elapsed_s < 5  # 0.2 s on an idle machine; the bound only catches an import of the stack
