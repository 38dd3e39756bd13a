"""Gives the site's pictures the text alternative that a notebook stores with them; myst-nb finds this as an entry point."""

from collections.abc import Sequence
from typing import Any


class Figures:
    """A renderer of myst-nb for pictures that have `alt` in their output's metadata; the others it leaves to myst-nb."""

    mime_priority_overrides: Sequence[tuple[str, str, int | None]] = ()

    @staticmethod
    def handle_mime(renderer: Any, data: Any, inline: bool) -> list[Any] | None:
        text = data.output_metadata.get(data.mime_type, {}).get("alt")
        if not text or not data.mime_type.startswith("image/"):
            return None
        nodes = renderer.render_image(data)
        for node in nodes:
            node["alt"] = text
        return nodes
