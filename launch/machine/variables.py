"""Environment variables that switch something on, judged as the package that reads them does."""

from collections.abc import Mapping

# Source: LLaMA-Factory 0.9.5, extras/misc.py, is_env_enabled.
_LLAMAFACTORY_WORDS = ("1", "true", "y")
# Source: huggingface_hub, constants.py, ENV_VARS_TRUE_VALUES; transformers asks it.
_HUGGINGFACE_WORDS = ("1", "on", "yes", "true")
_HUGGINGFACE_PREFIXES = ("HF_", "TRANSFORMERS_")


def is_enabled(name: str, environ: Mapping[str, str]) -> bool:
    """Whether a variable is set to a word that its reader takes for yes."""
    words = _HUGGINGFACE_WORDS if name.startswith(_HUGGINGFACE_PREFIXES) else _LLAMAFACTORY_WORDS
    return environ.get(name, "").lower() in words
