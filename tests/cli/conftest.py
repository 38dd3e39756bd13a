"""What the commands work on: the small courses and the solved exercise of the rooms below."""

from tests.course.conftest import course, git, group, source  # noqa: F401
from tests.grading.conftest import hand_in, solved  # noqa: F401
