"""Rows laid out as well-known public sets lay theirs out, in our own words: one line a shape.

`docs/formats.md` lists them; a test converts twenty rows of each.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

Row = dict[str, Any]
Q, T, A = "What is {0} plus 1?", "One more than {0}.", "It is {1}."
TOOL = {
    "name": "add",
    "description": "Add two numbers",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
}
TOOLS = json.dumps([TOOL])


class PublicShape(NamedTuple):
    """A layout: which format reads it, a row by its number, what it holds, and the options that it needs.

    Shape: `holds` is answer, thought or calls; `thought` rows must give T as thought and A as answer.
    """

    format: str
    make: Callable[[int], Row]
    holds: str = "answer"
    options: tuple[str, ...] = ()


def q(i: int) -> str:
    return Q.format(i)


def t(i: int) -> str:
    return T.format(i)


def a(i: int) -> str:
    return A.format(i, i + 1)


def tagged(i: int) -> str:
    return f"<think>\n{t(i)}\n</think>\n\n{a(i)}"


def turns(*pairs: tuple[str, str], role: str = "from", text: str = "value") -> list[dict[str, Any]]:
    return [{role: who, text: said} for who, said in pairs]


def chat(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
    return turns(*pairs, role="role", text="content")


def call(i: int) -> dict[str, Any]:
    return {"name": "add", "arguments": {"a": i, "b": 1}}


def openai_call(i: int) -> dict[str, Any]:
    function = {"name": "add", "arguments": json.dumps(call(i)["arguments"])}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": function}],
    }


def tag_call(i: int) -> str:
    return f"<tool_call>\n{json.dumps(call(i))}\n</tool_call>"


def said_by(user: str, model: str) -> Callable[[int], Row]:
    return lambda i: {"conversations": turns((user, q(i)), (model, a(i)))}


SHAPES: dict[str, PublicShape] = {
    # One question and one answer.
    "alpaca": PublicShape("alpaca", lambda i: {"instruction": q(i), "input": "", "output": a(i)}),
    "alpaca with a thought column": PublicShape(
        "alpaca", lambda i: {"instruction": q(i), "input": "", "output": a(i), "reasoning": t(i)}, "thought"
    ),
    "belle": PublicShape("alpaca", lambda i: {"instruction": q(i), "input": "", "output": a(i)}),
    "coig": PublicShape("alpaca", lambda i: {"instruction": q(i), "output": a(i), "task_type": "math"}),
    "dolly without context": PublicShape(
        "medical-cot", lambda i: {"instruction": q(i), "context": "", "response": a(i), "category": "qa"}
    ),
    "prompt and completion": PublicShape("medical-cot", lambda i: {"prompt": q(i), "completion": a(i)}),
    "question and answer": PublicShape("medical-cot", lambda i: {"question": q(i), "answer": a(i)}),
    "ms-swift query": PublicShape("medical-cot", lambda i: {"query": q(i), "response": a(i)}),
    "ms-swift query with history": PublicShape(
        "medical-cot", lambda i: {"query": q(i), "response": a(i), "history": [[q(0), a(0)]]}
    ),
    "chinese headers": PublicShape(
        "medical-cot", lambda i: {"问题": q(i), "思考过程": t(i), "答案": a(i)}, "thought"
    ),
    # One question, a thought and an answer.
    "medical r1": PublicShape(
        "medical-cot", lambda i: {"question": q(i), "think": t(i), "answer": a(i)}, "thought"
    ),
    "medical o1": PublicShape(
        "medical-cot", lambda i: {"Question": q(i), "Complex_CoT": t(i), "Response": a(i)}, "thought"
    ),
    "r1 distill, two columns": PublicShape(
        "medical-cot", lambda i: {"instruction": q(i), "reasoning_content": t(i), "response": a(i)}, "thought"
    ),
    "a thought field in tags": PublicShape(
        "medical-cot",
        lambda i: {"question": q(i), "thinking": f"<think>\n{t(i)}\n</think>", "answer": a(i)},
        "thought",
    ),
    "openmath": PublicShape("openmath", lambda i: {"problem": q(i), "generated_solution": tagged(i)}, "thought"),
    "xml reasoning": PublicShape(
        "alpaca",
        lambda i: {
            "instruction": q(i),
            "output": f"<reasoning>\n{t(i)}\n</reasoning>\n<answer>\n{a(i)}\n</answer>",
        },
        "thought",
    ),
    "reflection": PublicShape(
        "alpaca", lambda i: {"instruction": q(i), "output": f"<thinking>{t(i)}</thinking>\n{a(i)}"}, "thought"
    ),
    "headings": PublicShape(
        "alpaca",
        lambda i: {"instruction": q(i), "output": f"## Thinking\n\n{t(i)}\n\n## Final Response\n\n{a(i)}"},
        "thought",
    ),
    "escaped tags": PublicShape(
        "alpaca", lambda i: {"instruction": q(i), "output": f"&lt;think&gt;{t(i)}&lt;/think&gt;{a(i)}"}, "thought"
    ),
    "r1 api without its opening tag": PublicShape(
        "alpaca",
        lambda i: {"instruction": q(i), "output": f"{t(i)}\n</think>\n\n{a(i)}"},
        "thought",
        ("--think-open", "missing"),
    ),
    "open r1": PublicShape(
        "messages", lambda i: {"messages": chat(("user", q(i)), ("assistant", tagged(i)))}, "thought"
    ),
    "openthoughts": PublicShape(
        "sharegpt",
        lambda i: {
            "system": "Think first.",
            "conversations": turns(
                ("user", q(i)),
                (
                    "assistant",
                    f"<|begin_of_thought|>\n\n{t(i)}\n\n<|end_of_thought|>\n\n"
                    f"<|begin_of_solution|>\n\n{a(i)}\n\n<|end_of_solution|>",
                ),
            ),
        },
        "thought",
    ),
    "openthoughts, plain": PublicShape(
        "sharegpt", lambda i: {"conversations": turns(("human", q(i)), ("gpt", tagged(i)))}, "thought"
    ),
    "deepseek api": PublicShape(
        "messages",
        lambda i: {
            "messages": [*chat(("user", q(i))), {"role": "assistant", "reasoning_content": t(i), "content": a(i)}]
        },
        "thought",
    ),
    "openrouter api": PublicShape(
        "messages",
        lambda i: {"messages": [*chat(("user", q(i))), {"role": "assistant", "reasoning": t(i), "content": a(i)}]},
        "thought",
    ),
    "ollama": PublicShape(
        "messages",
        lambda i: {"messages": [*chat(("user", q(i))), {"role": "assistant", "thinking": t(i), "content": a(i)}]},
        "thought",
    ),
    # Conversations.
    "sharegpt": PublicShape("sharegpt", said_by("human", "gpt")),
    "sharegpt, user and chatgpt": PublicShape("sharegpt", said_by("user", "chatgpt")),
    "sharegpt, human and bot": PublicShape("sharegpt", said_by("Human", "bot")),
    "role and content": PublicShape(
        "sharegpt", lambda i: {"conversations": chat(("user", q(i)), ("assistant", a(i)))}
    ),
    "one conversation": PublicShape("sharegpt", lambda i: {"conversation": turns(("human", q(i)), ("gpt", a(i)))}),
    "dialog": PublicShape("sharegpt", lambda i: {"dialog": chat(("user", q(i)), ("assistant", a(i)))}),
    "json text": PublicShape(
        "sharegpt", lambda i: {"conversations": json.dumps(turns(("human", q(i)), ("gpt", a(i))))}
    ),
    "ultrachat": PublicShape(
        "messages",
        lambda i: {"messages": chat(("user", q(0)), ("assistant", a(0)), ("user", q(i)), ("assistant", a(i)))},
    ),
    "openai chat": PublicShape(
        "messages", lambda i: {"messages": chat(("system", "Be brief."), ("user", q(i)), ("assistant", a(i)))}
    ),
    "openai fine-tuning with weights": PublicShape(
        "messages",
        lambda i: {
            "messages": [
                *chat(("user", q(0))),
                {"role": "assistant", "content": "Wrong.", "weight": 0},
                *chat(("user", q(i))),
                {"role": "assistant", "content": a(i), "weight": 1},
            ]
        },
    ),
    "ms-swift with loss": PublicShape(
        "messages",
        lambda i: {
            "messages": [
                *chat(("user", q(0))),
                {"role": "assistant", "content": "Wrong.", "loss": False},
                *chat(("user", q(i)), ("assistant", a(i))),
            ]
        },
    ),
    "chinese roles": PublicShape(
        "sharegpt",
        lambda i: {"对话": [{"角色": "用户", "内容": q(i)}, {"角色": "客服", "内容": a(i)}]},
    ),
    "ticket system": PublicShape(
        "messages",
        lambda i: {
            "messages": chat(("客服", "您好"), ("用户", "在吗"), ("用户", q(i)), ("客服", a(i)), ("用户", "谢谢"))
        },
        options=("--fix-turns", "join,drop-tail,greeting"),
    ),
    "roles of one's own": PublicShape(
        "sharegpt", said_by("caller", "desk"), options=("--role", "caller=user", "--role", "desk=assistant")
    ),
    "chatml text": PublicShape(
        "text",
        lambda i: {"text": f"<|im_start|>user\n{q(i)}<|im_end|>\n<|im_start|>assistant\n{a(i)}<|im_end|>\n"},
    ),
    # A question and its answer under other names, and texts that hold whole chats.
    "firefly": PublicShape("input-output", lambda i: {"kind": "Math", "input": q(i), "target": a(i)}),
    "firefly, several turns": PublicShape(
        "sharegpt",
        lambda i: {
            "conversation_id": i,
            "category": "math",
            "conversation": [{"human": q(0), "assistant": a(0)}, {"human": q(i), "assistant": a(i)}],
        },
    ),
    "capybara": PublicShape(
        "sharegpt", lambda i: {"source": "here", "conversation": [{"input": q(i), "output": a(i)}]}
    ),
    "aya": PublicShape("input-output", lambda i: {"inputs": q(i), "targets": a(i), "language": "English"}),
    "nemotron": PublicShape(
        "input-output",
        lambda i: {
            "input": chat(("user", q(i))),
            "output": tagged(i),
            "category": "math",
            "license": "cc",
            "reasoning": "on",
            "generator": "a model",
            "used_in_training": "yes",
            "version": "v1",
            "system_prompt": "Think.",
        },
        "thought",
    ),
    "math with a short answer": PublicShape(
        "medical-cot",
        lambda i: {"problem": q(i), "solution": a(i), "answer": str(i + 1), "level": "1", "subject": "sums"},
        options=("--map", "answer=solution", "--drop", "answer"),
    ),
    "numina": PublicShape(
        "messages",
        lambda i: {
            "source": "olympiads",
            "problem": q(i),
            "solution": a(i),
            "messages": chat(("user", q(i)), ("assistant", a(i))),
        },
    ),
    "metamath": PublicShape(
        "medical-cot",
        lambda i: {"type": "rephrased", "query": q(i), "original_question": "Add 1.", "response": a(i)},
    ),
    "openorca": PublicShape(
        "medical-cot",
        lambda i: {"id": f"flan.{i}", "system_prompt": "Be brief.", "question": q(i), "response": a(i)},
    ),
    "openhermes": PublicShape(
        "sharegpt",
        lambda i: {
            "custom_instruction": None,
            "topic": None,
            "conversations": turns(("human", q(i)), ("gpt", a(i))),
            "source": "airoboros",
            "system_prompt": None,
            "skip_prompt_formatting": True,
            "hash": "1f",
        },
    ),
    "slimorca": PublicShape(
        "sharegpt",
        lambda i: {
            "conversations": [
                {"from": "system", "value": "Be brief.", "weight": None},
                {"from": "human", "value": q(i), "weight": 0.0},
                {"from": "gpt", "value": a(i), "weight": 1.0},
            ]
        },
    ),
    "magpie": PublicShape(
        "sharegpt",
        lambda i: {
            "uuid": f"{i}",
            "model": "m",
            "instruction": q(i),
            "response": a(i),
            "conversations": turns(("human", q(i)), ("gpt", a(i))),
            "task_category": "Math",
            "input_quality": "good",
            "language": "EN",
        },
    ),
    "wildchat": PublicShape(
        "sharegpt",
        lambda i: {
            "conversation_hash": f"{i}",
            "model": "m",
            "timestamp": "2024-01-01",
            "conversation": [
                {"role": "user", "content": q(i), "language": "English", "country": "Peru", "header": {"x": "y"}},
                {"role": "assistant", "content": a(i), "toxic": False, "turn_identifier": i, "state": None},
            ],
            "turn": 1,
            "openai_moderation": [{"flagged": False}],
            "redacted": False,
        },
    ),
    "lima": PublicShape("sharegpt", lambda i: {"conversations": [q(i), a(i)], "source": "wikihow"}),
    "ultrachat, texts in turn": PublicShape("sharegpt", lambda i: {"id": f"{i}", "data": [q(0), a(0), q(i), a(i)]}),
    "huatuogpt": PublicShape("sharegpt", lambda i: {"data": [f"问：{q(i)}", f"答：{a(i)}"]}),
    "moss 003": PublicShape(
        "messages",
        lambda i: {
            "conversation_id": i,
            "meta_instruction": "You are MOSS.",
            "num_turns": 1,
            "chat": {
                "turn_1": {
                    "Human": f"<|Human|>: {q(i)}<eoh>\n",
                    "Inner Thoughts": "<|Inner Thoughts|>: None<eot>\n",
                    "Commands": "<|Commands|>: None<eoc>\n",
                    "Tool Responses": "<|Results|>: None<eor>\n",
                    "MOSS": f"<|MOSS|>: {a(i)}<eom>\n",
                }
            },
        },
    ),
    "moss 002": PublicShape(
        "messages",
        lambda i: {
            "id": i,
            "prefix": "MOSS is a model.",
            "num_turns": 2,
            "plain_text": f"[Human]: {q(0)}<eoh> [MOSS]: {a(0)}<eoa> [Human]: {q(i)}<eoh> [MOSS]: {a(i)}<eoa> ",
        },
    ),
    "baize": PublicShape(
        "text",
        lambda i: {
            "text": f"The conversation between human and AI assistant.\n[|Human|] {q(i)}\n[|AI|] {a(i)}\n[|Human|] "
        },
        options=("--fix-turns", "drop-tail"),
    ),
    "guanaco": PublicShape("text", lambda i: {"text": f"### Human: {q(i)}### Assistant: {a(i)}"}),
    "alpaca prompt as text": PublicShape(
        "text",
        lambda i: {
            "text": "Below is an instruction that describes a task. Write a response.\n\n"
            f"### Instruction:\n{q(i)}\n\n### Response:\n{a(i)}</s>"
        },
    ),
    "vicuna text": PublicShape(
        "text",
        lambda i: {"text": f"A chat between a user and a model. USER: {q(i)} ASSISTANT: {a(i)}</s>"},
    ),
    "llama 2 text": PublicShape(
        "text",
        lambda i: {"text": f"<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n{q(i)} [/INST] {a(i)} </s>"},
    ),
    "llama 3 text": PublicShape(
        "text",
        lambda i: {
            "text": f"<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{q(i)}<|eot_id|>"
            f"<|start_header_id|>assistant<|end_header_id|>\n\n{a(i)}<|eot_id|>"
        },
    ),
    "gemma text": PublicShape(
        "text",
        lambda i: {
            "text": f"<bos><start_of_turn>user\n{q(i)}<end_of_turn>\n<start_of_turn>model\n{a(i)}<end_of_turn>\n"
        },
    ),
    "zephyr text": PublicShape(
        "text", lambda i: {"text": f"<|system|>\n</s>\n<|user|>\n{q(i)}</s>\n<|assistant|>\n{a(i)}</s>\n"}
    ),
    "phi text": PublicShape("text", lambda i: {"text": f"<|user|>\n{q(i)}<|end|>\n<|assistant|>\n{a(i)}<|end|>\n"}),
    "deepseek text": PublicShape(
        "text",
        lambda i: {"text": f"<｜begin▁of▁sentence｜><｜User｜>{q(i)}<｜Assistant｜>{a(i)}<｜end▁of▁sentence｜>"},
    ),
    "trl prompt and completion": PublicShape(
        "medical-cot",
        lambda i: {"prompt": chat(("user", q(i))), "completion": chat(("assistant", a(i)))},
    ),
    "s1k": PublicShape(
        "medical-cot",
        lambda i: {
            "solution": "See above.",
            "question": q(i),
            "cot_type": "math",
            "thinking_trajectories": [t(i)],
            "attempt": a(i),
            "metadata": {"year": 1},
        },
        "thought",
        ("--map", "answer=attempt", "--drop", "solution"),
    ),
    "deepseek distill with its parts": PublicShape(
        "messages",
        lambda i: {
            "messages": [
                {"role": "user", "content": q(i), "info": {"source": "s", "think_content": None}},
                {"role": "assistant", "content": f"<think>{t(i)}</think>{a(i)}", "info": None},
            ]
        },
        "thought",
        ("--drop", "info"),
    ),
    # Calls of tools.
    "toolace": PublicShape(
        "sharegpt",
        lambda i: {
            "system": "You compose functions.\nHere is a list of functions in JSON format:\n"
            f"{json.dumps([TOOL])}. \nPut them in the format of [func1(name=value, ...), func2(name=value)]",
            "conversations": turns(
                ("user", q(i)),
                ("assistant", f"[add(a={i}, b=1)]"),
                ("tool", f'[{{"name": "add", "results": {i + 1}}}]'),
                ("assistant", a(i)),
            ),
        },
        "calls",
    ),
    "anthropic tools": PublicShape(
        "messages",
        lambda i: {
            "tools": [{"name": "add", "description": "Adds", "input_schema": TOOL["parameters"]}],
            "messages": [
                *chat(("user", q(i))),
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "t1", "name": "add", "input": call(i)["arguments"]}],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": str(i + 1)}]},
                *chat(("assistant", a(i))),
            ],
        },
        "calls",
    ),
    "glaive, raw": PublicShape(
        "glaive",
        lambda i: {
            "system": "SYSTEM: You can use these functions -\n" + json.dumps(TOOL, indent=4),
            "chat": f"USER: {q(i)}\n\n\nASSISTANT: <functioncall> "
            f'{{"name": "add", "arguments": \'{json.dumps(call(i)["arguments"])}\'}} <|endoftext|>\n\n\n'
            f'FUNCTION RESPONSE: {{"sum": {i + 1}}}\n\n\nASSISTANT: {a(i)} <|endoftext|>\n\n\n',
        },
        "calls",
    ),
    "openai tools": PublicShape(
        "messages",
        lambda i: {
            "tools": [{"type": "function", "function": TOOL}],
            "messages": [
                *chat(("user", q(i))),
                openai_call(i),
                {"role": "tool", "tool_call_id": "c1", "content": str(i + 1)},
                *chat(("assistant", a(i))),
            ],
        },
        "calls",
    ),
    "openai functions": PublicShape(
        "messages",
        lambda i: {
            "functions": [TOOL],
            "messages": [
                *chat(("user", q(i))),
                {
                    "role": "assistant",
                    "content": None,
                    "function_call": openai_call(i)["tool_calls"][0]["function"],
                },
                {"role": "function", "name": "add", "content": str(i + 1)},
                *chat(("assistant", a(i))),
            ],
        },
        "calls",
    ),
    "llamafactory tools": PublicShape(
        "sharegpt",
        lambda i: {
            "tools": TOOLS,
            "conversations": turns(
                ("human", q(i)),
                ("function_call", json.dumps(call(i))),
                ("observation", str(i + 1)),
                ("gpt", a(i)),
            ),
        },
        "calls",
    ),
    "hermes": PublicShape(
        "sharegpt",
        lambda i: {
            "tools": TOOLS,
            "conversations": turns(
                ("system", "You call functions."),
                ("human", q(i)),
                ("gpt", tag_call(i)),
                ("tool", f"<tool_response>\n{i + 1}\n</tool_response>"),
                ("gpt", a(i)),
            ),
        },
        "calls",
    ),
    "ms-swift agent": PublicShape(
        "messages",
        lambda i: {
            "tools": TOOLS,
            "messages": chat(
                ("user", q(i)),
                ("tool_call", json.dumps(call(i))),
                ("tool_response", str(i + 1)),
                ("assistant", a(i)),
            ),
        },
        "calls",
    ),
    "ms-swift agent, two calls": PublicShape(
        "messages",
        lambda i: {
            "tools": TOOLS,
            "messages": chat(
                ("user", q(i)),
                ("tool_call", json.dumps(call(i))),
                ("tool_call", json.dumps(call(i + 1))),
                ("tool_response", str(i + 1)),
                ("tool_response", str(i + 2)),
                ("assistant", a(i)),
            ),
        },
        "calls",
    ),
    "belle, several turns": PublicShape(
        "alpaca",
        lambda i: {
            "instruction": f"Human:Hello\nAssistant:Yes?\nHuman:{q(i)}\nAssistant:",
            "input": "",
            "output": a(i),
        },
    ),
    "history as turns": PublicShape(
        "alpaca",
        lambda i: {"instruction": q(i), "output": a(i), "history": chat(("user", "Hello"), ("assistant", "Yes?"))},
    ),
    "history as JSON text": PublicShape(
        "medical-cot", lambda i: {"prompt": q(i), "response": a(i), "history": json.dumps([["Hello", "Yes?"]])}
    ),
    "headings in brackets": PublicShape(
        "alpaca", lambda i: {"instruction": q(i), "output": f"【思考】\n{t(i)}\n【回答】\n{a(i)}"}, "thought"
    ),
    "prompts that are chats": PublicShape(
        "medical-cot",
        lambda i: {"prompt": f"用户：你好\n助手：您好\n用户：{q(i)}\n助手：", "completion": a(i)},
    ),
    "dolphin-r1": PublicShape(
        "messages",
        lambda i: {"messages": chat(("user", q(i))), "reasoning": t(i), "answer": a(i), "model": "r1"},
        "thought",
    ),
    "a thought beside messages": PublicShape(
        "messages",
        lambda i: {"messages": chat(("user", q(i)), ("assistant", a(i))), "reasoning": t(i), "response": a(i)},
        "thought",
    ),
    "results that the user says": PublicShape(
        "messages",
        lambda i: {
            "tools": TOOLS,
            "messages": chat(
                ("user", q(i)),
                ("assistant", tag_call(i)),
                ("user", f"<tool_response>\n{i + 1}\n</tool_response>"),
                ("assistant", a(i)),
            ),
        },
        "calls",
    ),
    "xlam": PublicShape(
        "xlam", lambda i: {"id": i, "query": q(i), "answers": json.dumps([call(i)]), "tools": TOOLS}, "calls"
    ),
}
