"""The app's pictures: addon/icon.png and addon/logo.png.

The Supervisor wants them in the app's folder, so they are the two generated files of the repository. A shape is a
function from points to the distance from its edge (below zero: inside), which also gives its soft edge.
"""

import struct
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
ROOT = Path(__file__).resolve().parent.parent.parent
ADDON = ROOT / "addon"


def main(arguments: Sequence[str]) -> int:
    pictures = {ADDON / "icon.png": icon(), ADDON / "logo.png": logo()}
    if "--check" in arguments:
        # Pixels, not bytes: another zlib packs the same picture in another way.
        stale = [path.name for path, wanted in pictures.items() if not path.exists() or (read(path) != wanted).any()]
        print(f"out of date: {', '.join(stale)}; run script/artwork" if stale else "up to date")
        return int(bool(stale))
    for path, pixels in pictures.items():
        path.write_bytes(png(pixels))
        print(f"{path.relative_to(ROOT)}  {pixels.shape[1]} x {pixels.shape[0]}, {path.stat().st_size / 1000:.1f} kB")
    return 0


def icon() -> Array:
    """128 x 128: a speech bubble with a sound wave in it."""
    canvas = Canvas(128, 128, 128 / 100)
    bubble(canvas, 50, 50, 44)
    return np.asarray(canvas.pixels())


def logo() -> Array:
    """250 x 100: the bubble and the name."""
    canvas = Canvas(250, 100, 1.0)
    bubble(canvas, 42, 50, 34)
    word(canvas, "chatterbox", left=86, base=64, size=11.0)
    return np.asarray(canvas.pixels())


VIOLET, TEAL, WHITE = (0x5B, 0x3F, 0xD6), (0x16, 0xB8, 0xC4), (0xFF, 0xFF, 0xFF)


class Canvas:
    """An RGBA picture; points are given in units of `scale` pixels."""

    def __init__(self, width: int, height: int, scale: float) -> None:
        self.scale = scale
        y, x = np.mgrid[0:height, 0:width]
        self.x, self.y = (x + 0.5) / scale, (y + 0.5) / scale
        self.colour = np.zeros((height, width, 3))
        self.alpha = np.zeros((height, width))

    def fill(self, distance: Array, colour: object) -> None:
        """Paint a shape; `colour` is (red, green, blue) or an array of them."""
        cover = np.clip(0.5 - distance * self.scale, 0, 1)
        under = self.alpha * (1 - cover)
        alpha = cover + under
        weight = np.where(alpha > 0, cover / np.maximum(alpha, 1e-9), 0)[..., None]
        self.colour = np.asarray(colour, dtype=float) * weight + self.colour * (1 - weight)
        self.alpha = alpha

    def line(self, ax: float, ay: float, bx: float, by: float, width: float) -> Array:
        """Distance from a line with round ends."""
        dx, dy = bx - ax, by - ay
        along = np.clip(((self.x - ax) * dx + (self.y - ay) * dy) / max(dx * dx + dy * dy, 1e-9), 0, 1)
        return np.asarray(np.hypot(self.x - ax - along * dx, self.y - ay - along * dy) - width / 2)

    def arc(self, cx: float, cy: float, radius: float, start: float, end: float, width: float) -> Array:
        """Distance from a part of a circle with round ends: degrees, clockwise from the right."""
        middle, half = np.radians((start + end) / 2), np.radians(abs(end - start) / 2)
        turn = (np.arctan2(self.y - cy, self.x - cx) - middle + np.pi) % (2 * np.pi) - np.pi
        turn = np.clip(turn, -half, half) + middle
        return np.asarray(
            np.hypot(self.x - cx - radius * np.cos(turn), self.y - cy - radius * np.sin(turn)) - width / 2
        )

    def pixels(self) -> Array:
        picture = np.concatenate([self.colour, self.alpha[..., None] * 255], axis=2)
        # Few shades: a picture of a few kilobytes that is the same on every processor.
        return (np.round(picture / 5) * 5).clip(0, 255).astype(np.uint8)


def bubble(canvas: Canvas, cx: float, cy: float, radius: float) -> None:
    x, y = canvas.x - cx, canvas.y - cy
    corner, half = radius * 0.45, radius - radius * 0.45
    # A rounded square, and a tail below it.
    body = np.hypot(np.maximum(abs(x) - half, 0), np.maximum(abs(y) - half * 0.85, 0)) - corner
    tail = np.maximum(np.maximum(-x - radius * 0.62, y - radius * 1.12), (x + y) * 0.7071 - radius * 0.42)
    tail = np.maximum(tail, radius * 0.5 - y)
    blend = np.clip((x + y) / (2.4 * radius) + 0.5, 0, 1)[..., None]
    canvas.fill(np.minimum(body, tail), np.asarray(VIOLET) * (1 - blend) + np.asarray(TEAL) * blend)
    for place, height in zip((-0.56, -0.28, 0.0, 0.28, 0.56), (0.20, 0.52, 0.33, 0.62, 0.26), strict=True):
        at, reach = cx + place * radius, height * radius
        canvas.fill(canvas.line(at, cy - reach, at, cy + reach, radius * 0.15), WHITE)


def word(canvas: Canvas, text: str, left: float, base: float, size: float) -> None:
    """Letters of one stroke width: an x-height of `size` above the base line."""
    for letter in text:
        strokes, width = LETTERS[letter]
        for stroke in strokes:
            canvas.fill(stroke(canvas, left, base, size), VIOLET)
        left += (width + 0.42) * size


Stroke = Callable[[Canvas, float, float, float], Array]
PEN = 0.26


def _line(ax: float, ay: float, bx: float, by: float) -> Stroke:
    return lambda canvas, x, y, s: canvas.line(x + ax * s, y - ay * s, x + bx * s, y - by * s, PEN * s)


def _arc(cx: float, cy: float, radius: float, start: float, end: float) -> Stroke:
    return lambda canvas, x, y, s: canvas.arc(x + cx * s, y - cy * s, radius * s, start, end, PEN * s)


_BOWL = _arc(0.5, 0.5, 0.5, 0, 360)
LETTERS: dict[str, tuple[list[Stroke], float]] = {
    "a": ([_BOWL, _line(1.0, 1.0, 1.0, 0.0)], 1.0),
    "b": ([_BOWL, _line(0.0, 1.6, 0.0, 0.0)], 1.0),
    "c": ([_arc(0.5, 0.5, 0.5, 45, 315)], 0.85),
    "e": ([_arc(0.5, 0.5, 0.5, 40, 360), _line(0.0, 0.5, 1.0, 0.5)], 1.0),
    "h": ([_line(0.0, 1.6, 0.0, 0.0), _arc(0.45, 0.55, 0.45, 180, 360), _line(0.9, 0.55, 0.9, 0.0)], 0.9),
    "o": ([_BOWL], 1.0),
    "r": ([_line(0.0, 1.0, 0.0, 0.0), _arc(0.45, 0.5, 0.45, 180, 300)], 0.5),
    "t": ([_line(0.3, 1.45, 0.3, 0.0), _line(0.0, 1.0, 0.62, 1.0)], 0.55),
    "x": ([_line(0.0, 0.0, 0.8, 1.0), _line(0.0, 1.0, 0.8, 0.0)], 0.8),
}
"""Strokes in units of the x-height from the letter's left end of the base line, and the letter's width."""


def png(pixels: Array) -> bytes:
    """Returns a PNG file of an RGBA picture (height, width, 4)."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)), (b"IDAT", zlib.compress(rows, 9))]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in [*chunks, (b"IEND", b"")]
    )
    return b"\x89PNG\r\n\x1a\n" + body


def read(path: Path) -> Array:
    """Returns the RGBA picture of a PNG file that `png` wrote."""
    data, at, packed, size = path.read_bytes(), 8, b"", (0, 0)
    while at < len(data):
        (length,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        content = data[at + 8 : at + 8 + length]
        size = struct.unpack(">II", content[:8]) if kind == b"IHDR" else size
        packed += content if kind == b"IDAT" else b""
        at += length + 12
    width, height = size
    rows = np.frombuffer(zlib.decompress(packed), dtype=np.uint8).reshape(height, 1 + 4 * width)
    return rows[:, 1:].reshape(height, width, 4)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
