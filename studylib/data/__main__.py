"""The command `python -m studylib.data`, which fetches the images of the course before a meeting without a network."""

import argparse
import sys
from pathlib import Path

from studylib.data.fetch import DataUnavailable
from studylib.data.images import mnist, sizes


def main(arguments: list[str] | None = None) -> int:
    """The command; returns 0, 1 where MNIST cannot be had, 130 after Ctrl-C (which leaves nothing half done)."""
    parser = argparse.ArgumentParser(prog="python -m studylib.data", description="Fetches the images of the course.")
    parser.add_argument("--root", default="data", help="folder for the files (default: data)")
    root = parser.parse_args(arguments).root
    try:
        data = mnist(root)
    except DataUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted: nothing half done was left. Run the same command again.", file=sys.stderr)
        return 130
    print(f"MNIST is in {Path(root) / 'mnist'}, checked: {sizes(data)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
