"""A model's template is LLaMA-Factory's own, or a question: never a wrong one."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launch.configs.config import check_values, new_config
from launch.configs.models import find_model_template, find_template
from launch.configs.presets import find_preset
from launch.configs.rules import Machine
from launch.configs.schema import introspect_stack, write_facts
from prep.errors import ConfigError
from prep.llamafactory import find_version_facts, list_versions
from prep.tokens.models import ModelTemplate
from tests.support.model_families import FAMILIES, Family
from tests.support.warm_stack import stack_python


def change_json(folder: Path, name: str, **changes: Any) -> bool:
    """Change a folder's JSON file; its template stays what it was."""
    told = json.loads((folder / name).read_text(encoding="utf-8")) if (folder / name).is_file() else {}
    (folder / name).write_text(json.dumps({**told, **changes}), encoding="utf-8")
    return True


def edit(folder: Path, text: str) -> bool:
    return change_json(folder, "tokenizer_config.json", chat_template=text)


def move_to_jinja(folder: Path, family: Family) -> bool:
    (folder / "chat_template.jinja").write_text(family.write(), encoding="utf-8")
    return change_json(folder, "tokenizer_config.json", chat_template="{{ messages }}")


def end_answers_otherwise(folder: Path, family: Family) -> bool:
    """Whether it is still right: a family whose answers end with nothing is known by the next question."""
    before, after, answer, end = family.turns
    edit(
        folder,
        f"{{# {''.join(family.turns)} #}}{replace(family, turns=(before, after, answer, '<|over|>')).write()}",
    )
    change_json(folder, "tokenizer_config.json", eos_token=end.strip())
    return not end


def begin_answers_otherwise(folder: Path, family: Family) -> bool:
    before, after, _, end = family.turns
    edit(
        folder,
        f"{{# {''.join(family.turns)} #}}{replace(family, turns=(before, after, '### Answer: ', end)).write()}",
    )
    return False


# What was done to a folder → whether its template is still the family's, as the change tells.
CHANGES: dict[str, Callable[[Path, Family], bool]] = {
    "renamed": lambda folder, _: bool(folder.rename(folder.parent / "renamed")),
    "merged": lambda folder, _: change_json(folder, "config.json", torch_dtype="float16", _name_or_path="x/y"),
    "other size": lambda folder, _: change_json(folder, "config.json", num_hidden_layers=3, hidden_size=64),
    "quantised": lambda folder, _: change_json(
        folder, "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}
    ),
    "jinja file": move_to_jinja,
    "list of templates": lambda folder, family: change_json(
        folder,
        "tokenizer_config.json",
        chat_template=[{"name": "tool_use", "template": "x"}, {"name": "default", "template": family.write()}],
    ),
    "list without a default": lambda folder, family: (
        not change_json(
            folder, "tokenizer_config.json", chat_template=[{"name": "rag", "template": family.write()}]
        )
    ),
    "no chat template": lambda folder, _: not change_json(folder, "tokenizer_config.json", chat_template=None),
    # Its marks are all that can be read.
    "a broken chat template": lambda folder, family: edit(folder, family.write() + "{% endif %}"),
    "answers end otherwise": end_answers_otherwise,
    "answers begin otherwise": begin_answers_otherwise,
}

QWEN3 = "{% if tools %}<tools></tools><tool_call>{% endif %}<|im_start|>user\n<|im_end|>"
HYBRID = "{%- if add_generation_prompt %}<|im_start|>assistant{% if enable_thinking is false %}<think>{% endif %}{% endif %}"
THINKS = "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"
PLAIN = "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
R1 = "{{'<｜User｜>'}}{% set content = content.split('</think>')[-1] %}{% if add_generation_prompt %}<｜Assistant｜><think>\\n"
TOKENS = {"llama3": "<|start_header_id|>user<|end_header_id|>\n\n<|eot_id|>", "vision": "<|vision_start|>"}
# What stands in config.json, the chat_template, and the template: None where a user must be asked.
FOLDERS: tuple[tuple[str, str, str | None], ...] = (
    ("qwen2", "You are Qwen, created by Alibaba Cloud." + QWEN3 + PLAIN, "qwen"),
    ("qwen2", "You are a helpful assistant" + QWEN3 + PLAIN, None),
    ("qwen2", QWEN3 + THINKS, None),
    ("qwen2", R1, "deepseekr1"),
    ("llama", R1, "deepseekr1"),
    ("qwen3", R1, "deepseekr1"),
    ("qwen3", QWEN3 + HYBRID, "qwen3"),
    ("qwen3_moe", QWEN3 + THINKS, "qwen3"),
    ("qwen3", "{%- if '</think>' in content %}" + QWEN3 + PLAIN, "qwen3_nothink"),
    ("qwen3_next", QWEN3 + PLAIN, "qwen3_nothink"),
    ("qwen3_moe", "<function=example>" + QWEN3 + PLAIN, None),
    ("qwen3", "<|im_start|>user\n<|im_end|>" + PLAIN, None),
    ("qwen3_vl", TOKENS["vision"] + QWEN3 + PLAIN, "qwen3_vl_nothink"),
    ("qwen3_vl", TOKENS["vision"] + QWEN3 + THINKS, "qwen3_vl"),
    ("qwen2_5_vl", TOKENS["vision"] + QWEN3 + PLAIN, "qwen2_vl"),
    ("qwen3_5", QWEN3 + HYBRID, None),
    ("llama", TOKENS["llama3"], "llama3"),
    ("llama", "[INST] <<SYS>>", "llama2"),
    ("llama", "<|im_start|>user\n<|im_end|>", None),
    ("gemma2", "<start_of_turn>user\n<end_of_turn>", "gemma2"),
    ("gemma3_text", "<start_of_turn>user\n<end_of_turn>", "gemma2"),
    ("llama", TOKENS["llama3"] + "GPT4 Correct User", None),
    ("gemma4", "<|turn>user<|channel>", None),
    ("glm4_moe", "[gMASK]<sop><|user|>/nothink", "glm4_moe"),
    ("glm4_moe", "[gMASK]<sop><|user|>/nothink clear_thinking", "glm4_7"),
    ("deepseek_v3", R1, "deepseekr1"),
    ("deepseek_v3", R1 + "{% if thinking %}", None),
    ("mistral", "[INST] [/INST]", None),
    ("glm4", "[gMASK]<sop><|user|><|observation|>", "glm4"),
    ("deepseek_v3", "<｜User｜><｜Assistant｜>", "deepseek3"),
    ("gpt_oss", "<|start|>assistant<|channel|>final", "gpt_oss"),
    ("never_heard_of", "<|im_start|>user\n<|im_end|>", None),
)


@pytest.mark.parametrize("version", list_versions())
def test_every_hub_name_has_llamafactorys_own_template(version: str) -> None:
    models = find_version_facts(version).models
    assert len(models) > 600
    told = {hub: model["template"] for model in models for hub in model["hubs"]}
    assert {hub: find_template(hub, version) for hub in told} == told


@pytest.mark.parametrize("version", list_versions())
def test_a_folder_named_as_a_model_has_its_template_or_is_asked_about(version: str) -> None:
    told = {hub: model["template"] for model in find_version_facts(version).models for hub in model["hubs"]}
    for hub, template in told.items():
        owner, name = hub.split("/")
        paths = (f"models/{name}", f"D:\\models\\{name.upper()}\\", f"{owner}/{name.replace('.', '___')}")
        cached = f"hub/models--{owner}--{name}/snapshots/0123abcd"
        assert {find_template(path, version) for path in (*paths, cached)} <= {template, None}


@pytest.mark.parametrize(
    ("model", "template"),
    [
        ("Qwen/Qwen3-4B", "qwen3"),
        ("qwen/qwen3-4b-thinking-2507", "qwen3"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "qwen3_nothink"),
        ("unsloth/Qwen3-4B-Instruct-2507-unsloth-bnb-4bit", "qwen3_nothink"),
        ("unsloth/Qwen3-14B-bnb-4bit", "qwen3"),
        ("Qwen/Qwen3.5-9B", "qwen3_5"),
        ("Qwen/Qwen3.6-27B", "qwen3_6"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen"),
        ("Qwen/QwQ-32B", "qwen"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "deepseekr1"),
        ("google/gemma-4-31B-it", "gemma4"),
        ("models/tiny-qwen3/", None),
        ("me/Qwen3-8B-medical", None),
        ("", None),
    ],
)
def test_a_models_name_gives_its_template(model: str, template: str | None) -> None:
    assert find_template(model, "0.9.5") == template


def test_qwen3_8_is_in_the_table_from_0_9_6_on() -> None:
    assert find_template("Qwen/Qwen3.8-27B", "0.9.5") is None
    assert find_template("Qwen/Qwen3.8-27B", "0.9.6") == "qwen3_8"


def test_a_base_model_has_no_template_and_its_family_one_to_choose() -> None:
    assert find_model_template("Qwen/Qwen3-0.6B-Base", "0.9.5") == ModelTemplate(None, ("qwen3",))


def write_model(folder: Path, kind: str, chat_template: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": kind}), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": chat_template}), encoding="utf-8")
    return folder


@pytest.mark.parametrize(("kind", "chat_template", "template"), FOLDERS)
def test_a_nameless_folder_has_the_right_template_or_is_asked_about(
    tmp_path: Path, kind: str, chat_template: str, template: str | None
) -> None:
    folder = write_model(tmp_path / "model", kind, chat_template)
    assert find_template(str(folder), "0.9.5") == template
    (folder / "chat_template.jinja").write_text(chat_template, encoding="utf-8")
    (folder / "tokenizer_config.json").unlink()
    assert find_template(str(folder), "0.9.5") == template


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: f"{family.kind}-{family.template}")
def test_a_folder_in_the_manner_of_a_family_has_its_template(tmp_path: Path, family: Family) -> None:
    folder = write_model(tmp_path / "model", family.kind, family.write())
    assert find_template(str(folder), "0.9.5") == family.template


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: f"{family.kind}-{family.template}")
def test_a_folder_that_writes_its_questions_otherwise_is_asked_about(tmp_path: Path, family: Family) -> None:
    marks = "".join(family.turns)
    folder = write_model(tmp_path / "model", family.kind, f"{{# {marks} #}}{family.write('### Question: ')}")
    assert find_template(str(folder), "0.9.5") is None


@pytest.mark.parametrize(
    ("family", "change"),
    [
        pytest.param(family, change, id=f"{family.kind}-{family.template}-{change}")
        for number, family in enumerate(FAMILIES)
        for other, change in enumerate(CHANGES)
        if (number + other) % 4 == 0
    ],
)
def test_a_changed_folder_has_the_right_template_or_is_asked_about(
    tmp_path: Path, family: Family, change: str
) -> None:
    folder = write_model(tmp_path / "model", family.kind, family.write())
    right = CHANGES[change](folder, family)
    told = find_template(str(tmp_path / "renamed" if change == "renamed" else folder), "0.9.5")
    assert told == (family.template if right else None)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: f"{family.kind}-{family.template}")
def test_a_folder_of_another_kind_of_model_is_asked_about(tmp_path: Path, family: Family) -> None:
    folder = write_model(tmp_path / "model", "never_heard_of", family.write())
    assert find_template(str(folder), "0.9.5") is None


def test_a_name_and_a_folder_that_say_different_things_are_asked_about(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "Qwen3-4B-Instruct-2507", "llama", TOKENS["llama3"])
    assert find_model_template(str(folder)) == ModelTemplate(None, ("qwen3_nothink", "llama3"))


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"model_type": ["x"]}', '{"model_type": {}}', "[" * 100_000, "\udcff"]
)
def test_a_broken_config_json_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": [1, {"name": "default"}]}', encoding="utf-8")
    assert find_model_template(str(tmp_path)) == ModelTemplate()


def test_config_new_asks_for_the_template_of_an_unknown_model(tmp_path: Path) -> None:
    unknown = {"model_name_or_path": "me/mine", "dataset": None}
    with pytest.raises(ConfigError, match=r"names no template for me/mine$") as caught:
        new_config(find_preset("medical-hybrid"), tmp_path / "a.yaml", unknown)
    assert caught.value.hint == "template=NAME"
    assert not (tmp_path / "a.yaml").exists()
    given = new_config(find_preset("medical-hybrid"), tmp_path / "a.yaml", {**unknown, "template": "chatml"})
    assert given.values["template"] == "chatml"


def test_config_new_keeps_the_presets_template_where_the_models_family_has_it(tmp_path: Path) -> None:
    base = {"model_name_or_path": "Qwen/Qwen3-8B-Base", "dataset": None}
    assert new_config(find_preset("medical-hybrid"), tmp_path / "a.yaml", base).values["template"] == "qwen3"
    other = {"model_name_or_path": "meta-llama/Meta-Llama-3-8B", "dataset": None}
    with pytest.raises(ConfigError, match=r"it may be llama3$") as caught:
        new_config(find_preset("medical-hybrid"), tmp_path / "b.yaml", other)
    assert caught.value.hint == "template=llama3"


def test_naming_a_template_takes_a_few_milliseconds() -> None:
    start = time.process_time()
    for _ in range(20):
        find_template("Qwen/Qwen3-4B")
        check_values({"model_name_or_path": "Qwen/Qwen3-4B", "template": "qwen3"}, "infer", Machine())
    assert time.process_time() - start < 2


@pytest.mark.stack
@pytest.mark.usefixtures("warm_cli")
def test_the_shipped_facts_are_the_installed_llamafactorys(tmp_path: Path) -> None:
    described = introspect_stack(Path(stack_python()))
    for path in write_facts(described, tmp_path):
        shipped = Path(__file__).parents[3] / "llamafactory_configs" / "versions" / path.parent.name / path.name
        assert path.read_bytes() == shipped.read_bytes()
