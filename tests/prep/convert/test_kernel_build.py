"""How the kernel is built and called: what setup.py makes of it, and what it makes of a wrong call."""

import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from prep.convert.kernel import LineForm, LineKernel, has_kernel

ROOT = Path(__file__).parents[3]
SOURCES = sorted(path for path in (ROOT / "prep" / "convert").iterdir() if path.suffix in (".c", ".h"))
NEEDS_KERNEL = pytest.mark.skipif(not has_kernel(), reason="the kernel was not compiled: no C compiler")
LINES = ((b'"q"', b'"t"', b'"a"'), (0, 1, 2), True, b'{"q":"', b"", b"", b'","row":"')
LINE = b'{"q":"x","t":"y","a":"z"}\n'


def build(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run setup.py of a copy of the sources."""
    # Not imported here: setuptools refuses to load after another test's distutils.
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools is not installed")
    for room in ("prep", "launch", "llamafactory_configs"):
        ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd")
        shutil.copytree(ROOT / room, folder / room, ignore=ignored, dirs_exist_ok=True)
    for name in ("setup.py", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return subprocess.run(
        [sys.executable, "setup.py", *words],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@NEEDS_KERNEL
def test_the_kernel_of_a_checkout_was_built_from_its_sources() -> None:
    from prep.convert import _kernel

    built = Path(_kernel.__file__)
    if built.parent != SOURCES[0].parent:
        pytest.skip("it is not the checkout's")
    newest = max(path.stat().st_mtime for path in SOURCES)
    assert built.stat().st_mtime >= newest, "older than its sources: run `python setup.py build_ext --inplace`"


def test_without_a_compiler_the_build_succeeds_and_has_no_kernel(tmp_path: Path) -> None:
    result = build(tmp_path, "build_ext", "--inplace", CC="lfc-no-such-compiler", PATH=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert 'building extension "prep.convert._kernel" failed' in result.stdout + result.stderr
    assert list((tmp_path / "prep" / "convert").glob("_kernel*.so")) == []


def test_a_built_package_has_all_files_of_the_packages_but_the_sources_in_c(tmp_path: Path) -> None:
    result = build(tmp_path, "-q", "build_py", "--build-lib", "built")
    assert result.returncode == 0, result.stderr
    wanted = {Path("llamafactory_configs", "constraints.txt")}
    for room in ("prep", "launch", "llamafactory_configs"):
        wanted |= {path.relative_to(tmp_path) for path in (tmp_path / room).rglob("*") if path.is_file()}
    built = {path.relative_to(tmp_path / "built") for path in (tmp_path / "built").rglob("*") if path.is_file()}
    assert built == {path for path in wanted if path.suffix not in (".c", ".h")}


def test_every_folder_of_code_is_a_package() -> None:
    folders = {path.parent for room in ("prep", "launch") for path in (ROOT / room).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def convert_turns(**changes: Any) -> tuple[Any, ...]:
    """Call for one conversation of a question and an answer."""
    from prep.convert import _kernel

    arguments: dict[str, Any] = {
        "roles": ((b"human", _kernel.USER), (b"gpt", _kernel.ASSISTANT)),
        "turns": _kernel.EXPAND,
        **{"system": b"", "before_question": b'{"q":"', "before_answer": b'","a":"', "before_system": b""},
        **{"before_history": b"", "before_origin": b'","row":"', "line_end": b'"}\n'},
        "buffers": (),
        **{"first": 0, "last": 1, "number": 1, "output": bytearray(400)},
    }
    buffers: dict[str, Any] = {
        "offsets": pack(0, 2),
        "text_offsets": pack(0, 1, 2),
        "role_offsets": pack(0, 5, 8),
        "texts": b"QA",
        "names": b"humangpt",
        "rows": 1,
        "all_turns": 2,
    }
    arguments |= {name: value for name, value in changes.items() if name in arguments}
    arguments["buffers"] = tuple((buffers | {n: v for n, v in changes.items() if n in buffers}).values())
    call: Any = _kernel.convert_turns
    made: tuple[Any, ...] = call(*arguments.values())
    return made


def pack(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, sys.byteorder) for number in numbers)


@NEEDS_KERNEL
def test_a_call_returns_lines_and_counts() -> None:
    from prep.convert import _kernel

    assert convert_turns() == (b'{"q":"Q","a":"A","row":"1"}\n', 0, 1, 1, 0, 0)
    lines = _kernel.convert_lines(*LINES, LINE, 0, 7, bytearray(400))
    assert lines == (b'{"q":"xyz","row":"7"}\n', len(LINE), 1, 1, 0, 0)
    assert convert_turns(output=bytearray()) == convert_turns(names=b"") == (b"", 0, 0, 0, 0, 0)


WRONG_TURNS: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "more rows than offsets": ({"rows": 2}, ValueError),
    "more turns than offsets": ({"all_turns": 3}, ValueError),
    "offsets cut short": ({"text_offsets": b"\0" * 11}, ValueError),
    "roles cut short": ({"role_offsets": b"\0" * 11}, ValueError),
    "no offsets": ({"offsets": b""}, ValueError),
    "negative rows": ({"rows": -1}, ValueError),
    "a row before the first": ({"first": -1}, ValueError),
    "a negative number": ({"number": -1}, ValueError),
    "turns that are not there": ({"turns": 4}, ValueError),
    "too many roles": ({"roles": ((b"x", 1),) * 17}, ValueError),
    "a role alone": ({"roles": (b"x",)}, ValueError),
    "a role of text": ({"roles": (("x", 1),)}, TypeError),
    "output that cannot be written": ({"output": bytes(400)}, TypeError),
    "rows without an end": ({"rows": 1 << 70}, OverflowError),
    "text for bytes": ({"names": "humangpt"}, TypeError),
}


@NEEDS_KERNEL
@pytest.mark.parametrize("case", WRONG_TURNS)
def test_a_wrong_call_of_turns_is_refused(case: str) -> None:
    changes, error = WRONG_TURNS[case]
    with pytest.raises(error):
        convert_turns(**changes)


@NEEDS_KERNEL
@pytest.mark.parametrize(("start", "row"), [(-1, 1), (len(LINE) + 1, 1), (0, -1)])
def test_a_wrong_call_of_lines_is_refused(start: int, row: int) -> None:
    from prep.convert import _kernel

    with pytest.raises(ValueError, match="out of range"):
        _kernel.convert_lines(*LINES, LINE, start, row, bytearray(400))


@NEEDS_KERNEL
@pytest.mark.parametrize("places", [(-1, 1, 2), (0, 0, 2), (0, 1, 3)])
def test_places_of_no_column_convert_nothing(places: tuple[int, int, int]) -> None:
    from prep.convert import _kernel

    made = _kernel.convert_lines(LINES[0], places, *LINES[2:], LINE, 0, 1, bytearray(400))
    assert made == (b"", 0, 0, 0, 0, 0)


@NEEDS_KERNEL
def test_a_wrong_call_holds_no_buffer() -> None:
    output, data = bytearray(400), bytearray(LINE)
    with pytest.raises(ValueError, match="out of range"):
        call_lines(data, -1, output)
    with pytest.raises(ValueError, match="fewer offsets"):
        convert_turns(rows=9, output=output, names=data)
    # A bytearray that is held refuses to grow.
    output += b"x"
    data += b"x"


def call_lines(data: bytearray, start: int, output: bytearray) -> tuple[Any, ...]:
    from prep.convert import _kernel

    return _kernel.convert_lines(*LINES, data, start, 1, output)


@NEEDS_KERNEL
def test_the_lock_is_not_held_while_lines_are_converted() -> None:
    data = b'{"question":"q","think":"%b","answer":"a"}\n' % (b"word " * 10_000_000)
    form = LineForm(("question", "think", "answer"), (0, 1, 2), False, b"", b"", b"", b"")
    kernel = LineKernel(form, len(data))
    kernel._output = bytearray(len(data) + 400)
    calls: list[tuple[float, float]] = []

    def convert() -> None:
        for _ in range(5):
            start = time.perf_counter()
            assert kernel.convert(data, 0, 1).rows == 1
            calls.append((start, time.perf_counter()))

    thread = threading.Thread(target=convert)
    thread.start()
    moments = []
    while thread.is_alive():
        moments.append(time.perf_counter())
    thread.join()
    # In the middle of a call, so that it is not what this thread did before or after it.
    middles = [(start + (end - start) / 4, end - (end - start) / 4) for start, end in calls]
    assert any(first < moment < last for first, last in middles for moment in moments)


@NEEDS_KERNEL
@pytest.mark.skipif(sys.platform != "linux", reason="the sanitizer is loaded as Linux does it")
@pytest.mark.parametrize("processor", ["", "-U__SSE2__"], ids=["this-processor", "any-processor"])
def test_no_input_makes_the_kernel_leave_its_buffers(processor: str, tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("with --full")
    sanitizers = f"gcc -g -fsanitize=address,undefined -fno-sanitize-recover=all {processor}"
    asked = ["gcc", "-print-file-name=libasan.so"]
    built = build(tmp_path, "-q", "build_ext", "--inplace", CC=sanitizers, LDSHARED=f"{sanitizers} -shared")
    if built.returncode or not list((tmp_path / "prep" / "convert").glob("_kernel*.so")):
        pytest.skip(built.stderr)
    runtime = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    # Python's own allocator would hide where a buffer ends.
    watched = {"PYTHONMALLOC": "malloc", "ASAN_OPTIONS": "detect_leaks=0", "PYTHONPATH": str(tmp_path)}
    named = "general_way or call or compiled or described"
    tests = ("-q", "-p", "no:cacheprovider", "-k", named, "tests/prep/convert/test_kernel.py")
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            *tests,
            "tests/prep/convert/test_kernel_build.py",
            "tests/prep/rows/test_row_index.py",
        ],
        cwd=tmp_path,
        env={**os.environ, **watched, "LD_PRELOAD": runtime},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout
    assert "skipped" not in result.stdout
