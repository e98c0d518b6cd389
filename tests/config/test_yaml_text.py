"""YAML is read by the rules of version 1.2, and each fault is one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stdcl.config import read_run_file
from stdcl.config.sweep import load_sweep
from stdcl.config.yaml_text import dump_yaml, parse_located, parse_yaml, show
from stdcl.data.custom.prepare import load_spec
from stdcl.errors import UserError

RUN = """
recipe: lite
data: {dataset: nw-ucla, path: store}
encoder: {name: ctrgcn}
"""
SWEEP = """
name: tau
question: Which temperature?
base:
  recipe: lite
  data: {dataset: nw-ucla, path: store}
  encoder: {name: ctrgcn}
grid:
  contrast.temperature: [0.5, 0.8]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(UserError) as caught:
        read_run_file(write(folder, text))
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("-007", -7),
        ("0o17", 15),
        ("0x1F", 31),
        ("+3", 3),
        ("1e-4", 1e-4),
        (".5E1", 5.0),
        ("1.", 1.0),
        ("-.inf", float("-inf")),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("yes", "yes"),
        ("off", "off"),
        ("y", "y"),
        ("TRUE", True),
        ("~", None),
        ("", None),
        ("2024-01-01", "2024-01-01"),
        ("!!str 5", "5"),
        ("{<<: {a: 1, b: 2}, b: 3}", {"a": 1, "b": 3}),
        ("{<<: [{a: 1}, {a: 2, b: 2}]}", {"a": 1, "b": 2}),
    ],
)
def test_values_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    found = parse_yaml(text, "here")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("!!set {a, b}", "the tag '!!set' is not supported"),
        ("!!binary aGk=", "the tag '!!binary' is not supported"),
        ("!mine x", "the tag '!mine' is not supported"),
        ("!!int abc", "'abc' is not of the type int"),
        ("a: &a {b: *a}", "an alias (*) inside what it stands for"),
        ("{a: 1, a: 2}", "the key 'a' is given twice"),
        ("a: " + "9" * 5000, "a number of 5000 characters"),
        ("a: [1, 2", "expected ',' or ']'"),
        ("a: *b", "undefined alias 'b'"),
        ("{" * 3000, "nested too deeply"),
        ("a: \x07", "special characters are not allowed"),
        ("a: &a [1]\nb: 2\nc: {", "line 3"),
    ],
)
def test_what_is_not_read_is_said_in_one_line(text: str, said: str) -> None:
    with pytest.raises(UserError, match="not valid YAML") as caught:
        parse_yaml(text, "here")
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_aliases_cannot_multiply_a_text() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(UserError, match="more than 100,000 values"):
        parse_yaml("\n".join(lines), "here")


def test_merged_keys_have_the_line_where_they_are_written() -> None:
    lines = parse_located("base: &base\n  a: 1\n  b: 2\nother:\n  <<: *base\n  b: 3\n", "here")[1]
    assert {key: line for key, line in lines.items() if key[0] == "other"} == {
        ("other",): 4,
        ("other", "a"): 2,
        ("other", "b"): 6,
    }


@given(st.text(max_size=12))
def test_what_is_written_is_read_as_the_same_text(text: str) -> None:
    if not text.isprintable():
        return
    written = dump_yaml({"key": text, "list": [text]})
    assert parse_yaml(written, "here") == {"key": text, "list": [text]}
    assert yaml.safe_load(written) == {"key": text, "list": [text]}


@pytest.mark.parametrize("text", ["010", "1:30", "no", "1e5", "0o7", "2024-01-01", "<<", "", "null", "1_0", "=", "~"])
def test_a_text_that_looks_like_something_else_is_quoted(text: str) -> None:
    assert parse_yaml(dump_yaml([text]), "here") == [text] == yaml.safe_load(dump_yaml([text]))


def test_a_large_value_is_shortened_in_a_message(tmp_path: Path) -> None:
    text = RUN + "extra: [" + ", ".join(["{a: 1, b: [1, 2, 3]}"] * 2_000) + "]\n"
    said = refusal(tmp_path, text)
    assert "unknown key 'extra'" in said
    assert len(said) < 1000
    assert len(show({"a": ["x" * 10_000] * 100})) <= 80
    assert len(refusal(tmp_path, RUN.replace("ctrgcn", "x" * 10**6))) < 1000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("training: {epochs: 010x}", "'training.epochs' is '010x'; a whole number is expected"),
        ("training: {epochs: 1:30}", "'1:30'; a whole number is expected; without quotes, colons and underscores"),
        ("training: {epochs: '5'}", "'5'; a whole number is expected; without quotes"),
        ("training: {drop_last: yes}", "'yes'; true or false is expected; write true (in YAML 1.2 yes is a text)"),
        ("training: {drop_last: Off}", "write false"),
        ("tracking: {wandb: off}", "'tracking.wandb' is 'off' (did you mean 'offline'?); allowed: "),
        ("contrast: {strategy: null}", "'contrast.strategy' is null (did you mean 'none'?); allowed: "),
        ("contrast: {strategy: True}", "'contrast.strategy' is true; allowed: "),
        ("tracking: {project: 5}", "'tracking.project' is 5; a text is expected; put it in quotes"),
        ("tracking: {project: true}", "put it in quotes"),
        ("data: 3", "is given twice"),
        ("~: 3", "a key must be a text"),
    ],
)
def test_a_value_of_another_type_is_answered_with_what_to_type(tmp_path: Path, change: str, said: str) -> None:
    found = refusal(tmp_path, RUN + change + "\n")
    assert said in found
    assert len(found.splitlines()) == 1


def test_class_names_that_older_yaml_would_turn_into_truth_are_texts(tmp_path: Path) -> None:
    text = "name: mine\njoints: [a, b]\nparents: {b: a}\nclasses: [yes, no, on, off, 10]\nfiles: [x.npz]\nsplits: {}\n"
    with pytest.raises(UserError) as caught:
        load_spec(write(tmp_path, text))
    (line,) = [line for line in str(caught.value).splitlines() if "classes" in line]
    assert "'classes.4' is 10; a text is expected; put it in quotes" in line


def test_leading_zeros_are_decimal(tmp_path: Path) -> None:
    assert read_run_file(write(tmp_path, RUN + "training: {epochs: 010}\n")).training.epochs == 10


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(RUN.lstrip(), encoding="utf-8-sig")
    assert read_run_file(path).recipe == "lite"


def test_merge_keys(tmp_path: Path) -> None:
    text = RUN + "tracking:\n  <<: {project: mine}\n  wandb: disabled\n"
    tracking = read_run_file(write(tmp_path, text)).tracking
    assert (tracking.project, tracking.wandb) == ("mine", "disabled")


def test_a_file_of_another_kind_is_named_with_its_command(tmp_path: Path) -> None:
    description = write(tmp_path, "joints: [a]\nclasses: [b]\n")
    with pytest.raises(UserError, match=r"this is the description of a dataset, not a run file .*data prepare custom"):
        read_run_file(description)
    sweep = write(tmp_path, SWEEP)
    with pytest.raises(UserError, match=r"this is a sweep file, not a run file \(it has 'question'.*stdcl sweep"):
        read_run_file(sweep)
    run = write(tmp_path, RUN)
    with pytest.raises(UserError, match=r"this is a run file, not a sweep file .*stdcl train"):
        load_sweep(run)
    with pytest.raises(UserError, match=r"this is a run file, not the description of a dataset"):
        load_spec(run)


def test_the_command_for_a_file_of_another_kind_has_the_overrides(tmp_path: Path) -> None:
    given = ("training.epochs=5", "name=two words")
    words = "--set training.epochs=5 --set 'name=two words'"
    for content, read, command in ((SWEEP, read_run_file, "sweep"), (RUN, load_sweep, "train")):
        path = write(tmp_path, content)
        with pytest.raises(UserError) as caught:
            read(path, given)
        assert str(caught.value).endswith(f"the command for it: stdcl {command} {path} {words}")
    description = write(tmp_path, "joints: [a]\nclasses: [b]\n")
    with pytest.raises(UserError, match=r"--out DIR$"):
        read_run_file(description, given)
