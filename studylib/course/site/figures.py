"""The site's pictures: lighter than a notebook stores them, and with their text alternative (myst-nb's entry point)."""

import base64
import io
from collections.abc import Sequence
from typing import Any

from PIL import Image

COLOURS = 256  # of a picture on the site: one byte a pixel instead of four


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


def lighter(picture: str) -> str:
    """A PNG in base64 with at most 256 colours, where that makes it smaller: of the same size in pixels, same format."""
    png = base64.b64decode(picture)
    with Image.open(io.BytesIO(png)) as image:
        paper = Image.new("RGBA", image.size, "white")
        paper.alpha_composite(image.convert("RGBA"))
    few = paper.convert("RGB").quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    written = io.BytesIO()
    few.save(written, "PNG", optimize=True)
    return base64.b64encode(min(written.getvalue(), png, key=len)).decode()
