"""LLaMA-Factory imported once: programs that need it are forks of one process, and each is spared 10 s of imports.

A fork runs the same code on the same arguments, folder, variables and streams as a process of its own would. What
asks for other variables than the imports saw, and what no fork serves, runs by the real Python.
Run as a module it is that process; `python` and `llamafactory-cli` in its folder hand their call to it.
"""

import array
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

ROOT = Path(__file__).parents[2]
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGABRT)
_POLL_S = 0.02
_START_S = 600.0
# What LLaMA-Factory and the packages below it read while they are imported.
_READ_AT_IMPORT = (
    *("ACCELERATE_", "ALLOW_EXTRA_ARGS", "HF_", "HOME", "HUGGING_FACE_", "KMP_", "LD_", "MKL_", "MODELSCOPE_"),
    *("OPENMIND_", "OPTIM_TORCH", "PYTORCH_", "TOKENIZERS_", "TORCH_", "TRANSFORMERS_", "USE_", "XDG_"),
)
# What a training or a prediction imports in the middle of itself.
_IMPORTED = (
    *("llamafactory.cli", "llamafactory.launcher", "llamafactory.train.tuner", "llamafactory.data.processor"),
    *("transformers.models.qwen3.modeling_qwen3", "datasets.packaged_modules.json.json", "torch._dynamo", "peft"),
    *("trl", "jieba", "nltk", "rouge_chinese", "matplotlib.pyplot", "torch.utils.tensorboard"),
)
# Names the Python by which a test runs what needs the stack.
PYTHON_VARIABLE = "LFC_TEST_STACK_PYTHON"
# The programs that train, predict or load; others ask what the interpreter itself is like.
_SERVED = (
    *("answers.py", "boost.py", "trial.py", "tiny_model.py"),
    *("boost_variants.py", "token_trainings.py", "rule_judge.py", "llamafactory_texts.py", "webui_page.py"),
    *("describe_arguments.py", "llamaboard_arguments.py"),
)
# Written into the folder twice, under the two names.
_CLIENT = """\
#!{python} -IS
import array, json, os, signal, socket, sys
program = os.path.basename(sys.argv[0])
words = sys.argv[1:]
real = [{python!r}, *words] if program == "python" else [{cli!r}, *words]
if words[:1] == ["-I"]:
    del words[0], sys.argv[1]
    os.environ.pop("PYTHONPATH", None)
    os.environ["PYTHONSAFEPATH"] = "1"
script = next(iter(words), "")
is_served = program != "python" or script in ("-c", "-m") or os.path.basename(script) in {served!r}
seen = {{name: text for name, text in os.environ.items() if name.startswith({read!r})}}
if not is_served or seen != {seen!r}:
    os.execv(real[0], real)
line = socket.socket(socket.AF_UNIX)
line.connect({address!r})
call = json.dumps([program, sys.argv, os.getcwd(), dict(os.environ)]).encode("utf-8", "surrogateescape")
streams = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))
line.sendmsg([len(call).to_bytes(8, "big")], [streams])
for number in {forwarded!r}:
    signal.signal(number, lambda number, _: line.send(bytes([number])))
line.sendall(call)
told = line.recv(4)
code = int.from_bytes(told, "big", signed=True) if told else 1
if code < 0:
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


def can_fork() -> bool:
    """Tell whether forks may take the place of processes: not on Windows or macOS, nor where CUDA may have begun."""
    return sys.platform == "linux" and not Path("/dev/nvidiactl").exists()


def stack_python() -> str:
    """Return the Python for what needs LLaMA-Factory: within the fixture `warm_cli` one that need not import it."""
    return os.environ.get(PYTHON_VARIABLE, sys.executable)


@contextmanager
def serve_stack(folder: Path) -> Iterator[Path]:
    """Yield a folder that holds `python` and `llamafactory-cli`; the process is there until nobody needs it.

    Whoever comes first starts it in `folder`; other processes of the same tests share it.
    """
    try:
        folder.mkdir()
    except FileExistsError:
        _wait_for_server(folder)
        need = os.open(folder / "need", os.O_WRONLY)
    else:
        os.mkfifo(folder / "need")
        # For reading too: so it opens before the process is there.
        need = os.open(folder / "need", os.O_RDWR)
        _start_server(folder)
    try:
        yield folder
    finally:
        os.close(need)


def _start_server(folder: Path) -> None:
    seen = {name: text for name, text in os.environ.items() if name.startswith(_READ_AT_IMPORT)}
    real = Path(sys.executable)
    for name in ("python", "llamafactory-cli"):
        text = _CLIENT.format(
            python=str(real), cli=str(real.with_name("llamafactory-cli")), served=_SERVED, read=_READ_AT_IMPORT,
            seen=seen, address=str(folder / "line"), forwarded=tuple(map(int, _FORWARDED)),
        )  # fmt: skip
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)
    with (folder / "log.txt").open("wb") as log:
        # It outlives this process when another needs it still.
        subprocess.Popen(
            [str(real), "-m", "tests.support.warm_stack", str(folder)],
            cwd=ROOT,
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _wait_for_server(folder)


def _wait_for_server(folder: Path) -> None:
    deadline = time.monotonic() + _START_S
    while not (folder / "ready").exists():
        assert time.monotonic() < deadline, (folder / "log.txt").read_text(encoding="utf-8")
        time.sleep(0.1)


def _serve(folder: Path) -> None:
    """Answer calls, each by a process of its own, until nobody holds `need` open any more."""
    for name in _IMPORTED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    # A collection in a fork would write to, and so copy, all that it shares.
    gc.collect()
    gc.freeze()
    assert threading.active_count() == 1
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    need = os.open(folder / "need", os.O_RDONLY | os.O_NONBLOCK)
    line = socket.socket(socket.AF_UNIX)
    line.bind(str(folder / "line"))
    line.listen(32)
    (folder / "ready").touch()
    # Nobody writes there: what is to be read is its end, when the last who held it has ended.
    while _is_held(need):
        if line.fileno() in select.select([line.fileno(), need], [], [])[0]:
            caller, _ = line.accept()
            if os.fork() == 0:
                line.close()
                os.close(need)
                _answer(caller)
            caller.close()


def _is_held(fifo: int) -> bool:
    try:
        return bool(os.read(fifo, 1))
    except BlockingIOError:
        return True


def _answer(caller: socket.socket) -> NoReturn:
    """Run one call in a fork, hand on the signals that the caller gets, and tell it how the fork ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, control, _, _ = caller.recvmsg(8, socket.CMSG_SPACE(12))
    streams = array.array("i", control[0][2][:12])
    with caller.makefile("rb", buffering=0) as stream:
        content = b""
        while len(content) < int.from_bytes(head, "big"):
            content += stream.read(int.from_bytes(head, "big") - len(content)) or b""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        caller.close()
        _run(streams, *json.loads(content))
    with contextlib.suppress(OSError):
        os.setpgid(child, child)
    for stream_number in streams:
        os.close(stream_number)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            with contextlib.suppress(OSError):
                caller.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
            os._exit(0)
        if select.select([caller], [], [], _POLL_S)[0]:
            signals = caller.recv(16)
            # The caller was killed: so is the fork, and what it started.
            for number in signals or [signal.SIGKILL]:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, number) if not signals else os.kill(child, number)


def _run(
    streams: Sequence[int], program: str, argv: list[str], folder: str, environ: Mapping[str, str]
) -> NoReturn:
    """Become the called program."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - it lives as long as the process
    if environ.get("PYTHONUNBUFFERED"):
        for output in (sys.stdout, sys.stderr):
            output.reconfigure(write_through=True)  # type: ignore[union-attr]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    if threads := environ.get("OMP_NUM_THREADS"):
        import torch

        torch.set_num_threads(int(threads))
    code = 0
    try:
        _call(program, argv, is_safe=bool(environ.get("PYTHONSAFEPATH")))
    except SystemExit as ended:
        code = _read_code(ended.code)
    except KeyboardInterrupt:
        traceback.print_exc()
        code = -signal.SIGINT
    except BaseException:  # noqa: BLE001 - as Python itself does with whatever ends a program
        traceback.print_exc()
        code = 1
    _end(code)


def _call(program: str, argv: list[str], *, is_safe: bool) -> None:
    # In the place of this project's own folder, which Python put there for `-m`.
    sys.path[:1] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if program != "python":
        sys.argv = argv
        from llamafactory.cli import main

        main()
        return
    how, *words = argv[1:]
    if how == "-c":
        code, *words = words
        sys.argv = ["-c", *words]
        sys.path.insert(0, "")
        main_module = ModuleType("__main__")
        sys.modules["__main__"] = main_module
        exec(compile(code, "<string>", "exec"), main_module.__dict__)
    elif how == "-m":
        module, *words = words
        sys.argv = [module, *words]
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv = [how, *words]
        sys.path[:0] = [] if is_safe else [str(Path(how).absolute().parent)]
        runpy.run_path(how, run_name="__main__")


def _read_code(said: Any) -> int:
    if isinstance(said, int):
        return said & 0xFF
    if said is not None:
        sys.stderr.write(f"{said}\n")
    return 0 if said is None else 1


def _end(code: int) -> NoReturn:
    """End as Python does, without the teardown of all that was imported."""
    import atexit

    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for output in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            output.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
