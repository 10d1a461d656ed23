"""What an option of a launch command may be: each list stands here once, and loads nothing."""

from enum import StrEnum
from typing import Literal

# What reads a YAML: training, or export, chat and api.
Kind = Literal["train", "infer"]
# What --as of `config schema` takes besides: kind → file, of those that do not depend on LLaMA-Factory's arguments.
OTHER_SCHEMAS = {
    "dataset_info": "dataset_info.schema.json",
    "recipe": "recipe.schema.json",
    "sweep": "sweep.schema.json",
}


class JudgedFor(StrEnum):
    """The machine for which a config is judged."""

    HERE = "here"
    GPU = "gpu"
    CPU = "cpu"
    ANY = "any"

    @property
    def machine(self) -> str:
        """What the machine is called in a sentence."""
        return {
            JudgedFor.HERE: "this machine",
            JudgedFor.GPU: "a GPU",
            JudgedFor.CPU: "a CPU",
            JudgedFor.ANY: "any machine",
        }[self]


class Language(StrEnum):
    """The languages of LLaMA-Factory's WebUI."""

    EN = "en"
    ZH = "zh"
    RU = "ru"
    KO = "ko"
    JA = "ja"

    @property
    def load_button(self) -> str:
        """What the button is called that loads saved settings."""
        return {
            Language.EN: "Load arguments",
            Language.ZH: "载入训练参数",
            Language.RU: "Загрузить аргументы",
            Language.KO: "Argument 불러오기",
            Language.JA: "引数を読み込む",
        }[self]

    @property
    def load_model_button(self) -> str:
        """What the Chat tab's button is called that loads the model."""
        return {
            Language.EN: "Load model",
            Language.ZH: "加载模型",
            Language.RU: "Загрузить модель",
            Language.KO: "모델 불러오기",
            Language.JA: "モデルを読み込む",
        }[self]


class BackendName(StrEnum):
    """Where a batch's runs go."""

    LOCAL = "local"
    SLURM = "slurm"
    RAY = "ray"


class HubName(StrEnum):
    """Where something is published; the keys of `prep.hub.endpoint.SITES`."""

    MODELSCOPE = "modelscope"
    HUGGINGFACE = "huggingface"
