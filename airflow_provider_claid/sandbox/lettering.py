"""Words for the pictures: wrapping and sizing a prompt so that all of it can be read."""

from functools import lru_cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_SIZES = (64, 56, 48, 42, 36, 31, 27, 24, 22)
_LINE = 1.28


@lru_cache(maxsize=32)
def font_of(size: int) -> Font:
    """Return Pillow's built-in font at `size` pixels."""
    return ImageFont.load_default(size)


@lru_cache(maxsize=4096)
def _width(text: str, size: int) -> float:
    return font_of(size).getlength(text)


def wrap(text: str, size: int, width: int) -> list[str]:
    """Break `text` into lines of about `width` pixels, inside a word only where the word is wider."""
    lines: list[str] = []
    line, used, space = "", 0.0, _width(" ", size)
    for word in text.split():
        wide = _width(word, size)
        if line and used + space + wide <= width:
            line, used = f"{line} {word}", used + space + wide
            continue
        if line:
            lines.append(line)
        *full, line = _pieces(word, size, width) if wide > width else [word]
        lines.extend(full)
        used = _width(line, size)
    return [*lines, line] if line else lines


def _pieces(word: str, size: int, width: int) -> list[str]:
    """Cut a word that has no spaces (a long address, Chinese text) into pieces that fit."""
    pieces, used = [""], 0.0
    for letter in word:
        wide = _width(letter, size)
        if pieces[-1] and used + wide > width:
            pieces.append("")
            used = 0.0
        pieces[-1] += letter
        used += wide
    return pieces


def fit(text: str, width: int, height: int) -> tuple[list[str], Font, int]:
    """Return lines, font and line height in pixels for `text` as large as a box of this size allows."""
    for size in _SIZES[:-1]:
        font, line_height = font_of(size), round(size * _LINE)
        # A letter is hardly ever narrower than a third of the size: rule out what is hopeless unmeasured.
        if len(text) * size * line_height > 3 * width * height:
            continue
        lines = wrap(text, size, width)
        if len(lines) * line_height <= height:
            return lines, font, line_height
    font, line_height = font_of(_SIZES[-1]), round(_SIZES[-1] * _LINE)
    lines = wrap(text, _SIZES[-1], width)
    most = max(1, height // line_height)
    return (lines if len(lines) <= most else [*lines[: most - 1], "…"]), font, line_height
