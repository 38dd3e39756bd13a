"""The command `study`, also as `python -m studylib`; where packages of an extra are missing it says how to get them."""

import sys


def main() -> None:
    try:
        from studylib.cli import app

        app()
    except ModuleNotFoundError as error:
        if (error.name or "studylib").partition(".")[0] == "studylib":
            raise
        sys.exit(
            f"study: {error.name} is missing; in the repository run: pip install -c constraints.txt -e '.[course,site]'"
        )


if __name__ == "__main__":
    main()
