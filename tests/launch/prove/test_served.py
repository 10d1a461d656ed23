"""The prompts that are told are those that will be served, and what is said of them is what training made."""

import pytest

from launch.prove.chat_template import ChatTemplate
from launch.prove.served import OLLAMA, list_served
from prep.tokens.turns import TemplateOptions
from tests.support.chat_templates import DROPS_THOUGHTS, PLAIN

EOS = {"eos_token": "<|im_end|>"}
ASKED = "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"
FROM_HERE = "trained from here"
BEGUN = "trained from here; what the prompt begins was trained too"
NO_LOSS = "the row goes on, but what comes next carried no loss"
NOT_TRAINED = "not what was trained"


@pytest.mark.parametrize(
    ("enable_thinking", "on", "off"),
    [(True, (FROM_HERE, FROM_HERE), (NOT_TRAINED, BEGUN)), (None, (FROM_HERE, NO_LOSS), (NOT_TRAINED, FROM_HERE))],
)
def test_each_way_of_asking_is_judged_by_what_was_trained_there(
    enable_thinking: bool | None, on: tuple[str, str], off: tuple[str, str]
) -> None:
    options = TemplateOptions("qwen3", enable_thinking)
    told = {each.way: each for each in list_served(ChatTemplate({"default": DROPS_THOUGHTS}, EOS), options)}
    assert {way: (each.with_thought, each.plain) for way, each in told.items()} == {
        "enable_thinking true": on,
        "enable_thinking false": off,
        "enable_thinking not given": on,
        f"{OLLAMA}, think true": on,
        f"{OLLAMA}, think false": off,
        OLLAMA: on,
    }
    assert told["enable_thinking false"].end == (ASKED + "<think>\n\n</think>\n\n")[-60:]
    assert told[OLLAMA].end == ASKED[-60:]
    assert told[f"{OLLAMA}, think false"].end == told["enable_thinking false"].end


def test_a_model_without_the_switch_is_asked_in_one_way() -> None:
    told = list_served(ChatTemplate({"default": PLAIN}, EOS), TemplateOptions("qwen3_nothink"))
    assert [(each.way, each.with_thought, each.plain) for each in told] == [
        ("enable_thinking not given", "", FROM_HERE),
        (OLLAMA, "", FROM_HERE),
    ]
