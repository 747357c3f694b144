from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from sdfnet.cli.hydra_app.command import UsageError
from sdfnet.cli.hydra_app.schema import (
    INCOMPLETE,
    build,
    default_values,
    flat,
    missing_keys,
    text_keys,
    tied_keys,
    with_tied,
)


@dataclass(frozen=True)
class Round:
    kind: str = "round"
    radius: float = 1.0

    def __post_init__(self) -> None:
        if self.radius <= 0:
            raise ValueError(f"radius must be positive, got {self.radius}")


@dataclass(frozen=True)
class Square:
    kind: str = "square"
    side: float = 1.0


@dataclass(frozen=True)
class Inner:
    count: int = 3
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    run: Path
    shape: Round | Square
    shapes: str | tuple[str, ...] = "all"
    size: tuple[int, int] = (4, 3)
    mode: Literal["each", "shared"] = "each"
    limit: float | None = None
    fast: bool = False
    inner: Inner = field(default_factory=Inner)


def document(**changes: Any) -> dict[str, Any]:
    return default_values(Outer) | {"run": "r", "shape": {"kind": "square", "side": 2}} | changes


def test_defaults_come_back_as_the_dataclass() -> None:
    assert build(Outer, document()) == Outer(run=Path("r"), shape=Square(side=2.0))


def test_what_has_no_default_is_missing_and_the_rest_is_checked_all_the_same() -> None:
    assert missing_keys(default_values(Outer)) == ["run", "shape"]
    assert build(Outer, default_values(Outer)) is INCOMPLETE
    with pytest.raises(UsageError, match="mode must be"):
        build(Outer, default_values(Outer) | {"mode": "none"})


@pytest.mark.parametrize(
    ("changes", "name", "expected"),
    [
        ({"shapes": ["a", 7]}, "shapes", ("a", "7")),
        ({"shapes": 12}, "shapes", "12"),
        ({"size": [2, 5.0]}, "size", (2, 5)),
        ({"limit": 3}, "limit", 3.0),
        ({"inner": {"count": 1e3, "names": "x"}}, "inner", Inner(1000, ("x",))),
        ({"shape": {"kind": "round", "radius": 2}}, "shape", Round(radius=2.0)),
    ],
)
def test_values_become_the_annotated_types(changes: dict[str, Any], name: str, expected: object) -> None:
    value = getattr(build(Outer, document(**changes)), name)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fast": 1}, "fast must be true or false, got 1"),
        ({"fast": "yes"}, "fast must be true or false, got 'yes'"),
        ({"limit": True}, "limit must be a number or null, got True"),
        ({"limit": "much"}, "limit must be a number or null, got 'much'"),
        ({"size": [1, 2, 3]}, "size must be a list of 2, each a whole number, got [1, 2, 3]"),
        ({"size": [1.5, 2]}, "size must be a whole number, got 1.5"),
        ({"mode": "eech"}, "mode must be one of 'each', 'shared', got 'eech'"),
        ({"run": ""}, "run must be a path, got ''"),
        ({"run": ["a", "b"]}, "run must be a path, got ['a', 'b']"),
        ({"inner": 3}, "inner must be a group of keys, got 3"),
        ({"inner": {"count": "x"}}, "inner.count must be a whole number, got 'x'"),
        ({"inner": {"cout": 3}}, "unknown key inner.cout; did you mean count? Allowed: inner.count, inner.names"),
        ({"lmit": 3}, "unknown key lmit; did you mean limit? Allowed: run, shape, shapes"),
        ({"shape": {"kind": "round", "radius": -1}}, "shape: radius must be positive, got -1.0"),
        ({"shape": {"kind": "round", "side": 1}}, "unknown key shape.side. Allowed: shape.kind, shape.radius"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        build(Outer, document(**changes))
    assert str(raised.value).startswith(message)


def test_a_path_may_start_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert build(Outer, document(run="~/r")).run == Path("/home/somebody/r")


def test_text_keys_are_those_where_nothing_but_text_is_meant() -> None:
    assert dict(text_keys(Outer)) == {"run": False, "shapes": True, "inner.names": True}


@dataclass(frozen=True)
class Sizes:
    count: int = 3
    names: tuple[str, ...] = ()
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count must be 1 or more, got {self.count}")


@dataclass(frozen=True, kw_only=True)
class Holder:
    run: Path
    sizes: Sizes = flat(Sizes)
    shape: Round = flat(Round)


def test_the_keys_of_a_flat_member_are_keys_of_its_holder() -> None:
    plain = {"run": "???", "count": 3, "names": [], "inner": {"count": 3, "names": []}, "kind": "round", "radius": 1.0}
    assert default_values(Holder) == plain
    assert list(default_values(Holder)) == list(plain)
    built = build(Holder, {**plain, "run": "r", "count": 5, "inner": {"count": 4}, "radius": 2})
    assert built == Holder(run=Path("r"), sizes=Sizes(5, (), Inner(4)), shape=Round(radius=2.0))
    assert build(Holder, {"run": "r"}) == Holder(run=Path("r"))
    assert dict(text_keys(Holder)) == {"run": False, "names": True, "inner.names": True, "kind": False}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": "x"}, "count must be a whole number, got 'x'"),
        ({"count": 0}, "count must be 1 or more, got 0"),
        ({"inner": {"count": "x"}}, "inner.count must be a whole number, got 'x'"),
        ({"sizes": {}}, "unknown key sizes. Allowed: run, count, names, inner, kind, radius"),
    ],
)
def test_a_wrong_value_of_a_flat_member_is_named_without_the_member(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        build(Holder, {"run": "r", **changes})
    assert str(raised.value) == message


def test_a_key_can_stand_for_one_thing_only() -> None:
    @dataclass(frozen=True)
    class Twice:
        count: int = 1
        sizes: Sizes = flat(Sizes)

    with pytest.raises(AssertionError, match="Twice has a key twice"):
        default_values(Twice)


def test_a_key_that_a_group_shares_with_the_top_is_tied() -> None:
    @dataclass(frozen=True)
    class Command:
        inner: Inner
        shape: Round | Square
        count: int = 3
        side: float = 1.0

    assert tied_keys(Command, ["inner", "shape", "experiment"]) == {"inner": ["count"], "shape": ["side"]}


def test_a_tied_value_gives_way_to_one_of_its_own() -> None:
    assert with_tied(Inner(), count=8) == Inner(8)
    assert with_tied(Inner(count=5, names=("x",)), count=8) == Inner(5, ("x",))
