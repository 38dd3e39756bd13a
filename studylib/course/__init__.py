"""What makes a meeting out of a folder under weeks/: its run sheet and its notebook."""

from studylib.course.week import load as sheet

__all__ = ["sheet"]
