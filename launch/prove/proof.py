"""Whether LLaMA-Factory's template writes what the model's own chat template writes."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from launch.prove.cases import Case, write_chat
from launch.prove.chat_template import ChatTemplate, Rendered, Request, render_chats
from prep.errors import InputError, UserError
from prep.llamafactory import list_versions
from prep.rows.conversation import Message
from prep.tokens.templates import Special, Template, Token, list_templates
from prep.tokens.turns import PlannedTurn, TemplateOptions, plan_turns

# What `enable_thinking` may be when a chat is rendered; None leaves it unset.
MODES: tuple[bool | None, ...] = (True, False, None)
# The keys that decide how a row is written, and what each is tried with.
_TRIED: tuple[Mapping[str, Any], ...] = (
    {},
    {"mask_history": True},
    {"mask_history": False},
    {"enable_thinking": True},
    {"enable_thinking": None},
    {"preserve_thinking": True},
    {"preserve_thinking": False},
    {"mask_history": True, "enable_thinking": True},
    {"mask_history": True, "enable_thinking": None},
    {"mask_history": True, "preserve_thinking": True},
    {"mask_history": True, "preserve_thinking": False},
)
Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True)
class Difference:
    """Where two texts part: the `offset` of the first byte that differs, and what stands there on each side.

    `tokens_only`: the texts are equal, and their tokens are not, as LLaMA-Factory encodes each part by itself.
    `in_prompt`: the conversation is written equally, but its last answer is asked for with another beginning.
    `error`: one side refuses the conversation.
    """

    offset: int = 0
    trained: str = ""
    served: str = ""
    tokens_only: bool = False
    in_prompt: bool = False
    error: str = ""

    def describe(self) -> str:
        """Return what differs, in one line."""
        if self.error or self.tokens_only:
            return self.describe_place()
        return f"{self.describe_place()}: trained {self.trained!r}, the model's {self.served!r}"

    def describe_place(self) -> str:
        """Return where it differs, without what stands there."""
        if self.error:
            return self.error
        if self.tokens_only:
            return "has equal texts and other tokens: the tokenizer joins letters over the end of a part"
        where = "has another prompt for its last answer" if self.in_prompt else "differs"
        return f"{where} from byte {self.offset}"


@dataclass(frozen=True)
class Chat:
    """A case as the chat template writes it in one mode: with its last answer, and as the prompt for that."""

    whole: Rendered
    prompt: Rendered


Chats = Mapping[bool | None, Chat]


@dataclass(frozen=True)
class Verdict:
    """What came of one case: its `difference` if any, and the `settings` that undo it; None where none do."""

    case: Case
    difference: Difference | None = None
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Proof:
    """The verdicts of a template's cases, and of the user's own rows."""

    template: str
    version: str
    cases: list[Verdict]
    rows: list[Verdict]

    @property
    def differing_rows(self) -> list[Verdict]:
        """The user's rows that are not written as the model's own template writes them."""
        return [verdict for verdict in self.rows if verdict.difference]


class TextWriter:
    """Writes a conversation as LLaMA-Factory does, with a model's own special tokens."""

    def __init__(self, options: TemplateOptions, tokens: Mapping[str, str]) -> None:
        self.options = options
        self._tokens = tokens

    def write(self, case: Case) -> list[str]:
        """Return the texts that are encoded one by one; raises InputError as LLaMA-Factory would refuse."""
        return [part for turn in self.write_turns(case) for side in turn for part in side]

    def write_turns(self, case: Case) -> list[tuple[list[str], list[str]]]:
        """Return each turn's prompt and answer, in the texts that are encoded one by one."""
        return [self._spell_turn(plan) for plan in plan_turns(case.conversation, self.options)]

    def _spell_turn(self, plan: PlannedTurn) -> tuple[list[str], list[str]]:
        empty = [self.options.rules.empty_thought]
        return (
            [*self.spell(plan.source), *(empty if plan.source_ends_with_empty_thought else [])],
            [*(empty if plan.target_begins_with_empty_thought else []), *self.spell(plan.target)],
        )

    def spell(self, parts: Iterable[Any]) -> list[str]:
        """Return parts as texts, special tokens as the model spells them."""
        return [text for part in parts if (text := self._spell_part(part))]

    def _spell_part(self, part: Any) -> str:
        template = self.options.rules
        if part is Special.EOS and template.replace_eos:
            return template.stop_words[0]
        if isinstance(part, Special):
            return self._tokens.get(part.value, "")
        return part.text if isinstance(part, Token) else str(part)


def prove(
    chat: ChatTemplate,
    options: TemplateOptions,
    cases: Sequence[Case],
    rows: Sequence[Case] = (),
    encode: Encode | None = None,
) -> Proof:
    """Compare LLaMA-Factory's template with a model's own, case by case; by tokens too where `encode` is given.

    Raises: InputError when the chat template cannot be rendered at all.
    """
    everything = [*cases, *rows]
    served = _render_modes(chat, options.rules, everything)
    judge = _Judge(chat, encode)
    verdicts = [judge.judge(case, options, chats) for case, chats in zip(everything, served, strict=True)]
    for index, settings in judge.find_other_templates(verdicts, served, options).items():
        verdicts[index] = replace(verdicts[index], settings=settings)
    return Proof(options.template, options.rules.version, verdicts[: len(cases)], verdicts[len(cases) :])


class _Judge:
    def __init__(self, chat: ChatTemplate, encode: Encode | None) -> None:
        self._chat = chat
        self._encode = encode

    def judge(self, case: Case, options: TemplateOptions, served: Chats) -> Verdict:
        difference = self.compare(case, options, served)
        if difference is None:
            return Verdict(case)
        for tried, changed in _try_settings(options):
            if changed and self.compare(case, tried, served) is None:
                return Verdict(case, difference, changed)
        return Verdict(case, difference)

    def find_other_templates(
        self, verdicts: Sequence[Verdict], served: Sequence[Chats], options: TemplateOptions
    ) -> dict[int, dict[str, Any]]:
        """Return the other templates that make cases equal which no setting does, by the case's index.

        The one that does so for most cases comes first, then one of the same family.
        """
        open_cases = [index for index, each in enumerate(verdicts) if each.difference and each.settings is None]
        family = re.split(r"[_\d]", options.template)[0]
        found = []
        for tried, told in _try_templates(options) if open_cases else ():
            fits = [i for i in open_cases if self.compare(verdicts[i].case, tried, served[i]) is None]
            if fits:
                rank = (-len(fits), not tried.template.startswith(family), len(tried.template), len(told))
                found.append((rank, told, fits))
        answers: dict[int, dict[str, Any]] = {}
        for _, told, fits in sorted(found, key=lambda each: each[0]):
            for index in fits:
                answers.setdefault(index, told)
        return answers

    def compare(self, case: Case, options: TemplateOptions, served: Chats) -> Difference | None:
        chat = served[choose_mode(case, options)]
        if error := chat.whole.error or chat.prompt.error:
            return Difference(error=f"the chat template refuses it: {error}")
        try:
            parts = TextWriter(options, self._chat.tokens).write(case)
        except InputError as error:
            return Difference(error=f"LLaMA-Factory refuses it: {error}")
        text = "".join(parts)
        if text != chat.whole.text:
            return find_difference(text, chat.whole.text)
        for prompt in _list_prompts(case, options, served):
            if not text.startswith(prompt):
                return replace(find_difference(text, prompt), in_prompt=True)
        if self._encode is None or [token for part in parts for token in self._encode(part)] == list(
            self._encode(text)
        ):
            return None
        return Difference(tokens_only=True)


def _try_settings(options: TemplateOptions) -> Iterator[tuple[TemplateOptions, dict[str, Any]]]:
    """Yield other settings of the same template with what they change, then those of another version."""
    yield from _change_keys(options, {})
    for version in list_versions():
        if version != options.rules.version and options.template in list_templates(version):
            yield from _change_keys(replace(options, version=version), {"llamafactory_version": version})


def _try_templates(options: TemplateOptions) -> Iterator[tuple[TemplateOptions, dict[str, Any]]]:
    for name in list_templates(options.version):
        if name != options.template:
            yield from _change_keys(replace(options, template=name), {"template": name})


def _change_keys(
    options: TemplateOptions, told: Mapping[str, Any]
) -> Iterator[tuple[TemplateOptions, dict[str, Any]]]:
    for tried in _TRIED if options.rules.thinks else ({},):
        if all(getattr(options, key) != value for key, value in tried.items()):
            yield replace(options, **tried), {**told, **tried}


def _list_prompts(case: Case, options: TemplateOptions, served: Chats) -> list[str]:
    """Return the prompts by which a row's answer is asked for.

    One without a thought is asked for with thinking off too, where that writes the conversation in the same way.
    """
    asked = served[choose_mode(case, options)]
    prompts = [asked.prompt.text]
    if options.rules.thinks and not case.thinks and served[False].whole == asked.whole:
        prompts.append(served[False].prompt.text)
    return prompts


def choose_mode(case: Case, options: TemplateOptions) -> bool | None:
    """Return the `enable_thinking` under which a row's answer would be asked for."""
    if not options.rules.thinks:
        return None
    return case.thinks or bool(options.enable_thinking)


def find_difference(trained: str, served: str) -> Difference:
    """Return where two texts part, with what stands on both sides from a little before."""
    length = min(len(trained), len(served))
    first = next((place for place in range(length) if trained[place] != served[place]), length)
    start = max(0, first - 20)
    return Difference(
        len(trained[:first].encode("utf-8", "surrogatepass")),
        trained[start : first + 40],
        served[start : first + 40],
    )


def _render_modes(chat: ChatTemplate, template: Template, cases: Sequence[Case]) -> list[Chats]:
    """Render every case in every mode; calls whose arguments a template refuses as mappings are given as text."""
    rendered = _render_cases(chat, template, cases, arguments_as_text=False)
    again = [
        index
        for index, case in enumerate(cases)
        if any(role == Message.FUNCTION for role, _ in case.conversation.messages)
        and all(answer.whole.error for answer in rendered[index].values())
    ]
    texts = _render_cases(chat, template, [cases[index] for index in again], arguments_as_text=True)
    for index, answers in zip(again, texts, strict=True):
        if not any(answer.whole.error for answer in answers.values()):
            rendered[index] = answers
    return rendered


def _render_cases(
    chat: ChatTemplate, template: Template, cases: Sequence[Case], *, arguments_as_text: bool
) -> list[Chats]:
    """Render every case in every mode; one that is no chat has the reason for its text."""
    requests: list[Request] = []
    errors: dict[int, str] = {}
    for index, case in enumerate(cases):
        try:
            messages, tools = write_chat(case, template, chat, arguments_as_text=arguments_as_text)
        except UserError as error:
            errors[index] = str(error)
            continue
        for mode in MODES:
            requests.append(Request(messages, tools, options=describe_mode(mode)))
            requests.append(Request(messages[:-1], tools, prompts=True, options=describe_mode(mode)))
    answers = iter(render_chats(chat, requests) if requests else [])
    return [
        dict.fromkeys(MODES, Chat(Rendered(error=errors[index]), Rendered()))
        if index in errors
        else {mode: Chat(next(answers), next(answers)) for mode in MODES}
        for index in range(len(cases))
    ]


def describe_mode(mode: bool | None) -> dict[str, Any]:
    """Return what a chat template is given for a mode."""
    return {} if mode is None else {"enable_thinking": mode}
