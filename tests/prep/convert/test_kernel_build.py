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

from prep.convert.kernel import Job, ObjectKernel, has_kernel

ROOT = Path(__file__).parents[3]
SOURCES = sorted(path for path in (ROOT / "prep" / "convert").iterdir() if path.suffix in (".c", ".h"))
NEEDS_KERNEL = pytest.mark.skipif(not has_kernel(), reason="the kernel was not compiled: no C compiler")
JOB_TEXTS = (b'{"q":"', b"", b'","a":"', b"", b"", b"", b"", b"", b'","row":"', b'"}\n')
# What the codes of the kernel are is no secret: they are the bytes of what is called here.
JOB = (JOB_TEXTS, 0, 2, ((b"human", 2), (b"gpt", 3)), (b"from",), (b"value",))
LINE = b'{"q":"Q","a":"A"}\n'


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


def call_table(**changes: Any) -> tuple[Any, ...]:
    """Call for one conversation of a question and an answer, given as Arrow's buffers."""
    from prep.convert import _kernel

    given: dict[str, Any] = {
        "job": JOB,
        "columns": (),
        "lists": (0, 1, 4, None, pack(0, 2), None),
        "roles": (0, 2, 4, None, pack(0, 5, 8), b"humangpt"),
        "texts": (0, 2, 4, None, pack(0, 1, 2), b"QA"),
        "skips": None,
        **{"rows": 1, "first": 0, "last": 1, "number": 1, "room": 400},
    }
    assert changes.keys() <= given.keys()
    given |= changes
    turns = tuple(given[name] for name in ("lists", "roles", "texts"))
    call: Any = _kernel.convert_table
    names = ("rows", "first", "last", "number", "room")
    made: tuple[Any, ...] = call(
        given["job"], given["columns"], turns, given["skips"], *(given[name] for name in names)
    )
    return made


def call_objects(**changes: Any) -> tuple[Any, ...]:
    """Call for one line of a question and an answer."""
    from prep.convert import _kernel

    given: dict[str, Any] = {
        "job": JOB,
        "names": (b'"q"', b'"a"'),
        "forms": ((3, bytes((_kernel.QUESTION, _kernel.ANSWER))),),
        **{"judged": (), "judge": None, "is_array": False, "data": LINE, "start": 0, "row": 7},
        "room": 400,
    }
    assert changes.keys() <= given.keys()
    call: Any = _kernel.convert_objects
    made: tuple[Any, ...] = call(*(given | changes).values())
    return made


def call_fields(**changes: Any) -> tuple[Any, ...]:
    """Call for one line of a question and an answer, parted by a comma."""
    from prep.convert import _kernel

    given: dict[str, Any] = {
        "job": JOB,
        "uses": bytes((_kernel.QUESTION, _kernel.ANSWER)),
        **{
            "delimiter": b",",
            "judged": (),
            "judge": None,
            "is_last": False,
            "data": b'Q,"A"\n',
            "start": 0,
            "row": 3,
        },
        "room": 400,
    }
    assert changes.keys() <= given.keys()
    call: Any = _kernel.convert_fields
    made: tuple[Any, ...] = call(*(given | changes).values())
    return made


def pack(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, sys.byteorder) for number in numbers)


@NEEDS_KERNEL
def test_a_call_returns_lines_and_counts() -> None:
    assert call_table() == (b'{"q":"Q","a":"A","row":"1"}\n', 0, 1, 1, 0, 0, 0, 0, 0, 0)
    assert call_objects() == (b'{"q":"Q","a":"A","row":"7"}\n', len(LINE), 1, 1, 0, 0, 0, 0, 1, 0)
    assert call_fields() == (b'{"q":"Q","a":"A","row":"3"}\n', 6, 1, 1, 0, 0, 0, 0, 0, 1)
    nothing = (b"", *[0] * 9)
    assert call_table(room=0) == call_objects(room=0) == nothing
    assert call_table(texts=(0, 2, 4, None, pack(0, 1, 2), b"")) == nothing
    assert call_table(skips=b"\1") == (b"", 0, 1, 0, 0, 0, 0, 1, 0, 0)
    assert call_fields(data=b'Q,"A"') == nothing


@NEEDS_KERNEL
def test_a_judge_sorts_rows_out_and_its_errors_come_up() -> None:
    seen: list[bytes] = []

    def judge(value: bytes) -> int:
        seen.append(value)
        return 0

    assert call_objects(judged=(1,), judge=judge) == (b"", len(LINE), 1, 0, 0, 0, 0, 1, 0, 0)
    assert seen == [b'"A"']

    def judge_two(*fields: bytes) -> int:
        seen.extend(fields)
        return 0

    assert call_fields(judged=(1, 0), judge=judge_two)[:4] == (b"", 6, 1, 0)
    assert seen[1:] == [b'"A"', b"Q"]
    assert call_objects(judged=(1,), judge=lambda _: -1)[2] == 0
    with pytest.raises(ZeroDivisionError):
        call_objects(judged=(1,), judge=lambda _: 1 // 0)
    with pytest.raises(TypeError):
        call_objects(judged=(1,), judge=lambda _: "yes")


MANY_ROLES = ((b"x", 1),) * 65
WRONG_TABLES: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "more rows than offsets": ({"lists": (0, 2, 4, None, pack(0, 2), None)}, ValueError),
    "more turns than offsets": ({"texts": (0, 3, 4, None, pack(0, 1, 2), b"QA")}, ValueError),
    "a first item behind the offsets": ({"texts": (2, 1, 4, None, pack(0, 1, 2), b"QA")}, ValueError),
    "offsets cut short": ({"texts": (0, 2, 4, None, b"\0" * 11, b"QA")}, ValueError),
    "offsets of another width": ({"texts": (0, 2, 8, None, pack(0, 1, 2), b"QA")}, ValueError),
    "a width that is none": ({"texts": (0, 2, 0, None, pack(0, 1, 2), b"QA")}, ValueError),
    "fewer bits than items": ({"texts": (0, 2, 4, b"", pack(0, 1, 2), b"QA")}, ValueError),
    "no offsets": ({"lists": (0, 1, 4, None, b"", None)}, ValueError),
    "negative items": ({"lists": (0, -1, 4, None, pack(0, 2), None)}, ValueError),
    "a column that is no tuple": ({"lists": 4}, ValueError),
    "fewer bytes to skip by than rows": ({"skips": b""}, ValueError),
    "a use that is none": ({"columns": ((99, (0, 1, 4, None, pack(0, 1), b"Q")),)}, ValueError),
    "a row before the first": ({"first": -1}, ValueError),
    "a negative number": ({"number": -1}, ValueError),
    "turns that are not there": ({"job": (JOB_TEXTS, 4, 0, (), (), ())}, ValueError),
    "a policy that is not there": ({"job": (JOB_TEXTS, 0, 3, (), (), ())}, ValueError),
    "too few texts": ({"job": ((b"",) * 9, 0, 0, (), (), ())}, ValueError),
    "too many roles": ({"job": (JOB_TEXTS, 0, 0, MANY_ROLES, (), ())}, ValueError),
    "too many fields": ({"job": (JOB_TEXTS, 0, 0, (), (b"x",) * 65, ())}, ValueError),
    "a role alone": ({"job": (JOB_TEXTS, 0, 0, (b"x",), (), ())}, ValueError),
    "a role of text": ({"job": (JOB_TEXTS, 0, 0, (("x", 1),), (), ())}, TypeError),
    "less room than none": ({"room": -1}, ValueError),
    "rows without an end": ({"rows": 1 << 70}, OverflowError),
    "text for bytes": ({"roles": (0, 2, 4, None, pack(0, 5, 8), "humangpt")}, TypeError),
}


@NEEDS_KERNEL
@pytest.mark.parametrize("case", WRONG_TABLES)
def test_a_wrong_call_of_a_table_is_refused(case: str) -> None:
    changes, error = WRONG_TABLES[case]
    with pytest.raises(error):
        call_table(**changes)


WRONG_OBJECTS: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "a start before the data": ({"start": -1}, ValueError),
    "a start behind the data": ({"start": len(LINE) + 1}, ValueError),
    "a negative row": ({"row": -1}, ValueError),
    "no forms": ({"forms": ()}, ValueError),
    "too many forms": ({"forms": ((3, b"\3\4"),) * 9}, ValueError),
    "a form of fewer columns": ({"forms": ((3, b"\3"),)}, ValueError),
    "a form that is no pair": ({"forms": (3,)}, ValueError),
    "too many columns": ({"names": (b'"x"',) * 65}, ValueError),
    "a name of text": ({"names": ("q", "a")}, TypeError),
    "a judged column of text": ({"judged": ("a",)}, TypeError),
}


@NEEDS_KERNEL
@pytest.mark.parametrize("case", WRONG_OBJECTS)
def test_a_wrong_call_of_objects_is_refused(case: str) -> None:
    changes, error = WRONG_OBJECTS[case]
    with pytest.raises(error):
        call_objects(**changes)


@NEEDS_KERNEL
@pytest.mark.parametrize("uses", [b"\3\3", b"\4\4", b"\3\0", b"\xff\xff", b"\x08\0"])
def test_uses_that_make_no_row_convert_nothing(uses: bytes) -> None:
    assert call_objects(forms=((3, uses),))[:3] == (b"", 0, 0)
    assert call_fields(uses=uses)[:3] == (b"", 0, 0)


@NEEDS_KERNEL
def test_judged_columns_that_are_not_there_convert_nothing() -> None:
    assert call_objects(judged=(9,), judge=lambda _: 1)[:3] == (b"", 0, 0)
    assert call_fields(judged=(9,), judge=lambda _: 1)[:3] == (b"", 0, 0)


@NEEDS_KERNEL
def test_a_wrong_call_holds_no_buffer() -> None:
    data = bytearray(LINE)
    with pytest.raises(ValueError, match="out of range"):
        call_objects(data=data, start=-1)
    with pytest.raises(ValueError, match="fewer offsets"):
        call_table(texts=(0, 9, 4, None, data, b""))
    with pytest.raises(ValueError, match="out of range"):
        call_fields(data=data, start=-1)
    # A bytearray that is held refuses to grow.
    data += b"x"


@NEEDS_KERNEL
def test_the_lock_is_not_held_while_lines_are_converted() -> None:
    data = b'{"question":"q","answer":"%b"}\n' % (b"word " * 800_000) * 12
    kernel = ObjectKernel(Job(*JOB), (), lambda: 1, len(data))
    kernel._room = len(data) + 4096
    kernel.add_form(("question", "answer"), (3, 4))
    calls: list[tuple[float, float]] = []

    def convert() -> None:
        for _ in range(5):
            start = time.perf_counter()
            assert kernel.convert(data, 0, 1).rows == 12
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
    named = "slow_path or call or compiled or described"
    tests = ("-q", "-p", "no:cacheprovider", "-k", named, "tests/prep/convert/test_kernel.py")
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            *tests,
            "tests/prep/convert/test_kernel_build.py",
            "tests/prep/convert/test_kernel_formats.py",
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
