"""The meetings as data: weeks with their run sheets and notebooks, topics and who claims them, the reading list."""

from studylib.course.comparing import expect
from studylib.course.course import load
from studylib.course.week import load as sheet

__all__ = ["expect", "load", "sheet"]
