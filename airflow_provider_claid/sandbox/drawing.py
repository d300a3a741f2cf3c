"""Pictures of prompts: a scene grown from a seed, the prompt on a card over it, as a PNG."""

import random
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageDraw

from airflow_provider_claid.sandbox.lettering import fit, font_of
from airflow_provider_claid.sandbox.scenes import SIDE, Palette, scene

_MARGIN = 52
_PADDING = 40
_MOST_TEXT = 400
_FOOT = 44
_WHITE = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Sketch:
    """What a picture shows: a prompt, that it is number `number` of `count`, and whose request it was."""

    prompt: str
    number: int
    count: int
    request_id: str
    seed: int
    filtered: bool = False
    plain: bool = False


def draw(sketch: Sketch, side: int = SIDE) -> bytes:
    """Return the PNG of `sketch`, the same bytes each time; plain black if the content filter struck."""
    if sketch.filtered:
        return _png(Image.new("RGB", (side, side)))
    luck = random.Random(sketch.seed)
    palette = Palette(luck)
    picture = Image.new("RGB", (SIDE, SIDE), palette.tone(0.5, 0.5)) if sketch.plain else scene(luck, palette)
    pen = ImageDraw.Draw(picture, "RGBA")
    _card(pen, sketch, palette)
    _badge(pen, f"{sketch.number}/{sketch.count}", palette)
    return _png(picture if side == SIDE else picture.resize((side, side)))


def _png(picture: Image.Image) -> bytes:
    file = BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _card(pen: ImageDraw.ImageDraw, sketch: Sketch, palette: Palette) -> None:
    """Write the prompt on a dark translucent card at the bottom, the request id small beneath it."""
    width = SIDE - 2 * (_MARGIN + _PADDING)
    lines, font, line_height = fit(sketch.prompt, width, _MOST_TEXT)
    top = SIDE - _MARGIN - _FOOT - _PADDING - len(lines) * line_height - _PADDING // 2
    pen.rounded_rectangle((_MARGIN, top, SIDE - _MARGIN, SIDE - _MARGIN), radius=28, fill=(*palette.ink, 196))
    pen.rectangle((_MARGIN, top + 28, _MARGIN + 7, SIDE - _MARGIN - 28), fill=(*palette.accent, 255))
    left, y = _MARGIN + _PADDING, top + _PADDING // 2 + 6
    for line in lines:
        pen.text((left, y), line, font=font, fill=_WHITE)
        y += line_height
    foot = SIDE - _MARGIN - _PADDING // 2
    small = font_of(17)
    pen.text((left, foot), sketch.request_id, font=small, fill=(*_WHITE, 170), anchor="ls")
    pen.text((left + width, foot), "Claid sandbox", font=small, fill=(*palette.accent, 255), anchor="rs")


def _badge(pen: ImageDraw.ImageDraw, text: str, palette: Palette) -> None:
    """Write which of the request's pictures this is on a pill in the upper right corner."""
    right, top, wide, high = SIDE - _MARGIN, _MARGIN, 92, 52
    pen.rounded_rectangle((right - wide, top, right, top + high), radius=high // 2, fill=(*palette.ink, 196))
    pen.text((right - wide / 2, top + high / 2), text, font=font_of(28), fill=_WHITE, anchor="mm")
