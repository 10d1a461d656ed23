"""Messages at the end of runs and batches, to a webhook on this machine, and runs that stand still."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launch.cli import lfc
from launch.cli.notify import tell_end
from launch.notify import notifier
from launch.notify.notifier import open_notifier
from launch.notify.stall import StallWatch
from prep.errors import ChildFailedError, ConfigError, InputError
from tests.support.recorder import Recorder


class Webhook:
    """Its address, and what was posted to it; `status` is its answer."""

    def __init__(self) -> None:
        self.posts: list[dict[str, Any]] = []
        self.status = 200
        self.waits = threading.Event()
        self.waits.set()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.waits.wait(10)
                hook.posts.append({"path": self.path, **json.loads(body)})
                self.send_response(hook.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"json://127.0.0.1:{self.server.server_port}/s3cret-t0ken"


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    hook = Webhook()
    thread = threading.Thread(target=hook.server.serve_forever)
    thread.start()
    yield hook
    hook.server.shutdown()
    thread.join()
    hook.server.server_close()


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        Path(f"{name}.yaml").write_text(
            f"model_name_or_path: m\noutput_dir: saves/{name}\ndo_train: true\n", encoding="utf-8"
        )
    return Recorder(tmp_path / "bin")


def run(recorder: Recorder, *arguments: str) -> tuple[int, str]:
    command = ["launch", *arguments, "--no-check", "--llamafactory-cli", str(recorder.program)]
    result = CliRunner().invoke(lfc, command)
    return result.exit_code, result.output


def test_a_run_tells_of_its_end_and_its_folder_never_holds_the_address(
    recorder: Recorder, webhook: Webhook
) -> None:
    code, said = run(recorder, "train", "a.yaml", "--notify", webhook.address)
    assert code == 0, said
    (post,) = webhook.posts
    assert (post["title"], post["message"].splitlines()[0]) == ("a finished", "state: finished")
    assert "trained: saves/a" in post["message"]
    assert "s3cret" not in said
    for path in Path("runs").rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes(), path


def test_a_failure_is_told_with_its_cause_and_keeps_its_exit_code(
    recorder: Recorder, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.tell({"train": 7})
    monkeypatch.setenv("LFC_NOTIFY", webhook.address)
    assert run(recorder, "train", "a.yaml")[0] == 7
    assert [post["title"] for post in webhook.posts] == ["a failed (config or data)"]


def test_a_batch_tells_its_table_once(recorder: Recorder, webhook: Webhook) -> None:
    code, said = run(recorder, "batch", "a.yaml", "b.yaml", "--name", "night", "--notify", webhook.address)
    assert code == 0, said
    (post,) = webhook.posts
    assert post["title"] == "night: 2 of 2 finished"
    assert [line.split(" | ")[:2] for line in post["message"].splitlines()] == [
        ["a", "finished"],
        ["b", "finished"],
    ]


def test_who_does_not_take_the_message_changes_nothing_but_a_warning(recorder: Recorder, webhook: Webhook) -> None:
    webhook.status = 500
    code, said = run(recorder, "train", "a.yaml", "--notify", webhook.address)
    assert code == 0
    assert "Warning: JSON did not take the message; its network or key may be wrong" in said
    assert "s3cret" not in said


def test_who_never_ends_an_answer_holds_up_nothing(
    recorder: Recorder, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "PATIENCE_S", 0.3)
    webhook.waits.clear()
    code, said = run(recorder, "train", "a.yaml", "--notify", webhook.address)
    webhook.waits.set()
    assert code == 0
    assert "Warning: JSON did not answer within 0 seconds" in said


def test_an_end_that_cannot_be_described_does_not_hide_how_the_run_ended(webhook: Webhook) -> None:
    def describe() -> tuple[str, str]:
        raise InputError("result.json is broken")

    with (
        pytest.raises(ChildFailedError, match="the run failed"),
        tell_end(open_notifier([webhook.address]), describe),
    ):
        raise ChildFailedError("the run failed", exit_code=7)
    assert webhook.posts[0]["message"] == "how it ended cannot be told: result.json is broken"


@pytest.mark.parametrize("address", ["nonsense", "unknown://s3cret", ""])
def test_an_address_that_is_none_is_refused_before_anything_starts_and_not_shown(
    address: str, recorder: Recorder
) -> None:
    code, said = run(recorder, "train", "a.yaml", "--notify", "json://localhost", "--notify", address)
    assert code == 1
    assert "address 2 of --notify is none that apprise knows" in said
    assert "s3cret" not in said
    assert recorder.calls() == []


def test_detached_is_told_by_attach(recorder: Recorder) -> None:
    code, said = run(recorder, "train", "a.yaml", "--detach", "--notify", "json://localhost")
    assert code == 2
    assert "lfc launch attach NAME --notify URL" in said


def test_a_message_is_plain_text_of_bounded_length(webhook: Webhook) -> None:
    told = open_notifier([webhook.address])
    assert told is not None
    assert told.tell("t\x1b[31m", "x" * 10_000) is None
    assert "\x1b" not in webhook.posts[0]["title"]
    assert len(webhook.posts[0]["message"]) < 4_100
    assert open_notifier([]) is None
    with pytest.raises(ConfigError, match="address 1"):
        open_notifier(["nothing"])


def test_a_run_stands_still_after_many_times_its_usual_step_and_is_told_of_once() -> None:
    watch = StallWatch(factor=10, least_s=100)
    assert watch.see(None, 0) is None
    seen = [watch.see(step, 20.0 * step) for step in range(6)]
    assert seen == [None] * 6
    assert watch.see(5, 100 + 199) is None
    assert watch.see(5, 100 + 200) == "no step for 3 min at step 5; a step usually takes 20 s"
    assert watch.see(5, 100 + 5_000) is None
    # It goes on, and stands still again.
    assert watch.see(6, 6_000) is None
    assert watch.see(6, 12_000) is not None


@pytest.mark.parametrize(
    ("steps", "what"),
    [
        ([(0, 0), (0, 10_000)], "the first step takes as long as it takes"),
        ([(0, 0), (100, 1), (100, 90)], "a pause below the least time"),
        ([(5, 0), (6, 1), (0, 2), (0, 5_000)], "another bar began, such as an evaluation's"),
    ],
)
def test_what_is_no_standstill(steps: list[tuple[int, float]], what: str) -> None:
    watch = StallWatch(factor=10, least_s=100)
    assert [watch.see(step, now) for step, now in steps] == [None] * len(steps), what
