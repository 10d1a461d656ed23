"""`lfc launch ask`: questions to the base and to what was trained, in the terminal and on a page."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from launch.cli import lfc
from launch.results.ask import Answer, build_answers_page, read_questions
from launch.runs.progress import find_best_checkpoint
from prep.errors import InputError
from tests.support.recorder import Recorder

# As the program in llamafactory-cli's place writes it: two letters for a line's end.
THOUGHT, ANSWER = r"\n\n", r"\n\nyes"
CONFIG = """
model_name_or_path: models/base
stage: sft
do_train: true
finetuning_type: lora
dataset: rows
template: qwen3
enable_thinking: false
output_dir: saves/tuned
"""


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    monkeypatch.chdir(tmp_path)
    Path("tuned.yaml").write_text(CONFIG, encoding="utf-8")
    Path("questions.txt").write_text("\ufeffWhat is 1 + 1?\n\n谁写了《红楼梦》?\n", encoding="utf-8")
    return Recorder(tmp_path / "bin")


def ask(recorder: Recorder, *words: str) -> Result:
    arguments = ["launch", "ask", *words, "--no-check", "--llamafactory-cli", str(recorder.program)]
    return CliRunner().invoke(lfc, arguments)


def test_every_side_gets_the_same_questions_and_the_answers_stand_side_by_side(recorder: Recorder) -> None:
    result = ask(recorder, "tuned.yaml", "questions.txt", "--modes", "think,nothink", "--json", "max_new_tokens=64")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert [row["question"] for row in rows] == ["What is 1 + 1?", "谁写了《红楼梦》?"]
    sides = ["base-think", "adapter-think", "base-nothink", "adapter-nothink"]
    assert [[answer["side"] for answer in row["answers"]] for row in rows] == [sides, sides]
    assert rows[0]["answers"][0] == {"side": "base-think", "thought": THOUGHT, "text": ANSWER}
    configs = [call["config"] for call in recorder.calls()]
    assert [config.get("adapter_name_or_path") for config in configs] == [None, "saves/tuned"] * 2
    assert [config["enable_thinking"] for config in configs] == [True, True, False, False]
    assert [config["temperature"] for config in configs] == [0.6, 0.6, 0.7, 0.7]
    assert {config["max_new_tokens"] for config in configs} == {64}
    asked = Path("runs/tuned-questions/questions.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line)["instruction"] for line in asked.splitlines()] == [row["question"] for row in rows]
    page = Path("runs/tuned-questions/answers.html").read_text(encoding="utf-8")
    assert "谁写了《红楼梦》?" in page
    assert json.loads(Path("runs/tuned-questions/answers.json").read_text(encoding="utf-8")) == rows


def test_what_broke_off_goes_on_with_the_sides_that_are_left(recorder: Recorder) -> None:
    recorder.tell({"predict": 3})
    assert ask(recorder, "tuned.yaml", "questions.txt").exit_code == 3
    recorder.tell({})
    Path("runs/tuned-questions/base/predictions/predict_results.json").unlink()
    assert ask(recorder, "tuned.yaml", "questions.txt").exit_code == 0
    assert ask(recorder, "tuned.yaml", "questions.txt").exit_code == 0
    assert len(recorder.calls()) == 3


def test_other_questions_in_the_same_folder_are_refused(recorder: Recorder) -> None:
    assert ask(recorder, "tuned.yaml", "questions.txt").exit_code == 0
    Path("questions.txt").write_text("Another?\n", encoding="utf-8")
    result = ask(recorder, "tuned.yaml", "questions.txt")
    assert result.exit_code == 1
    assert "runs/tuned-questions holds other questions or other sides" in result.output
    assert "--name ANOTHER_NAME" in result.output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n \n", "holds no question"),
        ("你好".encode("gb18030"), "is not UTF-8"),
        (b"a?\n" * 1_001, "holds 1,001 questions, at most 1,000 are allowed"),
        (b"a" * (4 << 20) + b"a", "is larger than 4 MiB"),
    ],
)
def test_a_file_that_holds_no_questions_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "q.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_questions(path)


def test_a_question_is_a_line_of_a_text_file_and_nothing_less(tmp_path: Path) -> None:
    path = tmp_path / "q.txt"
    path.write_bytes("\ufeffone\x0cstill one\r\ntwo\u2028still two\rthree\x85still three\n".encode())
    assert read_questions(path) == ["one\x0cstill one", "two\u2028still two", "three\x85still three"]


def test_a_broken_note_is_of_other_questions(recorder: Recorder) -> None:
    assert ask(recorder, "tuned.yaml", "questions.txt").exit_code == 0
    Path("runs/tuned-questions/ask.json").write_text("{", encoding="utf-8")
    result = ask(recorder, "tuned.yaml", "questions.txt")
    assert (result.exit_code, "holds other questions or other sides" in result.output) == (1, True)


def test_a_call_without_questions_is_a_wrong_call(recorder: Recorder) -> None:
    assert ask(recorder, "tuned.yaml").exit_code == 2
    assert ask(recorder, "questions.txt", "tuned.yaml").exit_code == 2


def test_an_answer_cannot_become_part_of_the_page() -> None:
    answers = [Answer("a", "<b>so</b>", "<script>alert(1)</script>")]
    page = build_answers_page("t", [("<i>q</i>", answers)])
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<summary>thought</summary><pre>&lt;b&gt;so&lt;/b&gt;</pre>" in page


def write_log(folder: Path, losses: dict[int, float], checkpoints: tuple[int, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    entries = [{"current_steps": step, "eval_loss": loss} for step, loss in losses.items()]
    (folder / "trainer_log.jsonl").write_text(
        "".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8"
    )
    for step in checkpoints:
        (folder / f"checkpoint-{step}").mkdir()
        (folder / f"checkpoint-{step}" / "adapter_config.json").write_text("{}", encoding="utf-8")


def test_best_is_the_checkpoint_with_the_lowest_validation_loss(recorder: Recorder) -> None:
    write_log(Path("saves/tuned"), {10: 2.0, 20: 1.0, 30: 1.0, 40: 0.5}, (10, 20, 30))
    assert find_best_checkpoint(Path("saves/tuned")) == Path("saves/tuned/checkpoint-20")
    assert ask(recorder, "tuned.yaml", "questions.txt", "--adapter", "best").exit_code == 0
    assert recorder.calls()[1]["config"]["adapter_name_or_path"] == "saves/tuned/checkpoint-20"


@pytest.mark.parametrize(
    ("losses", "checkpoints", "message"),
    [
        ({}, (10,), "has no losses on validation rows"),
        ({10: 1.0}, (20,), "holds no checkpoint of a step with a validation loss: steps 10"),
    ],
)
def test_without_losses_or_checkpoints_there_is_no_best(
    losses: dict[int, float], checkpoints: tuple[int, ...], message: str, tmp_path: Path
) -> None:
    write_log(tmp_path / "out", losses, checkpoints)
    with pytest.raises(InputError, match=message):
        find_best_checkpoint(tmp_path / "out")
