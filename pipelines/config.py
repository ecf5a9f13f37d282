"""One dataclass, three spellings: flags, TOML keys and recipe parameters all come from its annotated fields.

@dataclass(frozen=True)
class Resample(Step):
    rate: Annotated[int, "Samples per second to convert to."]
    engine: Annotated[Literal["soxr", "resampy"], "Who converts."] = "soxr"
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from tonemill.audiotools.errors import UsageError

T = TypeVar("T")


class Setting(NamedTuple):
    """One field of a config.

    Args:
        name: as in Python, JSON and TOML; `flag` has it as typed.
        kind: int, float, str or bool.
        choices: the allowed words, or none for any.
        optional: None is allowed.
        repeated: a tuple of `kind`.
        help: one line.
        default: `dataclasses.MISSING` where it must be given.
    """

    name: str
    kind: type
    choices: tuple[str, ...]
    optional: bool
    repeated: bool
    help: str
    default: Any

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def required(self) -> bool:
        return self.default is dataclasses.MISSING

    def check(self, value: Any, owner: str) -> Any:
        """The value in the field's type.

        Raises:
            UsageError: it does not fit; says value and expectation.
        """
        if value is None and self.optional:
            return None
        if self.repeated and isinstance(value, list | tuple):
            return tuple(self._check_one(item, owner) for item in value)
        return self._check_one(value, owner)

    def _check_one(self, value: Any, owner: str) -> Any:
        if type(value) is int and not -(2**63) <= value < 2**63:
            raise UsageError(f"{owner}: {self.flag} is a number of {len(hex(value)) - 2} hex digits; that is too many.")
        if self.kind is float and type(value) is int:
            value = float(value)
        if type(value) is not self.kind or (self.choices and value not in self.choices):
            words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
            expected = f"one of {', '.join(self.choices)}" if self.choices else words[self.kind]
            raise UsageError(f"{owner}: {self.flag} is {value!r}; it must be {expected}.")
        return value


def settings(config: type) -> tuple[Setting, ...]:
    """The fields of a config dataclass, in order."""
    hints = typing.get_type_hints(config, include_extras=True)
    found = []
    for field in dataclasses.fields(config):
        annotated = hints[field.name]
        plain, about = typing.get_args(annotated)[:2] if hasattr(annotated, "__metadata__") else (annotated, "")
        members = typing.get_args(plain) if typing.get_origin(plain) in (typing.Union, types.UnionType) else (plain,)
        optional = type(None) in members
        inner = next(member for member in members if member is not type(None))
        repeated = typing.get_origin(inner) is tuple
        inner = typing.get_args(inner)[0] if repeated else inner
        choices = typing.get_args(inner) if typing.get_origin(inner) is Literal else ()
        kind = str if choices else inner
        default = field.default
        if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        found.append(Setting(field.name, kind, choices, optional, repeated, about, default))
    return tuple(found)


def build(config: type[T], values: Mapping[str, Any], owner: str) -> T:
    """Make a config of named values, each checked.

    Raises:
        UsageError: a name is unknown, a value does not fit, or one that must be given is missing.
    """
    known = {setting.name: setting for setting in settings(config)}
    for name in values:
        if name not in known:
            raise UsageError(f"{owner} has no {name!r}. It has: {', '.join(known)}.")
    missing = [setting.flag for setting in known.values() if setting.required and setting.name not in values]
    if missing:
        raise UsageError(f"{owner} needs {' and '.join(missing)}.")
    return config(**{name: known[name].check(value, owner) for name, value in values.items()})


def to_dict(config: Any) -> dict[str, Any]:
    """Every field with its value; tuples become lists, as JSON and TOML have them."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def to_toml(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Write tables of plain values; a None is left out, for TOML has none and None is then the default."""
    import json

    lines = []
    for section, values in sections.items():
        lines.append(f"[{section}]")
        # A JSON string, number, list or boolean is spelt the same in TOML.
        lines += [
            f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items() if value is not None
        ]
        lines.append("")
    return "\n".join(lines)


def read_toml(path: Path) -> dict[str, dict[str, Any]]:
    """Read tables of plain values.

    Raises:
        UsageError: the file is missing or is not TOML.
    """
    import tomllib

    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise UsageError(f"There is no file {path}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}.") from error


def field_value(text: str) -> int | float | str:
    """What a field's value means as a person typed it, or put it into a name: a number where it reads as one."""
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        # JSON has no infinity and no NaN: then it is text.
        return number if number - number == 0 else text
    return text
