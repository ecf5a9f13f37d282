"""The directions and exports of a run: written into run.json when it begins, and read there without a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from tonemill.audiotools.errors import RunError, UsageError
from tonemill.models.directions import Direction, Export, RequestField
from tonemill.pipelines import config
from tonemill.pipelines.runs.run import RUN_JSON, Run

if TYPE_CHECKING:
    from tonemill.models.contract import Model

DIRECTIONS: Final = "directions"
EXPORTS: Final = "exports"


def directions_of(run: Run) -> dict[str, Direction]:
    """The ways in which the model of a run renders, by name; the first is the default.

    The version before wrote none: then the model is imported.

    Raises:
        RunError: run.json is damaged.
    """
    if DIRECTIONS not in run.about:
        return dict(_model_class(run).directions(settings_of(run)))
    try:
        return {name: _direction(name, record) for name, record in run.about[DIRECTIONS].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RunError(f"{run.folder / RUN_JSON} is damaged: see its {DIRECTIONS} ({error}).") from error


def exports_of(run: Run) -> dict[str, Export]:
    """The kinds of files that a run is exported to, by name; the first is the default.

    They are those of the model that is installed: run.json holds those of the version that began the run, which had
    fewer options, for programs that read it.
    """
    return dict(_model_class(run).exports(settings_of(run)))


def chosen(directions: Mapping[str, Direction], name: str, owner: str) -> Direction:
    """The direction of a name; the first one for an empty name.

    Raises:
        UsageError: there is none of that name.
    """
    if not name:
        return next(iter(directions.values()))
    if name not in directions:
        raise UsageError(f"--as is {name!r}; {owner} can {', '.join(directions)}.")
    return directions[name]


def described(directions: Mapping[str, Direction], exports: Mapping[str, Export]) -> dict[str, Any]:
    """Both as run.json holds them."""
    return {
        DIRECTIONS: {name: _described(direction) for name, direction in directions.items()},
        EXPORTS: {
            name: {"help": export.help, "options": config.described(export.options)} for name, export in exports.items()
        },
    }


def _described(direction: Direction) -> dict[str, Any]:
    fields = {}
    for name, field in direction.fields.items():
        record = {key: value for key, value in field._asdict().items() if value not in (None, (), False)}
        fields[name] = {key: list(value) if isinstance(value, tuple) else value for key, value in record.items()}
    return {
        "help": direction.help,
        "needs": list(direction.needs),
        "gives": direction.gives,
        "streams": direction.streams,
        "batched": direction.batched,
        "samples": direction.samples,
        "hop": direction.hop,
        "rows": direction.rows,
        "learned": direction.learned,
        "channels": direction.channels,
        "latency": direction.latency,
        "together": list(direction.together),
        "on_cpu": direction.on_cpu,
        "bound_db": direction.bound_db,
        "fields": fields,
        "states": dict(direction.states),
        "options": config.described(direction.options),
    }


def _direction(name: str, record: Mapping[str, Any]) -> Direction:
    fields = {
        field: RequestField(
            about.get("low"), about.get("high"), tuple(about.get("choices", ())), about.get("required", False)
        )
        for field, about in record["fields"].items()
    }
    return Direction(
        record["help"],
        tuple(record["needs"]),
        record["gives"],
        config.from_description(name, record["options"]),
        fields,
        streams=record["streams"],
        samples=record["samples"],
        hop=record["hop"],
        rows=record["rows"],
        # The version before these five wrote none of them.
        states=record.get("states", {}),
        batched=record.get("batched", 0),
        learned=record.get("learned", False),
        channels=record.get("channels", 0),
        latency=record.get("latency", 0),
        together=tuple(record["together"]),
        on_cpu=record["on_cpu"],
        bound_db=record["bound_db"],
    )


def _model_class(run: Run) -> Any:
    from tonemill.models.contract import load_model

    return load_model(run.model)


def settings_of(run: Run, model_class: type[Model] | None = None) -> Any:
    """The settings of a run's model, of any version, with the defaults of those that are newer than the run.

    Args:
        run: of the model.
        model_class: of it, where that is known.
    """
    model_class = model_class or _model_class(run)
    values = model_class.current(run.model_config)
    return config.build(model_class.config_of(values), values, f"{run.folder}")
