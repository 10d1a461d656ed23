"""A row as LLaMA-Factory aligns it, whatever form it was written in."""

from dataclasses import dataclass


class Message:
    """The roles of LLaMA-Factory's aligned messages."""

    USER = "user"
    ASSISTANT = "assistant"
    OBSERVATION = "observation"
    FUNCTION = "function"


@dataclass(frozen=True)
class Conversation:
    """A row as LLaMA-Factory aligns it: `messages` are (role, content), users and assistants in turn.

    Shape: `rejected` is the answer of a preference row that is not preferred, beside the last message; a text
    for pre-training is one message of the user.
    """

    system: str
    messages: list[tuple[str, str]]
    tools: str = ""
    rejected: str | None = None
