"""Foreign task files are data: hostile YAML and hostile templates are refused (F19)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from harness.task_file import HostileTaskError, Task, read_task, render

OURS = sorted((Path(__file__).parents[1] / "evals" / "tasks").glob("*.yaml"))
GOOD = """
task: mine
output_type: multiple_choice
test_split: test
doc_to_text: "{{ question }}"
doc_to_choice: "{{ options | tojson }}"
doc_to_target: "{{ answer }}"
"""


def written(tmp_path, text):
    file = tmp_path / "task.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def task(text="{{ question }}", choice="{{ options | tojson }}"):
    settings = {"doc_to_text": text, "doc_to_choice": choice, "doc_to_target": "0"}
    return Task("mine", "multiple_choice", settings)


def rendered(text, **row):
    return next(iter(render(task(text), [{"question": "Who?", "options": ["a"], **row}])))["text"]


@pytest.mark.parametrize("file", OURS, ids=lambda file: file.stem)
def test_our_own_task_files_pass_the_reader(file):
    assert read_task(file).name == file.stem


def test_a_plain_task_file_is_read_and_rendered(tmp_path):
    found = read_task(written(tmp_path, GOOD))
    rows = [{"question": "Who?", "options": ["x", "y"], "answer": 1}]
    assert list(render(found, rows)) == [{"text": "Who?", "choices": ["x", "y"], "target": 1}]


@pytest.mark.parametrize(
    "line",
    [
        "process_docs: !function utils.process",
        "metadata: !!python/object/apply:os.system ['touch /tmp/owned']",
        "metadata: !!python/name:os.system",
        "metadata: !include other.yaml",
    ],
)
def test_tags_that_run_code_are_refused_and_run_nothing(tmp_path, line):
    with pytest.raises(HostileTaskError, match="no code from data"):
        read_task(written(tmp_path, GOOD + line))


def test_an_alias_bomb_is_refused_before_it_unfolds(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    start = time.monotonic()
    with pytest.raises(HostileTaskError, match="alias"):
        read_task(written(tmp_path, "\n".join(lines)))
    assert time.monotonic() - start < 1


def test_a_huge_file_is_refused_unread(tmp_path):
    with pytest.raises(HostileTaskError, match="bytes"):
        read_task(written(tmp_path, GOOD + "metadata: '" + "x" * 10_000_000 + "'"))


def test_deep_nesting_is_refused(tmp_path):
    with pytest.raises(HostileTaskError, match="nested deeper"):
        read_task(written(tmp_path, GOOD + "metadata: " + "[" * 500 + "]" * 500))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a list", "a mapping"),
        (GOOD + "unsafe_code: true", "unsafe_code not supported"),
        (GOOD + "dataset_path: /etc/passwd", "dataset_path not supported"),
        (GOOD.replace("mine", "../../x"), "plain name"),
        (GOOD.replace("multiple_choice", "generate_until"), "output_type must be one of"),
        ("task: [unclosed", "code are refused"),
    ],
)
def test_what_is_not_supported_is_named(tmp_path, text, says):
    with pytest.raises(HostileTaskError, match=says):
        read_task(written(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ question.__init__.__globals__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__ }}",
        "{{ question|attr('__class__') }}",
        "{{ '{0.__class__}'.format(question) }}",
        "{% set _ = options.append('x') %}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
    ],
)
def test_templates_cannot_reach_python_or_change_the_row(text):
    with pytest.raises(ValueError, match="template"):
        rendered(text)


@pytest.mark.parametrize(
    "text",
    [
        "{{ range(10**9) | list | length }}",
        "{{ range(999999999) | list | length }}",
        "{{ 'a' * 1000000000 }}",
        "{{ [0] * 1000000000 }}",
        "{{ 9 ** 99999999 }}",
        "{{ '%999999999d' % 1 }}",
        "{% for i in range(1000) %}{{ question * 100 }}{% endfor %}",
        "{% for i in range(999) %}{% for j in range(999) %}{{ question }}{% endfor %}{% endfor %}",
        "{% for a in range(1000) %}{% for b in range(1000) %}{% for c in range(1000) %}"
        "{% endfor %}{% endfor %}{% endfor %}",
        "{{ lipsum(n=100000) }}",
        "{{ question | center(1000000000) }}",
    ],
)
def test_templates_that_grow_or_run_without_end_are_stopped(text):
    start = time.monotonic()
    with pytest.raises(ValueError, match="template"):
        rendered(text)
    assert time.monotonic() - start < 10


def test_a_row_is_never_read_as_a_template():
    assert rendered("{{ question }}", question="{{ 7 * 7 }}") == "{{ 7 * 7 }}"


def test_a_missing_column_is_an_error_and_not_an_empty_prompt():
    with pytest.raises(ValueError, match="'nothing' is undefined"):
        rendered("{{ nothing }}")
