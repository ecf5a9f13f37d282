"""The entry point of the `tonemill` script."""

from __future__ import annotations


def main() -> None:
    """Run the command that was typed."""
    import gc
    import os

    if not hasattr(os, "fork"):
        raise SystemExit(
            "Error: tonemill needs Linux or macOS, whose file locks and processes it uses. On Windows it works in "
            "the Windows Subsystem for Linux: `wsl --install`, and install it there."
        )
    # Garbage collection over the objects of imports, now and at the end, took about a seventh of a stage's time.
    gc.disable()
    try:
        try:
            from tonemill.cli.app import app
            from tonemill.cli.console import settle
        except ImportError as error:
            raise SystemExit(f"Error: {error}. `pip install --force-reinstall tonemill` mends it.") from error
        gc.freeze()
        gc.enable()
        try:
            app()
        finally:
            settle()
            # Python collects garbage once more as it ends, and frees one by one what imports made: 0.35 s for Beam's.
            gc.freeze()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
