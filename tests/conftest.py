"""What several test files share."""

from pathlib import Path

import pytest

from tests.qwen3 import build_tokenizer_folder


@pytest.fixture(scope="session")
def qwen3_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Qwen3's tokenizer, as a downloaded model has it, without weights."""
    return build_tokenizer_folder(tmp_path_factory.mktemp("qwen3"))
