"""Write what a version of LLaMA-Factory knows into llamafactory_configs: its schemas, templates and models.

    python scripts/write_facts.py            # the installed one
    python scripts/write_facts.py FOLDER     # one that is unpacked there: `pip download --no-deps`, then unzip

docs/new-llamafactory.md tells what to prove afterwards.
"""

import sys
from pathlib import Path

from launch.configs.schema import introspect_stack, write_facts, write_schemas

CONFIGS = Path(__file__).parents[1] / "llamafactory_configs"


def main() -> None:
    """Ask and write."""
    unpacked = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else None
    described = introspect_stack(Path(sys.executable), unpacked)
    for path in (*write_schemas(described, CONFIGS / "schemas"), *write_facts(described, CONFIGS / "versions")):
        print(f"{path.relative_to(CONFIGS.parent)}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
