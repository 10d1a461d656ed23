"""Chat templates in the manner of thirty families of models, short and our own: what they write of a turn is theirs."""

from dataclasses import dataclass

_TOOLS = "{% if tools %}<tools>{{ tools | tojson }}</tools><tool_call></tool_call>{% endif %}"
_CHATML = ("<|im_start|>user\n", "<|im_end|>\n", "<|im_start|>assistant\n", "<|im_end|>\n")
_LLAMA3 = ("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>")
_LLAMA3_ANSWER = ("<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>")
_GEMMA = ("<start_of_turn>user\n", "<end_of_turn>\n", "<start_of_turn>model\n", "<end_of_turn>\n")
_GLM = ("<|user|>\n", "", "<|assistant|>\n", "")
_R1 = ("<｜User｜>", "", "<｜Assistant｜>", "<｜end▁of▁sentence｜>")
_SWITCH = "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
_QWEN = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud.<|im_end|>\n"
_DROPS = "{% set content = content.split('</think>')[-1] %}"


@dataclass(frozen=True)
class Family:
    """One family: its template in LLaMA-Factory, config.json's type, and how its chat template writes.

    Shape: `turns` is what stands before and after a question, and before and after an answer; `begin` stands before
    all, `prompt` behind the beginning of the answer that is asked for.
    """

    template: str
    kind: str
    turns: tuple[str, str, str, str]
    begin: str = ""
    prompt: str = ""

    def write(self, question: str = "") -> str:
        """Return the chat template; `question` stands for what comes before a question."""
        before, after, answer, end = self.turns
        return (
            f"{self.begin}{{% for message in messages %}}{{% set content = message.content %}}"
            f"{{% if message.role == 'user' %}}{quote(question or before)}{{{{ content }}}}{quote(after)}"
            f"{{% elif message.role == 'assistant' %}}{quote(answer)}{{{{ content }}}}{quote(end)}{{% endif %}}"
            f"{{% endfor %}}{{% if add_generation_prompt %}}{quote(answer)}{self.prompt}{{% endif %}}"
        )


def quote(text: str) -> str:
    """Return a text as jinja writes it, whatever is trimmed around its tags."""
    return f"{{{{ {text!r} }}}}" if text else ""


FAMILIES = (
    Family("qwen", "qwen2", _CHATML, _TOOLS + quote(_QWEN)),
    Family("qwen3", "qwen3", _CHATML, _TOOLS, _SWITCH),
    Family("qwen3", "qwen3_moe", _CHATML, _TOOLS, quote("<think>\n")),
    Family("qwen3_nothink", "qwen3_next", _CHATML, _TOOLS),
    Family("qwen3_vl", "qwen3_vl", _CHATML, quote("") + "{# <|vision_start|> #}", quote("<think>\n")),
    Family("qwen3_vl_nothink", "qwen3_vl_moe", _CHATML, "{# <|vision_start|> #}"),
    Family("qwen2_vl", "qwen2_5_vl", _CHATML, "{# <|vision_start|> #}"),
    Family("deepseekr1", "qwen2", _R1, _DROPS.replace("content.", "''."), quote("<think>\n")),
    Family("deepseekr1", "llama", _R1, _DROPS.replace("content.", "''."), quote("<think>\n")),
    Family("deepseek3", "deepseek_v3", _R1),
    Family("llama3", "llama", (*_LLAMA3, *_LLAMA3_ANSWER), "{{ bos_token }}"),
    Family("llama2", "llama", ("[INST] ", " [/INST]", "", "</s>"), "{{ bos_token }}{# <<SYS>> #}"),
    Family("mllama", "mllama", (*_LLAMA3, *_LLAMA3_ANSWER)),
    Family("gemma", "gemma", _GEMMA, "{{ bos_token }}"),
    Family("gemma2", "gemma2", _GEMMA, "{{ bos_token }}"),
    Family("gemma2", "gemma3_text", _GEMMA, "{{ bos_token }}"),
    Family("gemma3", "gemma3", _GEMMA, "{{ bos_token }}"),
    Family("glm4", "glm4", _GLM, quote("[gMASK]<sop>") + "{# <|observation|> #}"),
    Family(
        "phi4",
        "phi3",
        ("<|im_start|>user<|im_sep|>", "<|im_end|>", "<|im_start|>assistant<|im_sep|>", "<|im_end|>"),
    ),
    Family("phi", "phi3", ("<|user|>\n", "<|end|>\n", "<|assistant|>\n", "<|end|>\n")),
    Family(
        "granite3",
        "granite",
        (
            *("<|start_of_role|>user<|end_of_role|>", "<|end_of_text|>\n"),
            *("<|start_of_role|>assistant<|end_of_role|>", "<|end_of_text|>\n"),
        ),
    ),
    Family("intern2", "internlm3", _CHATML, quote("<s>")),
    Family("intern2", "internlm2", _CHATML, quote("<s>")),
    Family("qwen", "qwen2_moe", _CHATML, _TOOLS + quote(_QWEN)),
    Family("qwen2_vl", "qwen2_vl", _CHATML, "{# <|vision_start|> #}"),
    Family("deepseekr1", "deepseek_v3", _R1, _DROPS.replace("content.", "''."), quote("<think>\n")),
    Family("glm4", "chatglm", _GLM, quote("[gMASK]<sop>") + "{# <|observation|> #}"),
    Family("glmz1", "glm4", _GLM, quote("[gMASK]<sop>"), quote("<think>\n")),
    Family(
        "llama4",
        "llama4",
        (
            *("<|header_start|>user<|header_end|>\n\n", "<|eot|>"),
            *("<|header_start|>assistant<|header_end|>\n\n", "<|eot|>"),
        ),
        "{{ bos_token }}",
    ),
    Family("gemma3n", "gemma3n", _GEMMA, "{{ bos_token }}"),
    Family("exaone", "exaone", ("[|user|]", "\n", "[|assistant|]", "[|endofturn|]\n")),
    Family("lfm2", "lfm2", _CHATML, "{# keep_past_thinking #}"),
    Family("falcon_h1", "falcon_h1", _CHATML),
    Family(
        "smollm2",
        "llama",
        _CHATML,
        quote("<|im_start|>system\nYou are a helpful AI assistant named SmolLM<|im_end|>\n"),
    ),
    Family(
        "cohere",
        "cohere",
        (
            *("<|START_OF_TURN_TOKEN|><|USER_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
            *("<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
        ),
    ),
)
