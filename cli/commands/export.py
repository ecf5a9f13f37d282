"""Tool: write a trained model for other programs: .nam, ONNX or TorchScript.

nam: the file of Neural Amp Modeler, for its plug-ins and pedals; wavenet, lstm and fir without knobs.

onnx: for plug-ins and programs with ONNX Runtime, on any platform; every network, one block of a stream at a time, with
its state as an input that is at rest if it is left out (needs `pip install 'tonemill[onnx]'`).

torchscript: for programs on LibTorch that already read it; PyTorch no longer develops the format.

A .nam file in place of a run is read, and written anew in the format asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tonemill.audiotools.errors import OutputError, UsageError
from tonemill.cli.console import named_place, tell


def command(
    run: Annotated[
        str, typer.Argument(help="The folder that `tonemill train` made, or a .nam file; - takes it from the pipe.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write.")],
    form: Annotated[Literal["nam", "onnx", "torchscript"], typer.Option("--format", help="See above.")] = "nam",
    checkpoint: Annotated[str, typer.Option(help="last, best, or the number of its step.")] = "last",
    name: Annotated[str | None, typer.Option(help="What the file says that it is; the run's name if left out.")] = None,
    gear_make: Annotated[str | None, typer.Option(help="Who made what was recorded.")] = None,
    gear_model: Annotated[str | None, typer.Option(help="What was recorded.")] = None,
    modeled_by: Annotated[str | None, typer.Option(help="Who recorded it.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace the file if it is there.")] = False,
) -> None:
    if output.exists() and not overwrite:
        raise OutputError(f"{output} is there already. Name another file with -o, or give --overwrite.")
    place = named_place(run, "run")
    said = {"name": name, "gear_make": gear_make, "gear_model": gear_model, "modeled_by": modeled_by}
    given = {key: value for key, value in said.items() if value is not None}
    data = _rewritten(place, form, given) if place.suffix == ".nam" else _exported(place, form, checkpoint, given)
    _write(output, data)
    tell(f"{output}: {len(data):,} bytes")


def _exported(place: Path, form: str, which: str, given: dict[str, Any]) -> bytes:
    from tonemill.pipelines.rendering.render import pick_device
    from tonemill.pipelines.runs.checkpoints import load_for_rendering
    from tonemill.pipelines.runs.run import open_run

    opened = open_run(place)
    checkpoint = opened.checkpoint(which)
    model = load_for_rendering(opened, checkpoint, pick_device("cpu"))
    if form not in model.exports:
        raise UsageError(
            f"{opened.model} can be exported as {', '.join(model.exports) or 'nothing'}, and --format is {form}."
        )
    training = {"steps": checkpoint.step, "validation_esr": checkpoint.score}
    return model.exported(form, {"name": place.resolve().name, "training": training, **given})


def _rewritten(place: Path, form: str, given: dict[str, Any]) -> bytes:
    from tonemill.models.effect.export import graph, nam

    if not place.is_file():
        raise UsageError(f"There is no file {place}.")
    try:
        amp = nam.read(place.read_bytes())
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from error
    if form == "nam":
        return nam.written(amp.network, amp.sample_rate, {**amp.metadata, **given})
    return (
        graph.onnx_bytes(amp.network, 0, amp.sample_rate) if form == "onnx" else graph.torchscript_bytes(amp.network, 0)
    )


def _write(output: Path, data: bytes) -> None:
    from tonemill.pipelines.storage import commit

    with commit.pending(output) as file:
        file.write(data)
