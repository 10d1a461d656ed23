"""The prompts that are told are those that will be served, and what is said of them is what training made."""

from pathlib import Path

import pytest

from launch.prove.chat_template import ChatTemplate
from launch.prove.served import OLLAMA, list_served, write_ollama_prompt
from prep.tokens.templates import find_template, list_templates
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
        OLLAMA: on,
    }
    assert told["enable_thinking false"].end == (ASKED + "<think>\n\n</think>\n\n")[-60:]
    assert told[OLLAMA].end == ASKED[-60:]


def test_a_model_without_the_switch_is_asked_in_one_way() -> None:
    told = list_served(ChatTemplate({"default": PLAIN}, EOS), TemplateOptions("qwen3_nothink"))
    assert [(each.way, each.with_thought, each.plain) for each in told] == [
        ("enable_thinking not given", "", FROM_HERE),
        (OLLAMA, "", FROM_HERE),
    ]


@pytest.mark.stack
def test_ollamas_prompt_is_that_of_llamafactorys_modelfile(qwen3_folder: Path) -> None:
    from llamafactory.data.template import TEMPLATES
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(qwen3_folder), local_files_only=True)
    compared = 0
    for name in list_templates("0.9.5"):
        template = find_template(name, "0.9.5")
        if template.replace_eos:
            # LLaMA-Factory has made its stop word the tokenizer's end by then.
            continue
        try:
            theirs = TEMPLATES[name]._get_ollama_template(tokenizer)
        except ValueError:
            with pytest.raises(ValueError, match="writes no Modelfile"):
                write_ollama_prompt(template, EOS, "q", "s")
            continue
        begin, _, rest = theirs.partition("{{ if .System }}")
        system, _, turns = rest.partition("{{ end }}")
        user = turns.partition('{{ if eq .Role "user" }}')[2].partition('{{ else if eq .Role "assistant" }}')[0]
        expected = begin + system.replace("{{ .System }}", "s") + user.replace("{{ .Content }}", "q")
        assert write_ollama_prompt(template, EOS, "q", "s") == expected, name
        compared += 1
    assert compared > 70
