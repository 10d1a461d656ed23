"""The prompt that will be served, in each mode of thinking and from Ollama, beside what was trained."""

from collections.abc import Mapping
from dataclasses import dataclass

from launch.prove.cases import Case, write_chat
from launch.prove.chat_template import ChatTemplate, Request, render_chats
from launch.prove.go_template import fill_go_template
from launch.prove.modelfile import read_request, write_ollama_template
from launch.prove.proof import MODES, TextWriter, describe_mode
from prep.errors import UserError
from prep.rows.conversation import Conversation, Message
from prep.tokens.turns import TemplateOptions

_QUESTION = "2+2?"
_ANSWER = "Four."
_SHOWN = 60
OLLAMA = "Ollama, by the Modelfile of lfc launch export"
_ASKED = Case("", Conversation("", [(Message.USER, _QUESTION), (Message.ASSISTANT, _ANSWER)]))


@dataclass(frozen=True)
class Served:
    """One way of asking: `end` is how its prompt ends; `with_thought` and `plain` say what training made of it.

    Shape: both are sentences such as `trained from here`, about rows with a thought and rows without one.
    """

    way: str
    end: str
    with_thought: str
    plain: str
    error: str = ""


def list_served(chat: ChatTemplate, options: TemplateOptions) -> list[Served]:
    """Return how a question is asked in each mode of the chat template, and from Ollama's Modelfile of our own."""
    template = options.rules
    messages, _ = write_chat(_ASKED, template, chat)
    messages = messages[:-1]
    modes = MODES if chat.mentions("enable_thinking") else (None,)
    answers = render_chats(chat, [Request(messages, prompts=True, options=describe_mode(mode)) for mode in modes])
    served = [
        Served(name_mode(mode), "", "", "", error=answer.error)
        if answer.error
        else _judge(name_mode(mode), answer.text, options, chat.tokens)
        for mode, answer in zip(modes, answers, strict=True)
    ]
    return served + _list_ollama(options, chat.tokens)


def name_mode(mode: bool | None) -> str:
    """Return a mode in the words of who calls a chat server."""
    return "enable_thinking not given" if mode is None else f"enable_thinking {str(mode).lower()}"


def _list_ollama(options: TemplateOptions, tokens: Mapping[str, str]) -> list[Served]:
    """Return how Ollama asks, by the Modelfile that `lfc launch export` writes."""
    modes = MODES if options.rules.thinks and options.enable_thinking is not False else (None,)
    try:
        template = write_ollama_template(options, tokens)
        prompts = [fill_go_template(template, read_request(_ASKED, options, think=mode)) for mode in modes]
    except ValueError as error:
        return [Served(OLLAMA, "", "", "", error=f"no Modelfile can be written: {error}")]
    ways = [OLLAMA if mode is None else f"{OLLAMA}, think {str(mode).lower()}" for mode in modes]
    return [_judge(way, prompt, options, tokens) for way, prompt in zip(ways, prompts, strict=True)]


def _judge(way: str, prompt: str, options: TemplateOptions, tokens: Mapping[str, str]) -> Served:
    template = options.rules
    thought = "I add.".join(template.thought_words) + _ANSWER
    told = []
    for answer in (thought, _ANSWER):
        if answer is thought and not template.thinks:
            told.append("")
            continue
        case = Case("", Conversation("", [(Message.USER, _QUESTION), (Message.ASSISTANT, answer)]))
        try:
            source, target = TextWriter(options, tokens).write_turns(case)[-1]
        except UserError as error:
            told.append(str(error))
            continue
        told.append(_compare(prompt, "".join(source), "".join(target)))
    return Served(way, prompt[-_SHOWN:], *told)


def _compare(prompt: str, source: str, target: str) -> str:
    """Say what training made of the place at which a prompt ends."""
    if prompt == source:
        return "trained from here"
    if not (source + target).startswith(prompt):
        return "not what was trained"
    if len(prompt) > len(source):
        return "trained from here; what the prompt begins was trained too"
    return "the row goes on, but what comes next carried no loss"
