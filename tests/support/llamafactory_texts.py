"""Run by another interpreter, LLaMA-Factory's own: print what its templates write of given conversations.

Reads from stdin a list of {template, enable_thinking, discards, messages, system, tools}, and prints for each a list
of [source parts, target parts], or the name of the error. An argument is a folder with an unpacked LLaMA-Factory.
"""

import inspect
import json
import os
import sys
from typing import Any

NAMES = {"bos_token_id": "<bos>", "eos_token_id": "<eos>"}


class EchoTokenizer:
    """A tokenizer whose ids are the texts themselves."""

    bos_token_id, eos_token_id = NAMES["bos_token_id"], NAMES["eos_token_id"]

    def encode(self, text: str, add_special_tokens: bool = False) -> list[str]:
        """Return the text as the only id."""
        return [text]

    def convert_tokens_to_ids(self, token: str) -> str:
        """Return the token as its id."""
        return token


def write(case: dict[str, Any]) -> Any:
    """Return what LLaMA-Factory writes of one conversation."""
    from llamafactory.data.template import TEMPLATES, ReasoningTemplate

    template = TEMPLATES[case["template"]]
    if isinstance(template, ReasoningTemplate):
        template.enable_thinking = case["enable_thinking"]
        template.reasoning_effort = case.get("reasoning_effort", "xhigh")
    discards = "discarding_history_cot" in inspect.signature(template.encode_multiturn).parameters
    arguments = [EchoTokenizer(), case["messages"], case["system"], case["tools"]]
    arguments += [case["discards"]] if discards else []
    try:
        return [[list(source), list(target)] for source, target in template.encode_multiturn(*arguments)]
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the user would see
        return type(error).__name__


if __name__ == "__main__":
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if len(sys.argv) > 1:
        sys.path.insert(0, sys.argv[1])
        os.environ["DISABLE_VERSION_CHECK"] = "1"
    json.dump([write(case) for case in json.load(sys.stdin)], answer)
    answer.close()
