"""Random recipes, sweeps, names and manifests: valid ones, hostile ones, and what nobody would write."""

import json
import random
from pathlib import Path
from typing import Any

NAMES = ["mine", "医疗", "v1.2", "a", "A", "x_train", "dataset_info", "learning-1e-4", "консоль", "x" * 150]
HOSTILE_NAMES = [
    "..", "../victim", "/etc", "~", "-o", "--force", "a/b", "a\\b", "a\nb", "a\rtouch EVIL #", "a\0b", "con", "a.",
    "", " ", "x" * 300, "医" * 100, "\u202eb", "a,b", "a=b", "a#b", "$(touch EVIL)", "`touch EVIL`", "; touch EVIL", "'",
    "*", "a[1]", "\ud800", ".lfc", "steps.json", "a\u2028touch EVIL", "{}", "%s", "a b",
]  # fmt: skip
SCALARS: list[Any] = [
    None, True, False, 0, -1, 1, 10**30, 1 << 70, 0.5, -0.5, 1e308, float("nan"), float("inf"), "", "x", "1", [], {}, [1],
    {"a": 1}, [[[]]], {1: 2}, "x" * 5000, {"": ""}, [None],
]  # fmt: skip
STEPS = ["sample", "mix", "split", "register-train", "register-test", "model", "config", "train", "eval"]


class Generator:
    """What a seed makes; `root` is the scratch tree, whose files outside the recipe's folder are canaries."""

    def __init__(self, seed: int, root: Path) -> None:
        self.random = random.Random(seed)
        self.root = root
        self.pick = self.random.choice

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def path(self) -> str:
        """Return a path that leads, or may lead, out of the recipe's folder."""
        victim = self.root.as_posix()
        return self.pick(
            [f"{victim}/victim", f"{victim}/victim/keep.txt", "../victim", "raw/..", "saves/../..", "saves/../../victim",
             "~", "~/x", ".", "./", "", "data", "data/mine.jsonl", "runs/mine", "configs", "steps.json", "commands.sh",
             "models/tiny-qwen3", "link", "link/x", "-x", "a\0", "\n", "saves/x\ny", "/", "//", "C:\\x", "saves/\u202e",
             victim, self.pick(HOSTILE_NAMES)]
        )  # fmt: skip

    def hostile(self) -> Any:
        """Return a value that a recipe should not hold."""
        kind = self.random.randrange(4)
        if kind == 0:
            return self.pick(SCALARS)
        return self.path() if kind == 1 else self.pick(HOSTILE_NAMES) if kind == 2 else f"{self.root}/evil.sh"

    def name(self) -> str:
        """Return a name that is mostly one."""
        return self.pick(HOSTILE_NAMES) if self.chance(0.1) else self.pick(NAMES)

    def rows(self, path: Path) -> bool:
        """Write source rows and return whether all of them can be used."""
        count = self.random.randrange(6, 30)
        lines = [
            json.dumps({"question": f"q{number} {self.random.random()}", "answer": f"a{number}"})
            for number in range(count)
        ]
        good = not self.chance(0.15)
        if not good:
            lines.insert(
                self.random.randrange(count),
                self.pick(["{", "[1]", "5", '{"question": 1}', '{"question": "q"}', "\x00"]),
            )
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return good

    def valid(self) -> tuple[dict[str, Any], bool]:
        """Return a recipe that runs, and whether its rows can be used."""
        labels = self.random.sample(["a", "b", "医疗", "c.d"], self.random.randrange(1, 3))
        good = True
        sources: dict[str, Any] = {}
        for number, label in enumerate(labels):
            path = self.root / "work" / f"rows{number}.jsonl"
            good = self.rows(path) and good
            sources[label] = {"path": self.pick([path.as_posix(), path.name])}
            if self.chance(0.2):
                sources[label]["system"] = self.pick(["be kind", "-x", "--force", "a\nb", "$(touch EVIL)", "'\"`"])
        if self.chance(0.1):
            sources["s"] = {"sample": "r1_data_example.jsonl", "limit": 20}
        recipe: dict[str, Any] = {
            "name": self.pick(["mine", "医疗-x", "v1.2"]),
            "sources": sources,
            "split": {"test": self.pick([1, 2, 0.2])},
            "model": "tiny",
            "config": {"preset": "cpu-smoke", "set": {"max_steps": 2}},
            "eval": {"set": {"max_new_tokens": 4}},
        }
        if self.chance(0.3):
            recipe["mix"] = {label: self.pick([1, 0.5, 2.5]) for label in sources}
        if self.chance(0.3):
            recipe["config"]["set"]["output_dir"] = self.pick(["saves/x", "./saves/y/", "out", "saves/keep"])
        return recipe, good

    def mutate(self, recipe: dict[str, Any]) -> None:
        """Make one place of a recipe hostile."""
        places: list[tuple[dict[Any, Any], Any]] = []

        def walk(node: Any) -> None:
            if isinstance(node, dict):
                for key, inner in node.items():
                    places.append((node, key))
                    walk(inner)

        walk(recipe)
        node, key = self.pick(places)
        kind = self.random.randrange(4)
        if kind == 0:
            node[key] = self.hostile()
        elif kind == 1:
            node[
                self.pick(
                    [*HOSTILE_NAMES, "--llamafactory-cli", "path", "download", "sample", "files", "output_dir"]
                )
            ] = node.pop(key)
        elif kind == 2:
            node[
                self.pick(
                    ["output_dir", "tokenized_path", "logging_dir", "download", "sample", "path", "files", "map"]
                )
            ] = self.hostile()
        else:
            recipe[
                self.pick(["name", "sources", "mix", "split", "model", "config", "eval", "seed", "think_policy"])
            ] = self.hostile()

    def junk(self, depth: int = 0) -> Any:
        """Return anything that YAML can say."""
        if depth > 4 or self.chance(0.4):
            return self.hostile()
        if self.chance(0.3):
            return [self.junk(depth + 1) for _ in range(self.random.randrange(3))]
        keys = ["name", "sources", "config", "model", "split", "a", "path", "set", "preset", "test", *HOSTILE_NAMES]
        return {self.pick(keys): self.junk(depth + 1) for _ in range(self.random.randrange(5))}

    def overrides(self) -> list[str]:
        """Return KEY=VALUE arguments, most of them no good."""
        keys = [
            "name",
            "config.set.output_dir",
            "sources.a.path",
            "sources.a.limit",
            "eval.set.--x",
            "mix.a",
            "a.b.c",
            "..",
            "x",
        ]
        return [f"{self.pick(keys)}={self.pick(['1', 'null', '[', '{a: 1}', '&a [*a]', '!!python/x', self.path()])}"
                for _ in range(self.random.randrange(3))]  # fmt: skip

    def options(self) -> list[str]:
        """Return options of `lfc run`."""
        found: list[str] = []
        if self.chance(0.2):
            found += ["--fresh"]
        if self.chance(0.15):
            found += [self.pick(["--only", "--from"]), self.pick([*STEPS, "convert-a", "nothing"])]
        return found

    def manifest(self) -> str:
        """Return what may stand where a manifest, a registry or a record of steps is expected."""
        whole = {
            "manifest_version": 1, "step": "convert", "options": {}, "think_policy": "tagged", "inputs": [],
            "counts": {"records": 3}, "output": {"bytes": 3}, "tool": "x",
        }  # fmt: skip
        record = {
            "steps": {"convert-a": {"command": "lfc", "made": [self.path()], "places": {self.path(): "0" * 64}}}
        }
        if self.chance(0.5):
            whole[self.pick(list(whole))] = self.pick([value for value in SCALARS if value != {1: 2}])
        return self.pick(
            ["", "{", "[]", "null", "5", '"x"', "[" * 3000, json.dumps(whole), json.dumps(record),
             json.dumps({"mine_train": {"file_name": self.root.as_posix() + "/victim/keep.txt"}}), "\ufeff{}", "{}"]
        )  # fmt: skip

    def sweep(self) -> dict[str, Any]:
        """Return a sweep over configs/mine.yaml; runs may have any name."""
        sweep: dict[str, Any] = {"config": "configs/mine.yaml"}
        keys = ["learning_rate", "max_steps", "seed", "run_name"]
        if self.chance(0.5):
            sweep["grid"] = {self.pick(keys): [self.pick([1, 2, 0.1, "a/b", "..", "x", "医疗"]) for _ in range(2)]}
        if self.chance(0.6):
            sweep["runs"] = {self.name(): {self.pick(keys): self.pick([1, 2, 3])} for _ in range(2)}
        if self.chance(0.2):
            sweep[self.pick(["grid", "zip", "runs", "set", "config", "x"])] = self.hostile()
        return sweep
