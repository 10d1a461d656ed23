"""How rows are read, where a user decides it; and the names that files give to roles and to a turn's fields."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from prep.choices import Turns
from prep.rows.thinking import Split, find_thought, merge_thought

USER, ASSISTANT, SYSTEM, CALL, OBSERVATION = "human", "gpt", "system", "function_call", "observation"
# What `--fix-turns` can do to turns that are no question and answer in turn, and what is counted then.
TURN_FIXES = {
    "join": "turns_joined",
    "drop-tail": "turns_dropped_at_the_end",
    "greeting": "greetings_dropped",
    "system": "system_turns_moved",
}
_ROLE_NAMES = {
    USER: "human user prompter questioner customer client patient student "
    "用户 顾客 客户 买家 患者 病人 学生 提问者 人类",
    ASSISTANT: "gpt assistant chatgpt bot chatbot model ai agent helper claude gemini bing bard llm doctor "
    "助手 助理 客服 机器人 模型 医生 卖家 老师 智能助手 人工智能",
    SYSTEM: "system developer 系统 系统提示",
    CALL: "function_call tool_call function_calls tool_calls 工具调用",
    OBSERVATION: "observation tool function tool_response function_response tool_result tool_results ipython "
    "environment 工具 工具结果",
}
# {a role's name, without case, '_' for '-' and spaces: ours}.
ROLES = {name: role for role, names in _ROLE_NAMES.items() for name in names.split()}
ROLE_FIELDS = ("role", "from", "speaker", "sender", "author", "角色", "说话人", "发言人", "发送者")
TEXT_FIELDS = ("content", "value", "text", "message", "utterance", "内容", "文本", "发言内容", "消息内容")
# Our names of a turn's fields, for `--map` and `--drop`: no format has a column of these names.
TURN_FIELDS = ("role", "content", "thinking")


@dataclass(frozen=True)
class Reading:
    """How rows are read: which answers are trained, and what may be done to rows that are nearly right.

    Shape: `turns` is one of Turns, `fixes` are words of TURN_FIXES, `roles` {the file's name: one of ROLES}.
    `may_lack_open` takes what stands before a closing tag alone for the thought. `fields` is {one of TURN_FIELDS:
    the file's name}, `dropped` are fields of turns that are left out although they may carry meaning.
    `is_label_named`: the user named the column that says which answers are good; its words and numbers count.
    """

    turns: str = Turns.EXPAND
    fixes: frozenset[str] = frozenset()
    roles: Mapping[str, str] = field(default_factory=dict)
    may_lack_open: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    is_label_named: bool = False

    def of_turns(self, turns: str) -> "Reading":
        """Return this reading with another choice of turns."""
        return replace(self, turns=turns)

    def find_role(self, name: str) -> str | None:
        """Return our role of a file's name for it, None when nobody knows it."""
        named = self.roles.get(name.strip(), name)
        return ROLES.get(named.strip().casefold().replace("-", "_").replace(" ", "_"))

    def split(self, text: str, thought: str = "") -> Split:
        """Return thought and answer of a text, beside which the thought may have had a field of its own."""
        if thought:
            return merge_thought(thought, text, may_lack_open=self.may_lack_open)
        return find_thought(text, may_lack_open=self.may_lack_open)


def note_markup(split: Split) -> tuple[str, ...]:
    """Return what to count for a thought that was marked otherwise than by Qwen3's tags."""
    return (f"thoughts_from_{split.markup}",) if split.markup else ()
