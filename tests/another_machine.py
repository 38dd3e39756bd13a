"""Executes each week's notebook with another seed, where only its assertions can fail, and tries its gaps on the way.

`make test` runs it under torch's scalar code, which rounds in other places, as another processor does. So what the
assertions hold is no accident of a seed or a machine, and no notebook is executed for its gaps alone.
"""

import sys

from studylib.course import form, gap_proof, meeting, notebooks
from studylib.course import week as weeks

SEED = 3  # the stored outputs are of seed 0


def wrong(week: str) -> list[str]:
    """What is wrong with a week, in words, as `study exercises check` says it."""
    source = notebooks.find(week)
    try:
        found = form.faults(weeks.load(source.parent))
        if meeting.gaps(notebooks.read(source)):
            return found + gap_proof.prove(week, {"SEED": SEED})
        notebooks.run(week, {"SEED": SEED})
    except (ValueError, notebooks.CellError) as error:
        return [str(error)]
    return found


def main() -> int:
    found = [f"{week}: {message}" for week in notebooks.weeks() for message in wrong(week)]
    for message in found:
        print(f"\n{message}", flush=True)
    return bool(found)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
