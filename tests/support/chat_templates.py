"""Chat templates of our own, with the features that models' have; and models' own, where an unpacked package has them.

`LFC_TEST_CHAT_TEMPLATES` names a folder of .jinja files, such as trl/chat_templates of an unpacked wheel of TRL.
"""

import os
from pathlib import Path

PUBLISHED = os.environ.get("LFC_TEST_CHAT_TEMPLATES", "")

PLAIN = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

# What thinks: thoughts since the last question alone are kept, and an answer without one has an empty block.
THINKING = """
{%- set state = namespace(last=0) -%}
{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set state.last = loop.index0 -%}{%- endif -%}{%- endfor -%}
{%- for m in messages -%}
  {{- '<|im_start|>' + m.role + '\\n' -}}
  {%- if m.role == 'assistant' and (KEEPS or loop.index0 > state.last) -%}
    {{- '<think>\\n' + (m.reasoning_content or '') + '\\n</think>\\n\\n' -}}
  {%- endif -%}
  {{- m.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\\n' -}}
  {%- if enable_thinking is defined and enable_thinking is false -%}{{- '<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}
{%- endif -%}
"""
DROPS_THOUGHTS = THINKING.replace("KEEPS", "false")
KEEPS_THOUGHTS = THINKING.replace("KEEPS", "true")


def read_published(name: str) -> str:
    """Return a published template by its file's name; raises OSError when it is not there."""
    return (Path(PUBLISHED) / f"{name}.jinja").read_text(encoding="utf-8")
