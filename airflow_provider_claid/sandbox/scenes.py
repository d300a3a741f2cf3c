"""Backgrounds for the pictures: a palette and a scene grown from a seed."""

import math
import random
from collections.abc import Callable
from colorsys import hls_to_rgb

from PIL import Image, ImageChops, ImageDraw

SIDE = 1024
# Shapes are drawn twice as large and shrunk, which smooths their edges.
_SCALE = 2
_CANVAS = SIDE * _SCALE

Colour = tuple[int, int, int]
Point = tuple[float, float]


# Hue at the near end, hue at the far end, hue of the accent, saturation; 0 is red, 1/3 green, 2/3 blue.
_MOODS = (
    (0.72, 0.93, 0.11, 0.48),
    (0.62, 0.50, 0.07, 0.55),
    (0.42, 0.27, 0.13, 0.36),
    (0.97, 1.08, 0.15, 0.62),
    (0.82, 0.92, 0.47, 0.42),
    (0.07, 0.11, 0.54, 0.38),
    (0.55, 0.46, 0.94, 0.40),
    (0.64, 0.76, 0.14, 0.50),
)


class Palette:
    """Colours that belong together: a run between two hues, and an accent that stands out from it."""

    def __init__(self, luck: random.Random) -> None:
        near, far, accent, self._full = luck.choice(_MOODS)
        shift = luck.uniform(-0.025, 0.025)
        self._near, self._run = near + shift, far - near
        self.accent = _colour(accent + shift, 0.68, 0.9)
        self.ink = _colour(near + shift, 0.09, 0.45)

    def tone(self, where: float, light: float) -> Colour:
        """Return a colour between the near hue (`where` 0) and the far one (1); `light` goes from 0 to 1."""
        return _colour(self._near + self._run * where, light, self._full)


def _colour(hue: float, light: float, full: float) -> Colour:
    red, green, blue = hls_to_rgb(hue % 1.0, min(light, 0.95), full)
    return round(red * 255), round(green * 255), round(blue * 255)


class _Brush:
    """Draws shapes; points are in pixels of the final picture, alpha goes from 0 to 255 (opaque, and fast)."""

    def __init__(self, canvas: Image.Image) -> None:
        self._opaque = ImageDraw.Draw(canvas)
        self._blending = ImageDraw.Draw(canvas, "RGBA")

    def _pen(self, colour: Colour, alpha: int) -> tuple[ImageDraw.ImageDraw, tuple[int, ...]]:
        return (self._opaque, colour) if alpha == 255 else (self._blending, (*colour, alpha))

    def disc(self, centre: Point, radius: float, colour: Colour, alpha: int = 255) -> None:
        pen, fill = self._pen(colour, alpha)
        x, y, r = centre[0] * _SCALE, centre[1] * _SCALE, radius * _SCALE
        pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)

    def polygon(self, corners: list[Point], colour: Colour, alpha: int = 255) -> None:
        pen, fill = self._pen(colour, alpha)
        pen.polygon([(x * _SCALE, y * _SCALE) for x, y in corners], fill=fill)


def _hills(brush: _Brush, luck: random.Random, palette: Palette) -> None:
    """Draw a sun behind ridges that get darker towards the viewer."""
    sun, radius = (luck.randint(180, 844), luck.randint(180, 330)), luck.randint(80, 140)
    for glow in (2.6, 1.9, 1.4):
        brush.disc(sun, radius * glow, palette.accent, 34)
    brush.disc(sun, radius, palette.accent)
    for ridge in range(5):
        base = 400 + 120 * ridge
        waves = [(luck.uniform(0.5, 3.5) / SIDE, luck.random() * math.tau, luck.uniform(14, 60)) for _ in range(3)]
        crest: list[Point] = [
            (x, base + sum(high * math.sin(math.tau * rate * x + phase) for rate, phase, high in waves))
            for x in range(0, SIDE + 16, 16)
        ]
        colour = palette.tone(1 - ridge / 4, 0.6 - 0.11 * ridge)
        brush.polygon([(0, SIDE), *crest, (SIDE, SIDE)], colour)


def _lights(brush: _Brush, luck: random.Random, palette: Palette) -> None:
    """Draw lights out of focus, the large ones faint."""
    for radius in sorted((luck.choice((20, 34, 52, 80, 120, 180)) for _ in range(38)), reverse=True):
        bright = luck.random() < 0.25
        colour = palette.accent if bright else palette.tone(luck.random(), luck.uniform(0.55, 0.9))
        centre = (luck.randint(0, SIDE), luck.randint(0, SIDE))
        brush.disc(centre, radius, colour, 150 - radius // 2)
        brush.disc(centre, radius * 0.86, colour, 40)


def _rings(brush: _Brush, luck: random.Random, palette: Palette) -> None:
    """Draw circles around one point, from the outermost in."""
    centre, width = (luck.randint(220, 804), luck.randint(180, 480)), luck.randint(64, 92)
    bright = luck.sample(range(1, 9), 2)
    for ring in range(12, 0, -1):
        colour = palette.accent if ring in bright else palette.tone(luck.uniform(0, 0.3) + ring / 16, 0.8 - 0.05 * ring)
        brush.disc(centre, ring * width, colour)


def _facets(brush: _Brush, luck: random.Random, palette: Palette) -> None:
    """Draw a mosaic of triangles whose colours run from one corner to the other."""
    cells = 6
    step, jitter = SIDE / cells, SIDE / cells / 3
    grid = [
        [
            (column * step + luck.uniform(-jitter, jitter), row * step + luck.uniform(-jitter, jitter))
            for column in range(-1, cells + 2)
        ]
        for row in range(-1, cells + 2)
    ]
    for row in range(cells + 2):
        for column in range(cells + 2):
            one, two = grid[row][column : column + 2]
            three, four = grid[row + 1][column : column + 2]
            for corners in ([one, two, three], [two, three, four]):
                light = 0.72 - 0.05 * row + luck.uniform(-0.08, 0.08)
                bright = luck.random() < 0.05
                colour = palette.accent if bright else palette.tone((row + column) / 14, light)
                brush.polygon(corners, colour)


def _waves(brush: _Brush, luck: random.Random, palette: Palette) -> None:
    """Draw broad diagonal ribbons."""
    rate, phase, lean = luck.uniform(0.6, 1.4) / SIDE, luck.random() * math.tau, luck.uniform(-0.5, 0.5)
    bright = luck.randint(2, 7)
    for ribbon in range(11):
        high = luck.uniform(40, 90)
        crest: list[Point] = [
            (x, ribbon * 105 - 60 + lean * (x - SIDE / 2) + high * math.sin(math.tau * rate * x + phase))
            for x in range(0, SIDE + 16, 16)
        ]
        phase += luck.uniform(0.3, 0.9)
        colour = palette.accent if ribbon == bright else palette.tone(1 - ribbon / 10, 0.8 - 0.055 * ribbon)
        brush.polygon([(0, SIDE), (0, crest[0][1]), *crest, (SIDE, SIDE)], colour)


_SCENES: tuple[Callable[[_Brush, random.Random, Palette], None], ...] = (
    _hills,
    _lights,
    _rings,
    _facets,
    _waves,
)


def scene(luck: random.Random, palette: Palette) -> Image.Image:
    """Return a square picture of `SIDE` pixels: a soft mesh of colours, a scene over it, light over both."""
    mesh, light = Image.new("RGB", (4, 4)), Image.new("L", (4, 4))
    for row in range(4):
        for column in range(4):
            tone = palette.tone(luck.uniform(0.5, 1.1) - 0.2 * row, 0.74 - 0.1 * row + luck.uniform(-0.07, 0.07))
            mesh.putpixel((column, row), tone)
            light.putpixel((column, row), luck.randint(205, 255))
    canvas = _grown(mesh).resize((_CANVAS, _CANVAS), Image.Resampling.NEAREST)
    luck.choice(_SCENES)(_Brush(canvas), luck, palette)
    return ImageChops.multiply(canvas.reduce(_SCALE), Image.merge("RGB", [_grown(light)] * 3))


def _grown(cells: Image.Image) -> Image.Image:
    return cells.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
