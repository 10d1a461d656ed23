"""Whether a template of LLaMA-Factory asks for an answer as a model's own chat template does: one quick look."""

from pathlib import Path

from launch.prove.cases import Case
from launch.prove.chat_template import Request, read_chat_template, render_chats
from launch.prove.proof import TextWriter
from prep.errors import UserError
from prep.rows.conversation import Conversation, Message
from prep.tokens.templates import list_templates
from prep.tokens.turns import TemplateOptions

_ASKED, _ANSWERED, _ASKED_AGAIN = "what is asked", "what is answered", "what is asked again"
_CHAT = (("user", _ASKED), ("assistant", _ANSWERED), ("user", _ASKED_AGAIN))
_OPENINGS = ("<think>",)


def asks_alike(folder: Path, template: str, version: str = "") -> bool | None:
    """Whether both write an answer's end, the second question, and the beginning of its answer in the same letters.

    Shape: None where that is not known: the folder's chat template writes no question, or the template is not in
    the table. What stands before the first question, a thought that is begun, and white space behind an answer
    may differ.
    """
    if template not in list_templates(version):
        return None
    options = TemplateOptions(template, version=version)
    try:
        chat = read_chat_template(folder)
        messages = [{"role": role, "content": text} for role, text in _CHAT]
        (rendered,) = render_chats(chat, [Request(messages, prompts=True)])
        told = [(Message.USER, _ASKED), (Message.ASSISTANT, _ANSWERED), (Message.USER, _ASKED_AGAIN)]
        case = Case("", Conversation("", [*told, (Message.ASSISTANT, _ANSWERED)]))
        (_, answered), (prompt, _) = TextWriter(options, chat.tokens).write_turns(case)
    except UserError:
        return None
    if rendered.error or _ASKED_AGAIN not in rendered.text:
        return None
    text = rendered.text.rstrip()
    openings = (*_OPENINGS, options.rules.thought_marks[0].strip(), options.rules.empty_thought.strip())
    if options.rules.thinks:
        text = next((text.removesuffix(each).rstrip() for each in openings if each and text.endswith(each)), text)
    asked, end = "".join(prompt).rstrip(), "".join(answered).rpartition(_ANSWERED)[2].strip()
    # An end that is the tokenizer's own, and not named beside it, is not known.
    return text.endswith(asked) and text.removesuffix(asked).rstrip().endswith(end)
