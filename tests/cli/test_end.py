"""How every command ends: its exit code, one message, and nothing lost when nobody reads the rest."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.lfc_process import ROOT, run_lfc

# A command of the test's own, which ends in the way that is named.
PLANTED = """
import click, os, sys
from launch.cli.root import lfc
from prep.cli.output import echo
from prep.errors import ChildFailedError, InputError
@lfc.command("end")
@click.argument("way")
@click.pass_context
def end(ctx, way):
    echo("begun")
    if way == "abort": raise click.Abort
    if way == "interrupt": raise KeyboardInterrupt
    if way == "user": raise InputError("seen \\x1b[2J", hint="the next step")
    if way == "child": raise ChildFailedError("the child failed", exit_code=77)
    if way == "exit": ctx.exit(5)
    if way == "system": sys.exit(6)
    if way == "text": sys.exit("a text\\x1b[2J")
    if way == "usage": raise click.UsageError("wrong \\x1b[2J", ctx)
    if way == "file": raise click.FileError("name\\x1b[2J", "gone")
    if way == "number": return 9
    if way == "bug": raise ValueError("a bug \\x1b[2J")
    if way == "eof": raise EOFError
    if way == "pipe": raise BrokenPipeError("of a worker")
"""
ENDS = {
    "nothing": (0, ""),
    "abort": (130, "Interrupted: nothing half-written was left behind.\n"),
    "interrupt": (130, "Interrupted: nothing half-written was left behind.\n"),
    "user": (1, "Error: seen \\x1b[2J\n  Try: the next step\n"),
    "child": (77, "Error: the child failed\n"),
    "exit": (5, ""),
    "system": (6, ""),
    "text": (1, "a text\\x1b[2J\n"),
    "usage": (2, "Usage: lfc end [OPTIONS] WAY\nTry 'lfc end -h' for help.\n\nError: wrong \\x1b[2J\n"),
    "file": (1, "Error: Could not open file 'name\\x1b[2J': gone\n"),
}


@pytest.mark.parametrize("way", ENDS)
def test_a_command_ends_with_its_code_and_one_message(tmp_path: Path, way: str) -> None:
    result = run_lfc(tmp_path, "end", way, code=PLANTED)
    code, said = ENDS[way]
    assert (result.returncode, result.stdout.decode(), result.stderr.decode()) == (code, "begun\n", said)


@pytest.mark.parametrize(
    ("way", "last"), [("bug", "ValueError: a bug \\x1b[2J"), ("eof", "RuntimeError: "), ("pipe", "")]
)
def test_a_bug_keeps_its_traceback_and_what_was_printed(tmp_path: Path, way: str, last: str) -> None:
    result = run_lfc(tmp_path, "end", way, code=PLANTED)
    assert (result.returncode, result.stdout) == (1, b"begun\n")
    assert b"Traceback" in result.stderr
    assert last in result.stderr.decode().splitlines()[-1]
    assert b"\x1b" not in result.stderr


@pytest.mark.parametrize("way", ["user", "child", "exit", "usage", "interrupt", "nothing"])
def test_a_recipe_that_calls_a_command_gets_its_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    code = f"{PLANTED}\nlfc.main(['end', 'nothing'], prog_name='lfc', standalone_mode=False)"
    code += f"\nos._exit(100 + lfc.main(['end', {way!r}], prog_name='lfc', standalone_mode=False))"
    assert run_lfc(tmp_path, code=code).returncode == 100 + ENDS[way][0]


def test_no_command_at_all_shows_the_help_as_a_wrong_call(tmp_path: Path) -> None:
    result = run_lfc(tmp_path)
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr.startswith(b"Usage: lfc [OPTIONS] COMMAND [ARGS]...")
    assert b"Error" not in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
@pytest.mark.parametrize(
    ("pipe", "codes"),
    [
        ("| head -c 1", {141}),
        ("| true", {141}),
        ("2>&1 >/dev/null | true", {0}),
        (">&-", {0}),
        (">&- 2>&-", {0}),
        (">/dev/full", {1}),
    ],
)
@pytest.mark.parametrize("argv", ["launch config ls", "launch config ls --json", "launch config schema", "--help"])
def test_an_output_that_nobody_takes_ends_without_a_traceback(
    tmp_path: Path, argv: str, pipe: str, codes: set[int]
) -> None:
    if not Path("/dev/full").exists() and "full" in pipe:
        pytest.skip("no /dev/full")
    said, status = run_in_shell(tmp_path, f"{argv} {pipe}")
    assert "Traceback" not in said
    assert "Exception" not in said
    # A small output may be taken whole before its reader has gone.
    assert status in codes | ({0} if "|" in pipe else set()), said


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
@pytest.mark.parametrize("argv", ["--help", "prep --help", "prep convert --help", "launch runs -h"])
def test_help_into_a_pipe_that_was_closed_before_ends_as_shells_expect(tmp_path: Path, argv: str) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-P", "-m", "launch", *argv.split()]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=tmp_path, env=env, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (result.returncode, result.stderr) == (141, b"")


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
@pytest.mark.parametrize("pipe", ["| true", "2>&1 | true", ">&-", "2>&-", ">/dev/full 2>/dev/full"])
def test_a_fault_keeps_its_code_though_nobody_reads_it(tmp_path: Path, pipe: str) -> None:
    for argv, code in (("launch compare a b", 1), ("launch compare", 2)):
        assert run_in_shell(tmp_path, f"{argv} {pipe}") == (run_in_shell(tmp_path, f"{argv} {pipe}")[0], code)


def run_in_shell(folder: Path, line: str) -> tuple[str, int]:
    """Run an `lfc` line in bash; what reached its stderr, and the code of `lfc` itself."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    script = f'lfc() {{ "{sys.executable}" -P -m launch "$@"; }}; lfc {line}; echo "${{PIPESTATUS[0]}}" >status'
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([bash, "-c", script], cwd=folder, env=env, capture_output=True, text=True, check=False)
    return result.stderr, int((folder / "status").read_text(encoding="utf-8"))


@pytest.mark.skipif(sys.platform != "linux", reason="a folder that is gone while a process is in it")
@pytest.mark.parametrize(
    "argv",
    [
        ["prep", "convert", "a.jsonl", "-o", "b.jsonl"],
        ["prep", "sources"],
        ["launch", "train", "a.yaml"],
        ["launch", "runs"],
        ["launch", "webui"],
        ["run", "quickstart"],
        ["quickstart", "--to", "/tmp/never"],
        ["doctor", "--quick"],
        ["nonsense"],
    ],
    ids=" ".join,
)
def test_in_a_folder_that_was_deleted_every_command_is_one_error(tmp_path: Path, argv: list[str]) -> None:
    (tmp_path / "gone").mkdir()
    start = f"import os, shutil; os.chdir({str(tmp_path / 'gone')!r}); shutil.rmtree({str(tmp_path / 'gone')!r})"
    result = run_lfc(tmp_path, *argv, code=start)
    assert (result.returncode, result.stdout, result.stderr.decode()) == (
        1,
        b"",
        "Error: the working folder cannot be read: no such file or directory\n  Try: cd into a folder that exists\n",
    )


def test_ending_tells_the_exit_functions(tmp_path: Path) -> None:
    code = "import atexit; atexit.register(lambda: print('last words'))"
    assert run_lfc(tmp_path, "launch", "config", "show", "cpu-smoke", code=code).stdout.endswith(b"last words\n")
