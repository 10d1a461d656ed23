"""A row as LLaMA-Factory aligns it, whatever form it was written in."""

from dataclasses import dataclass, replace


class Message:
    """The roles of LLaMA-Factory's aligned messages."""

    USER = "user"
    ASSISTANT = "assistant"
    OBSERVATION = "observation"
    FUNCTION = "function"


@dataclass(frozen=True)
class Conversation:
    """A row as LLaMA-Factory aligns it: `messages` are (role, content), users and assistants in turn.

    Shape: `rejected` is the answer of a preference row that is not preferred, beside the last message, and
    `rejected_role` whose it is; a text for pre-training is one message of the user.
    """

    system: str
    messages: list[tuple[str, str]]
    tools: str = ""
    rejected: str | None = None
    rejected_role: str = Message.ASSISTANT

    @property
    def answered(self) -> "dict[str, Conversation]":
        """The conversation with each of its answers, by what the answer is called: "" where there is but one."""
        if self.rejected is None:
            return {"": self}
        other = [*self.messages[:-1], (self.rejected_role, self.rejected)]
        return {"chosen": replace(self, rejected=None), "rejected": replace(self, messages=other, rejected=None)}
