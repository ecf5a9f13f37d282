"""One dataclass, three spellings: flags, TOML keys and recipe parameters all come from its annotated fields.

@dataclass(frozen=True)
class Resample(Step):
    rate: Annotated[int, "Samples per second to convert to."]
    engine: Annotated[Literal["soxr", "resampy"], "Who converts."] = "soxr"
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

from tonemill.audiotools.errors import UsageError
from tonemill.models.directions import Bounds

T = TypeVar("T")


class Setting(NamedTuple):
    """One field of a config.

    Args:
        name: as in Python, JSON and TOML; `flag` has it as typed.
        kind: int, float, str, bool, or dict for an object of plain values, which is never a flag.
        choices: the allowed words, or none for any.
        optional: None is allowed.
        repeated: a tuple of `kind`.
        help: one line.
        default: `dataclasses.MISSING` where it must be given.
        bounds: of a number; None allows any.
        typed_as: the flag, where it is not the name.
    """

    name: str
    kind: type
    choices: tuple[str, ...]
    optional: bool
    repeated: bool
    help: str
    default: Any
    bounds: Bounds | None = None
    typed_as: str = ""

    @property
    def flag(self) -> str:
        return self.typed_as or "--" + self.name.replace("_", "-")

    @property
    def required(self) -> bool:
        return self.default is dataclasses.MISSING

    def check(self, value: Any, owner: str) -> Any:
        """The value in the field's type.

        Raises:
            UsageError: it does not fit; the message has the value and what was expected.
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
        # NaN is within all bounds, as no comparison with it holds.
        if type(value) is not self.kind or value != value or (self.choices and value not in self.choices):
            words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", dict: "an object"}
            expected = f"one of {', '.join(self.choices)}" if self.choices else words[self.kind]
            raise UsageError(f"{owner}: {self.flag} is {value!r}; it must be {expected}.")
        if self.bounds is not None:
            self.bounds.check(self.flag, typing.cast("int | float", value))
        return value


def settings(config: type) -> tuple[Setting, ...]:
    """The fields of a config dataclass, in order."""
    hints = typing.get_type_hints(config, include_extras=True)
    found = []
    for field in dataclasses.fields(config):
        annotated = hints[field.name]
        plain, about, *more = typing.get_args(annotated) if hasattr(annotated, "__metadata__") else (annotated, "")
        members = typing.get_args(plain) if typing.get_origin(plain) in (typing.Union, types.UnionType) else (plain,)
        optional = type(None) in members
        inner = next(member for member in members if member is not type(None))
        repeated = typing.get_origin(inner) is tuple
        inner = typing.get_args(inner)[0] if repeated else inner
        choices = typing.get_args(inner) if typing.get_origin(inner) is Literal else ()
        kind = str if choices else dict if typing.get_origin(inner) is dict else inner
        default = field.default
        if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        bounds = next((one for one in more if isinstance(one, Bounds)), None)
        flag = next((one for one in more if isinstance(one, str)), "")
        found.append(Setting(field.name, kind, choices, optional, repeated, about, default, bounds, flag))
    return tuple(found)


_KINDS: Final = {kind.__name__: kind for kind in (int, float, str, bool)}


def described(config: type) -> list[dict[str, Any]]:
    """The fields of a config dataclass as JSON, from which `from_description` makes one with the same flags and checks.

    Only what is not the usual is written: {"name": "steps", "type": "int", "help": "...", "default": 10, "low": 1}.
    """
    records = []
    for setting in settings(config):
        record: dict[str, Any] = {"name": setting.name, "type": setting.kind.__name__, "help": setting.help}
        if not setting.required:
            record["default"] = list(setting.default) if setting.repeated else setting.default
        record |= {name: True for name in ("optional", "repeated") if getattr(setting, name)}
        if setting.choices:
            record["choices"] = list(setting.choices)
        if setting.bounds is not None:
            record |= {name: value for name, value in setting.bounds._asdict().items() if abs(value) != float("inf")}
        records.append(record)
    return records


def from_description(name: str, records: Sequence[Mapping[str, Any]]) -> type:
    """A frozen dataclass with the fields that `described` wrote.

    Raises:
        KeyError: a record lacks a name, or has a type that is not known.
    """
    fields: list[tuple[str, Any, Any]] = []
    for record in records:
        kind: Any = Literal[tuple(record["choices"])] if record.get("choices") else _KINDS[record["type"]]
        if record.get("repeated"):
            kind = tuple[kind, ...]
        if record.get("optional"):
            kind = kind | None
        extra = [Bounds(record.get("low", -float("inf")), record.get("high", float("inf")))]
        bounds = extra if {"low", "high"} & record.keys() else []
        annotated = Annotated[(kind, record["help"], *bounds)]
        default = record.get("default", dataclasses.MISSING)
        value = tuple(default) if isinstance(default, list) else default
        fields.append((record["name"], annotated, dataclasses.field(default=value)))
    return dataclasses.make_dataclass(name, fields, frozen=True, kw_only=True)


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
    """What a field's value means as a person typed it, or put it into a name: a number where it is written as one.

    Numbers of takes (007), of LibriSpeech's utterances (103_1240) and hexadecimal ones (12e4) stay text.
    """
    if not _NUMBER.fullmatch(text) or len(text) > 300:
        return text
    number: int | float = float(text) if set(text) & set(".e") else int(text)
    # Programs that read JSON round whole numbers beyond 2^53, and JSON has no infinity.
    return number if abs(number) < 2**53 else text


_NUMBER: Final = re.compile(r"[-+]?(0|[1-9][0-9]*|(0|[1-9][0-9]*)?\.[0-9]+)(e-[0-9]{1,3})?")
