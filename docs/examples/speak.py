"""Speak while a text is still being written, through the WebSocket: python speak.py [ws://HOST:PORT/ws/stream/audio]

Needs the package `websockets`. Writes spoken.wav and prints when the first audio came.
"""

import asyncio
import json
import sys
import time
import wave

from websockets.asyncio.client import connect

URL = sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:10201/ws/stream/audio"


async def words():
    """What a language model would write."""
    for word in ["Good", "morning.", "The", "coffee", "is", "ready,", "and", "the", "sun", "is", "shining."]:
        yield word + " "
        await asyncio.sleep(0.05)


async def write(socket):
    await socket.send(json.dumps({"type": "start", "exaggeration": 0.6}))
    async for word in words():
        await socket.send(json.dumps({"type": "text", "text": word}))
    await socket.send(json.dumps({"type": "end"}))


async def main():
    async with connect(URL) as socket:
        print("voices:", [voice["name"] for voice in json.loads(await socket.recv())["voices"]])
        started, first = time.perf_counter(), None
        writing = asyncio.create_task(write(socket))
        with wave.open("spoken.wav", "wb") as file:
            async for message in socket:
                if isinstance(message, bytes):
                    first = first or time.perf_counter() - started
                    file.writeframes(message)
                    continue
                event = json.loads(message)
                if event["type"] == "started":
                    file.setparams((1, 2, event["format"]["sample_rate"], 0, "NONE", ""))
                elif event["type"] == "error":
                    sys.exit(f"{event['code']}: {event['message']}")
                elif event["type"] == "metrics":
                    print(
                        f"first audio after {first:.3f} s, {event['audio_duration']:.2f} s of audio by {event['voice']}"
                    )
                    break
        await writing


asyncio.run(main())
