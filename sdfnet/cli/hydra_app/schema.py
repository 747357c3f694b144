"""Turn dataclasses into plain values for `conf/`, and composed values back into dataclasses, with every value checked.

OmegaConf's structured configurations are not used: they know neither `Literal` nor `str | tuple[str, ...]`, make frozen
dataclasses read-only, and report a wrong value in four lines. So Hydra composes plain values, and `build` checks them.
Unknown keys (also keys forced in with `+`), wrong types and values that the dataclass refuses are errors of one
sentence.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sdfnet.cli.hydra_app.command import UsageError
from sdfnet.cli.hydra_app.output import did_you_mean

Component = TypeVar("Component")

MISSING = "???"
"""A value that must be given, in Hydra's notation."""

INCOMPLETE = object()
"""The result of `build` if a required value is missing."""


_UNFIT = object()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_PLAIN: dict[Any, tuple[str, Callable[[Any], bool], Callable[[Any], Any]]] = {
    int: ("a whole number", lambda value: _is_number(value) and float(value).is_integer(), int),
    float: ("a number", _is_number, float),
    bool: ("true or false", lambda value: isinstance(value, bool), bool),
    str: ("a text", lambda value: isinstance(value, str) or _is_number(value), str),
    Path: ("a path", lambda value: value != "" and _PLAIN[str][1](value), lambda value: Path(str(value)).expanduser()),
    type(None): ("null", lambda value: value is None, lambda value: None),
}
"""For each plain type: its name in messages, whether a value fits it, and the conversion."""


def flat(config_type: type[Component]) -> Component:
    """Return a dataclass field for a command's member whose own fields are keys of the command.

    With `options: Options = flat(Options)`, a field `size` of `Options` is written `size=4` on the command line.
    """
    member: Component = dataclasses.field(default_factory=config_type, metadata={"flat": config_type})
    return member


def flat_fields(config_type: type) -> dict[str, type]:
    """Return the `flat` members of a dataclass, by name."""
    return {field.name: field.metadata["flat"] for field in dataclasses.fields(config_type) if "flat" in field.metadata}


def key_fields(config_type: type) -> dict[str, tuple[dataclasses.Field[Any], Any]]:
    """Return the field and the annotation behind every key: the class's own first, then those of its `flat` members."""
    hints, members = get_type_hints(config_type), flat_fields(config_type)
    own = [field for field in dataclasses.fields(config_type) if field.init and field.name not in members]
    keys = {field.name: (field, hints[field.name]) for field in own}
    for member in members.values():
        assert not keys.keys() & key_fields(member).keys(), f"{config_type.__name__} has a key twice"
        keys |= key_fields(member)
    return keys


def default_values(config_type: type) -> dict[str, Any]:
    """Return the defaults of a dataclass as plain values (lists, strings, numbers), `???` where there is none.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Options:
    ...     run: Path
    ...     sizes: tuple[int, ...] = (3, 4)
    >>> default_values(Options)
    {'run': '???', 'sizes': [3, 4]}
    """
    values: dict[str, Any] = {}
    for key, (field, annotation) in key_fields(config_type).items():
        nested = nested_types(annotation)
        if len(nested) > 1:  # The option of a group decides which dataclass it is; see conf/.
            values[key] = MISSING
        elif field.default is not dataclasses.MISSING:
            values[key] = to_plain(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            values[key] = to_plain(field.default_factory())
        else:
            values[key] = default_values(nested[0]) if nested else MISSING
    return values


def tied_keys(config_type: type, groups: Iterable[str]) -> dict[str, list[str]]:
    """Return, for each group, the keys that the command also has. The user gives such a value once, at the top."""
    keys = key_fields(config_type)
    tied: dict[str, list[str]] = {}
    for group in groups:
        for member in nested_types(keys[group][1]) if group in keys else []:
            names = [field.name for field in dataclasses.fields(member) if field.name in keys]
            tied |= {group: names} if names else {}
    return tied


def with_tied(options: Component, **values: Any) -> Component:
    """Return a group's options with the `values` of the command. Options that are not at their default stay."""
    defaults = {field.name: field.default for field in dataclasses.fields(options)}  # type: ignore[arg-type]
    taken = {key: value for key, value in values.items() if getattr(options, key) == defaults[key]}
    return dataclasses.replace(options, **taken)  # type: ignore[type-var]


def to_plain(value: Any) -> Any:
    """Return `value` with dataclasses as dicts, tuples as lists and paths as strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def missing_keys(document: Mapping[str, Any], where: str = "") -> list[str]:
    """Return the dotted names of all values that are still `???`."""
    found: list[str] = []
    for key, value in document.items():
        if isinstance(value, Mapping):
            found += missing_keys(value, f"{where}{key}.")
        elif value == MISSING:
            found.append(f"{where}{key}")
    return found


def build(config_type: type, document: Mapping[str, Any], where: str = "") -> Any:
    """Return an instance of `config_type` made of plain values, each checked against its annotation.

    If a value is still `???`, the other values are checked, and INCOMPLETE is returned.

    Raises
    ------
    UsageError
        An unknown key, a value of a wrong type, or a value that the dataclass refuses.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Options:
    ...     resolution: int = 128
    >>> build(Options, {"resolution": 64})
    Options(resolution=64)
    >>> build(Options, {"resolution": "many"})
    Traceback (most recent call last):
    ...
    sdfnet.cli.hydra_app.command.UsageError: resolution must be a whole number, got 'many'
    """
    values = check_values(config_type, document, where)
    if any(value is INCOMPLETE for value in values.values()):
        return INCOMPLETE
    try:
        return _assemble(config_type, values)
    except UsageError:
        raise
    except (ValueError, TypeError) as error:
        raise UsageError(f"{where.rstrip('.')}: {error}" if where else str(error)) from error


def _assemble(config_type: type, values: Mapping[str, Any]) -> Any:
    members = {
        name: _assemble(member, {key: values[key] for key in key_fields(member) if key in values})
        for name, member in flat_fields(config_type).items()
    }
    own = [field.name for field in dataclasses.fields(config_type) if field.name not in members]
    return config_type(**{name: values[name] for name in own if name in values}, **members)


def check_values(config_type: type, document: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return the values as the annotated types, INCOMPLETE for each missing value; refuse unknown keys."""
    keys = key_fields(config_type)
    for key in document:
        if key not in keys:
            raise unknown_key(key, keys, where)
    return {
        key: INCOMPLETE if value == MISSING else convert(keys[key][1], value, f"{where}{key}")
        for key, value in document.items()
    }


def unknown_key(
    key: str, allowed: Iterable[str], where: str = "", *, groups: Mapping[str, Iterable[str]] | None = None
) -> UsageError:
    """Return the error about an unknown key; it names the closest keys and all allowed ones.

    `groups` are the keys of each group: one that is called `key` is meant, else the closest if none is close here.

    >>> str(unknown_key("lr", ["run"], groups={"training": ["learning_rate"]}))
    'unknown key lr; did you mean training.learning_rate? Allowed: run'
    """
    allowed, groups = list(allowed), groups or {}
    listed = ", ".join(f"{where}{name}" for name in allowed)
    same = [f"{group}.{key}" for group, names in groups.items() if key in names]
    hint = f"; did you mean {' or '.join(same)}?" if same else did_you_mean(key, allowed)
    for group, names in groups.items():
        if hint == "." and (found := did_you_mean(key, names)) != ".":
            hint = found.replace("mean ", f"mean {group}.").replace(" or ", f" or {group}.")
    return UsageError(f"unknown key {where}{key}{hint} Allowed: {listed}")


def convert(annotation: Any, value: Any, name: str) -> Any:
    """Return `value` as the annotated type, or raise a UsageError that says what is allowed."""
    for member in _by_kind(annotation, value, name):
        result = _convert_one(member, value, name)
        if result is not _UNFIT:
            return result
    raise UsageError(f"{name} must be {describe(annotation)}, got {value!r}")


def _by_kind(annotation: Any, value: Any, name: str) -> tuple[Any, ...]:
    """If several dataclasses are possible, return only the one with the `kind` of the value (a decoder, say)."""
    nested = nested_types(annotation)
    if len(nested) < 2 or not isinstance(value, Mapping):
        return _members(annotation)
    kinds = {member.kind: member for member in nested}
    if value.get("kind") not in kinds:
        raise UsageError(
            f"{name}.kind must be one of {', '.join(kinds)}, got {value.get('kind')!r}. Choose with {name}="
        )
    return (kinds[value["kind"]],)


def describe(annotation: Any) -> str:
    """Return an annotation in words.

    >>> describe(Literal["each", "shared"]), describe(int | None)
    ("one of 'each', 'shared'", 'a whole number or null')
    """
    return " or ".join(_describe_one(member) for member in _members(annotation))


def text_choices(annotation: Any) -> tuple[str, ...]:
    """Return the texts that a value, or each value of a list, can be; empty where any text or none can be meant.

    >>> text_choices(tuple[Literal["obj", "ply"], ...] | None)
    ('obj', 'ply')
    """
    found: tuple[Any, ...] = ()
    for member in _members(annotation):
        if get_origin(member) is Literal:
            found += get_args(member)
        elif get_origin(member) is tuple:
            found += text_choices(get_args(member)[0])
    return tuple(choice for choice in found if isinstance(choice, str))


def is_text(annotation: Any) -> bool:
    """Tell whether an annotation takes only text, null or a list of texts: then the value needs no quotes."""
    return all(
        member in (str, Path, type(None)) or (get_origin(member) is tuple and is_text(get_args(member)[0]))
        for member in _members(annotation)
    )


def nested_types(annotation: Any) -> list[Any]:
    """Return the dataclasses among an annotation's alternatives."""
    return [member for member in _members(annotation) if dataclasses.is_dataclass(member)]


def text_keys(config_type: type, where: str = "") -> Iterator[tuple[str, bool]]:
    """Yield (dotted key, whether it takes a list) of every key whose value is text."""
    for key, (_, annotation) in key_fields(config_type).items():
        if is_text(annotation):
            yield f"{where}{key}", any(get_origin(member) is tuple for member in _members(annotation))
        elif len(nested := nested_types(annotation)) == 1:
            yield from text_keys(nested[0], f"{where}{key}.")


def _members(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in (Union, types.UnionType):
        return get_args(annotation)
    return (annotation,)


def _convert_one(member: Any, value: Any, name: str) -> Any:
    """Return `value` as this one type, or _UNFIT."""
    if member in _PLAIN:
        _, fits, make = _PLAIN[member]
        return make(value) if fits(value) else _UNFIT
    if get_origin(member) is Literal:
        return value if value in get_args(member) else _UNFIT
    if dataclasses.is_dataclass(member):
        return build(member, value, f"{name}.") if isinstance(value, Mapping) else _UNFIT  # type: ignore[arg-type]
    if get_origin(member) is dict:  # Names are the user's own.
        number = get_args(member)[1]
        if not isinstance(value, Mapping):
            return _UNFIT
        return {str(key): convert(number, each, f"{name}.{key}") for key, each in value.items()}
    if get_origin(member) is not tuple:
        raise TypeError(f"{name} is annotated {member}, which the command line cannot check")
    # A lone value stands for a list of one where any length is allowed.
    items, kinds = value if isinstance(value, list) else [value], get_args(member)
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(items)
    if value is None or (isinstance(value, Mapping) and get_origin(kinds[0]) is not dict) or len(items) != len(kinds):
        return _UNFIT
    return tuple(convert(kind, item, name) for kind, item in zip(kinds, items, strict=True))


def _describe_one(member: Any) -> str:
    arguments = get_args(member)
    if member in _PLAIN:
        return _PLAIN[member][0]
    if get_origin(member) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in arguments)
    if get_origin(member) is tuple:
        length = "" if arguments[-1] is Ellipsis else f" of {len(arguments)}"
        return f"a list{length}, each {describe(arguments[0])}"
    if get_origin(member) is dict:
        return f"a set {{name: {_describe_one(arguments[1])}, …}}"
    return "a group of keys" if dataclasses.is_dataclass(member) else str(member)
