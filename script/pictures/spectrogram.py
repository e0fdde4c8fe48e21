"""docs/sample.png: the spectrogram of a sentence as the server sent it, and how soon its first sound came.

A server is started on a free port of the loopback, and spoken to as Home Assistant does.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from wyoming.client import AsyncTcpClient
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop

ROOT = Path(__file__).resolve().parent.parent.parent
PATH = ROOT / "docs" / "sample.png"
SENTENCE = "Good morning. The coffee is ready, and it will rain until noon."
FLOOR_DB = -80.0


@dataclass
class Spoken:
    """What came back for the sentence."""

    rate: int = 0
    pcm: bytearray = field(default_factory=bytearray)
    arrivals: list[tuple[float, float]] = field(default_factory=list)
    """Of each chunk: seconds since the request, and where in the audio it begins."""

    @property
    def samples(self) -> NDArray[Any]:
        return np.asarray(np.frombuffer(bytes(self.pcm), dtype="<i2") / np.float32(32768))


def main(arguments: Sequence[str]) -> int:
    path = Path(arguments[0]) if arguments else PATH
    spoken = asyncio.run(_speak())
    _draw(spoken, path)
    first = spoken.arrivals[0][0]
    seconds = len(spoken.samples) / spoken.rate
    print(f"{path.name}: {seconds:.2f} s of speech, the first sound after {1000 * first:.0f} ms")
    return 0


async def _speak() -> Spoken:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "wyoming_chatterbox",
        *("--uri", "tcp://127.0.0.1:0", "--model", "embedded", "--no-zeroconf", "--cache-size", "0"),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        port = 0
        async for line in process.stderr:
            if b"listens on tcp://" in line:
                port = int(line.decode().split("listens on tcp://127.0.0.1:")[1].split()[0].strip(","))
                break
        if not port:
            raise SystemExit("error: the server did not start")
        await _ask(port)  # the first request of a process is slower than the others
        return await _ask(port)
    finally:
        process.terminate()
        await process.communicate()


async def _ask(port: int) -> Spoken:
    spoken = Spoken()
    async with AsyncTcpClient("127.0.0.1", port) as client:
        started = time.perf_counter()
        for event in (
            SynthesizeStart().event(),
            SynthesizeChunk(text=SENTENCE).event(),
            Synthesize(text=SENTENCE).event(),
            SynthesizeStop().event(),
        ):
            await client.write_event(event)
        while (answer := await client.read_event()) is not None and answer.type != "synthesize-stopped":
            if answer.type == "error":
                raise SystemExit(f"error: {answer.data}")
            if answer.type == "audio-chunk":
                spoken.rate = answer.data["rate"]
                spoken.arrivals.append((time.perf_counter() - started, len(spoken.pcm) / 2 / spoken.rate))
                spoken.pcm += answer.payload or b""
    return spoken


def spectrogram(samples: NDArray[Any], window: int = 1024, step: int = 256) -> NDArray[Any]:
    """(frequencies, frames) in dB below the loudest point, not below FLOOR_DB."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, window // 2), window)[::step]
    power = np.abs(np.fft.rfft(frames * np.hanning(window))) ** 2
    decibel = 10 * np.log10(np.maximum(power / power.max(), 1e-12))
    return np.asarray(np.maximum(decibel, FLOOR_DB).T)


def _draw(spoken: Spoken, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from PIL import Image

    samples, seconds = spoken.samples, len(spoken.samples) / spoken.rate
    figure, (above, below) = pyplot.subplots(
        2, 1, figsize=(8, 3.2), dpi=110, sharex=True, height_ratios=(1, 3), layout="constrained"
    )
    above.plot(np.arange(len(samples)) / spoken.rate, samples, color="#5b3fd6", linewidth=0.4)
    above.set_ylim(-1, 1)
    above.set_axis_off()
    above.set_title(
        f"\u201c{SENTENCE}\u201d \u2013 the first sound after {1000 * spoken.arrivals[0][0]:.0f} ms", fontsize=9
    )
    below.imshow(
        spectrogram(samples),
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, spoken.rate / 2000),
        cmap="magma",
        interpolation="bilinear",
    )
    below.set_xlabel("seconds", fontsize=8)
    below.set_ylabel("kHz", fontsize=8)
    below.tick_params(labelsize=8)
    figure.canvas.draw()
    picture = Image.frombytes("RGBA", figure.canvas.get_width_height(), bytes(figure.canvas.buffer_rgba()))
    # 64 colours: a file of a third of the size that looks the same.
    picture.convert("RGB").quantize(64).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
