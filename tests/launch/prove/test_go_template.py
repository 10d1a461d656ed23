"""What is filled here is what Go's own text/template fills; each expected text was written by Go 1.27."""

from typing import Any

import pytest

from launch.prove.go_template import fill_go_template, write_go_text

FILLED: list[tuple[str, dict[str, Any], str]] = [
    ("a {{- .X -}}  b", {"X": "x"}, "axb"),
    (
        '{{ if .A }}1{{ else if and .B (eq .C "c" "d") }}2{{ else }}3{{ end }}',
        {"A": "", "B": [1], "C": "d"},
        "2",
    ),
    (
        "{{ $n := 1 }}{{ range $i, $x := .L }}{{ if gt $i 0 }},{{ end }}{{ $x.N }}{{ $n = $i }}{{ end }};{{ $n }}",
        {"L": [{"N": "p"}, {"N": "q"}, {"N": "r"}]},
        "p,q,r;2",
    ),
    ("{{ range .L }}[{{ . }}{{ $.X }}]{{ end }}", {"L": ["p", "q"], "X": "!"}, "[p!][q!]"),
    (
        '{{ len (slice .L 1) }}{{ (index .L 1).N }}{{ not .None }}{{ or .None "or" }}{{ ne 1 2 }}',
        {"L": [{"N": "p"}, {"N": "q"}]},
        "1qtrueortrue",
    ),
    (
        "{{ json .M }}",
        {"M": {"a": [1, True, None, "中"], "b": "<&>"}},
        '{"a":[1,true,null,"中"],"b":"\\u003c\\u0026\\u003e"}',
    ),
    ('{{ "{" }}{{ "\\"\\n" }}{{ true }}', {}, '{"\ntrue'),
    (
        "{{ if .L }}{{ end }}{{ $x := .A }}{{ if true }}{{ $x := 2 }}{{ $x }}{{ end }}{{ $x }}",
        {"L": [], "A": "a"},
        "2a",
    ),
]
REFUSED = [
    *("{{ if }}", "{{ if .A }}", "{{ end }}", "{{ .A | printf }}", "{{ $nope }}", "{{ (.A }}", "{{ index .L 5 }}"),
    *("{{ frob .A }}", "{{ else }}", "{{ range .L }}", "{{ .A.B }}", "{{ if .A }}" * 60),
]


@pytest.mark.parametrize(("template", "values", "expected"), FILLED)
def test_a_template_is_filled_as_go_fills_it(template: str, values: dict[str, Any], expected: str) -> None:
    assert fill_go_template(template, values) == expected


@pytest.mark.parametrize("template", REFUSED)
def test_what_is_not_known_is_refused_and_not_guessed(template: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        fill_go_template(template, {"A": "a", "L": [1]})


@pytest.mark.parametrize("text", ["{{ .A }}", "{", "{{{", '{"a": {"b": 1}}', "}}", "{{{{end}}}}", "a{\n"])
def test_braces_of_a_text_stay_text_before_an_action(text: str) -> None:
    assert fill_go_template(write_go_text(text) + "{{ .A }}", {"A": "!"}) == text + "!"
