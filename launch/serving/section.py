"""What a report page says of how a model is served."""

from launch.runs.folder import Run
from launch.serving.exports import find_serving
from prep.html import Html, join, tag


def build_serving(run: Run) -> list[Html]:
    """Return the command lines that serve what a run made, each program's with what is known of its prompts."""
    return [
        join([tag("h3", server.name), tag("pre", "\n".join(server.commands)), tag("p", server.prompts)])
        for server in find_serving(run)
    ]
