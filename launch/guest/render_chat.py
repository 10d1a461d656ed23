"""Run by a child interpreter with jinja2: render a model's chat template as transformers does.

Reads from stdin {"templates": {name: text}, "variables": {...}, "requests": [{"messages", "tools", "prompts",
"options"}], "most_bytes", "memory_bytes", "seconds"} and prints for each request {"text": …} or {"error": …}.
What is rendered is untrusted: the sandbox keeps it from Python, the limits from eating the machine; who started
this process ends it. Imports nothing of ours.
"""

import json
import os
import sys
from datetime import datetime
from typing import Any


def limit_resources(memory_bytes: int, seconds: int) -> None:
    """Bound what this process may take, where the system can."""
    try:
        import resource
    except ImportError:
        return
    for name, most in (("RLIMIT_AS", memory_bytes), ("RLIMIT_CPU", seconds)):
        try:
            resource.setrlimit(getattr(resource, name), (most, most))
        except (AttributeError, OSError, ValueError):
            continue


def build_environment() -> Any:
    """Return jinja2's sandbox with the settings, filters and functions that transformers gives a chat template."""
    import jinja2
    import jinja2.ext
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(jinja2.ext.Extension):
        """`{% generation %}` marks what an assistant wrote; the text is that of its body."""

        tags = frozenset({"generation"})  # type: ignore[assignment]

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.Scope(body).set_lineno(line)

    def raise_exception(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    def to_json(
        value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(
            value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def choose_template(templates: dict[str, str], has_tools: bool) -> str:
    """Return the template that transformers takes of several."""
    name = "tool_use" if has_tools and "tool_use" in templates else "default"
    return templates[name] if name in templates else next(iter(templates.values()))


def render(compiled: Any, request: dict[str, Any], variables: dict[str, Any], most_bytes: int) -> dict[str, str]:
    """Return one conversation's text, or why there is none."""
    given = {
        "messages": request["messages"],
        "tools": request["tools"],
        "documents": None,
        "add_generation_prompt": request["prompts"],
        **variables,
        **request["options"],
    }
    parts, size = [], 0
    try:
        for part in compiled.generate(given):
            parts.append(part)
            size += len(part.encode("utf-8", "surrogatepass"))
            if size > most_bytes:
                return {"error": f"it writes more than {most_bytes} bytes"}
    except Exception as error:  # noqa: BLE001 - whatever a template raises is its answer
        return {"error": f"{type(error).__name__}: {error}"[:500]}
    return {"text": "".join(parts)}


def render_all(asked: dict[str, Any]) -> list[dict[str, str]]:
    """Return what the template writes of every request."""
    environment = build_environment()
    compiled: dict[str, Any] = {}
    answers = []
    for request in asked["requests"]:
        source = choose_template(asked["templates"], bool(request["tools"]))
        try:
            if source not in compiled:
                compiled[source] = environment.from_string(source)
        except Exception as error:  # noqa: BLE001 - a template that cannot be read is an answer
            answers.append({"error": f"{type(error).__name__}: {error}"[:500]})
            continue
        answers.append(render(compiled[source], request, asked["variables"], asked["most_bytes"]))
    return answers


if __name__ == "__main__":
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    question = json.loads(sys.stdin.buffer.read())
    limit_resources(question["memory_bytes"], question["seconds"])
    json.dump(render_all(question), answer)
    answer.close()
