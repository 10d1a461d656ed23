"""What docs/think-policies.md draws is what LLaMA-Factory's template writes."""

import re
from pathlib import Path

import pytest

from prep.choices import ThinkPolicy
from prep.rows.conversation import Conversation, Message
from prep.rows.thinking import write_output
from prep.tokens.turns import TemplateOptions, plan_turns

PAGE = (Path(__file__).parents[2] / "docs" / "think-policies.md").read_text(encoding="utf-8")


def draw(policy: ThinkPolicy, thought: str) -> str:
    output = write_output(thought, "Four.", policy)
    row = Conversation("", [(Message.USER, "2+2?"), (Message.ASSISTANT, output)])
    options = TemplateOptions("qwen3", policy.enable_thinking)
    plan = plan_turns(row, options)[0]
    empty = options.rules.empty_thought
    prompt = "".join(map(str, plan.source)) + (empty if plan.source_ends_with_empty_thought else "")
    target = (empty if plan.target_begins_with_empty_thought else "") + "".join(map(str, plan.target))
    return f"prompt  {prompt}\nloss    {target}".replace("\n", "\\n").replace("\\nloss ", "\nloss ", 1)


@pytest.mark.parametrize("policy", list(ThinkPolicy))
def test_the_page_draws_what_each_policy_trains(policy: ThinkPolicy) -> None:
    section = PAGE.split(f"### `{policy}`")[1].split("\n#")[0]
    drawn = re.findall(r"```\n(.*?)\n```", section, re.DOTALL)
    assert drawn == list(dict.fromkeys(draw(policy, thought) for thought in ("2 and 2 are 4.", "")))
    told = {True: "true", False: "false", None: "null"}[policy.enable_thinking]
    assert section.startswith(f": `enable_thinking: {told}`")
