import re

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from sdfnet.cli.hydra_app.arguments import parse_line, quote_texts
from sdfnet.cli.hydra_app.command import UsageError

TEXTS = {"out": False, "shapes": True}


def hydra_reads(override: str) -> object:
    (parsed,) = OverridesParser.create().parse_overrides(quote_texts([override], TEXTS))
    return parsed.value()


@pytest.mark.parametrize(
    "words",
    [["-m", "a=1", "b=2"], ["a=1", "-m", "b=2"], ["a=1", "b=2", "--multirun"]],
)
def test_flags_may_stand_anywhere(words: list[str]) -> None:
    line = parse_line(words)
    assert line.flags.multirun
    assert line.overrides == ["a=1", "b=2"]


def test_a_flag_with_a_value_takes_the_next_word_only() -> None:
    line = parse_line(["a=1", "--cfg", "job", "b=2", "--config-dir", "x=y"])
    assert (line.flags.cfg, line.flags.config_dir, line.overrides) == ("job", "x=y", ["a=1", "b=2"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run", "x=1"], "unknown flag --run. Values are written key=value, as in run=VALUE"),
        (["--resolution=3"], "unknown flag --resolution=3. Values are written key=value, as in resolution=VALUE"),
        (["runs/a"], "expected key=value, got 'runs/a'"),
        (["--cfg"], "--cfg: expected one argument"),
        (["--cfg", "all_of_it"], "invalid choice: 'all_of_it'"),
    ],
)
def test_a_line_that_is_no_command_line_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        parse_line(words)


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "my folder (1)",
        "a=b",
        "a=b [1]",
        "Möbel, neu",
        "it's",
        'say "hi"',
        "back\\slash",
        "ends with\\",
        "1e3",
        "007",
        "true",
        "{x: y}",
        "#1",
        "~/x",
    ],
)
def test_a_text_reaches_hydra_to_the_letter(text: str) -> None:
    assert str(hydra_reads(f"out={text}")) == text
    if not text.startswith("["):
        assert str(hydra_reads(f"shapes={text}")) == text


@pytest.mark.parametrize(
    ("value", "items"),
    [
        ("[a,b]", ["a", "b"]),
        ("[a, b (2)]", ["a", "b (2)"]),
        ("[a=b [1],c]", ["a=b [1]", "c"]),
        ('["a=b [1]"]', ["a=b [1]"]),
        ('["a, b",c]', ["a, b", "c"]),
        ("['x',\"y\"]", ["x", "y"]),
        ("[chair_*,?x]", ["chair_*", "?x"]),
        ("[001,1e3]", ["001", "1e3"]),
        ('["a b" - "c d" + e,x]', ['"a b" - "c d" + e', "x"]),
        ('["a, b" + "c d",a - b + c]', ['"a, b" + "c d"', "a - b + c"]),
        ("[]", []),
    ],
)
def test_the_items_of_a_list_reach_hydra_to_the_letter(value: str, items: list[str]) -> None:
    read = hydra_reads(f"shapes={value}")
    assert isinstance(read, list)
    assert [str(item) for item in read] == items


def test_what_is_quoted_null_or_an_interpolation_is_left_alone() -> None:
    given = ["out='x y'", "out=null", "out=${run}/x", "out=", "resolution=12"]
    assert quote_texts(given, TEXTS) == given


def test_a_list_without_its_bracket_is_refused() -> None:
    with pytest.raises(UsageError, match=r"the list \[a has no closing bracket"):
        quote_texts(["shapes=[a"], TEXTS)
