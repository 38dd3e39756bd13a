"""What several weeks share: costs, published networks, the papers' numbers, data, training, figures, kernels."""

from typing import Any


def check(name: str, kernel: Any = None) -> Any:
    """Judges a kernel of yours for an exercise; see `studylib.grading.local.check`."""
    from studylib.grading.local import check

    return check(name, kernel)
