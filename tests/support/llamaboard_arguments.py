"""Run by a Python with LLaMA-Factory: what its own LlamaBoard makes of pages, `PAGES.json TOLD.json`."""

import json
import sys
from pathlib import Path


def tell(pages_path: Path, told_path: Path) -> None:
    from llamafactory.webui import interface
    from llamafactory.webui.engine import Engine

    engines = []
    original = Engine.__init__

    def remember(self: Engine, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)
        engines.append(self)

    Engine.__init__ = remember
    demo = interface.create_ui()
    (engine,) = engines
    manager = engine.manager
    # The inputs of the button that starts a training: what LlamaBoard saves of a page.
    start = next(fn for fn in demo.fns.values() if getattr(fn.fn, "__name__", "") == "run_train")
    fields = {manager.get_id_by_elem(elem): elem for elem in start.inputs}
    arguments = []
    for page in json.loads(pages_path.read_text(encoding="utf-8")):
        data = {elem: page.get(name, elem.value) for name, elem in fields.items()}
        arguments.append(engine.runner._parse_train_args(data))
    left_out = ("top.lang", "top.model_path", "top.model_name", "train.output_dir", "train.config_path")
    # gradio gives an empty box None, and one for several values []: both are nothing chosen.
    defaults = {name: elem.value for name, elem in fields.items() if elem.value not in (None, "", [])}
    told = {
        "fields": sorted(fields),
        "defaults": {name: value for name, value in defaults.items() if name not in left_out},
        "arguments": arguments,
    }
    told_path.write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    tell(Path(sys.argv[1]), Path(sys.argv[2]))
