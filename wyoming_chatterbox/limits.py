"""Every bound on what comes from outside, once: sizes, counts and times, each with the line that derives its number."""

from __future__ import annotations

PATH_SECONDS = 2.0
"""Longest wait at the start for a path in the settings, a folder of voices or a small file of the server's own; a
local disk takes milliseconds. A share that sleeps takes longer, and counts as being there."""


# Names and values in messages

MAX_NAME_CHARS = 200
"""Of a voice, speaker, language or id that a client sends. Looking for near names takes more than a millisecond
beyond."""

MAX_QUOTED_CHARS = 80
"""Of a client's value in a log line or an error message, so that the message stays a line or two."""

MAX_LOGGED_CHARS = 300
"""Of one value in the log; a message that names a setting, its value and what is allowed has 200."""


# JSON

MAX_JSON_BYTES = 1024 * 1024
"""A document of JSON: the data of a Wyoming event, the body of a request, a WebSocket message, an Info event. 20,000
characters of text, each escaped as \\ud83d\\ude00, are 240 kB."""

MAX_JSON_VALUES = 2048
"""Values, keys and containers in one document. A synthesize event has a dozen; a thousand empty lists are 56 kB."""

MAX_JSON_DEPTH = 16
"""Containers inside each other; a synthesize event has two."""

MAX_JSON_DIGITS = 40
"""Of a number, its sign and exponent included. Lengths and timestamps have 19, Python's longest float has 24."""


# Connections

MAX_PENDING = 16
"""Requests that one connection may have waiting. Home Assistant and the page have one; a queue is for impatient
scripts."""

MAX_MESSAGE_FAULTS = 16
"""Messages in a row that make no sense where they come, after which a WebSocket is closed. A slip of a program is one
or two; as many as may wait are no slip."""

SPARE_CONNECTIONS = 16
"""Beyond those that may be served (--max-connections): clients that only ask what the server is, health checks, and
clients that are told that there is no room. Home Assistant asks
every 30 seconds."""

RESERVED_CONNECTIONS = 8
"""Of the spare ones: as many are never at work on anything but a health check, so a newcomer always finds a place."""

STALLED_SECONDS = 5.0
"""A client that has taken no audio for so long does not listen, or is paused: a player reads at least once a second.
Its audio and its connection go first where there is too much."""

LEAD_SECONDS = 5.0
"""Audio that may wait for its client when another sentence is begun. It covers the time to the next sentence's first
chunk; the socket's own buffers (some MB) come on top. With one sentence of 20 s, a client that takes nothing costs
1.2 MB at 24 kHz."""

MAX_WAITING_BYTES = 64 * 1024 * 1024
"""What may wait for all clients together: 50 that take nothing. The server with the embedded voice has 212 MB and
should fit into a container of 512 MB."""


# Wyoming events

MAX_HEADER_BYTES = 64 * 1024
"""One header line: what the `wyoming` client's own reader takes (asyncio's default limit for a line)."""

MAX_PAYLOAD_BYTES = 16 * 1024 * 1024
"""The binary part, which no event for a text-to-speech server has: it is read and thrown away. A client that speaks
to the wrong port may send audio; 16 MiB is eight minutes of it."""

LARGE_DATA_BYTES = 64 * 1024
"""Larger data waits for its turn; 20,000 characters without escapes are 20 to 80 kB."""

LARGE_EVENTS = 8
"""Events with large data that are read at once, of all clients together; the others wait in their sockets. Each holds
2 MiB while its end arrives, so 16 MiB in all, where 128 clients that stop before the end would hold 128."""

MAX_UNANSWERED = 16 * MAX_PENDING
"""Requests, the refused ones included (they keep no text), after which a client is disconnected: sixteen times what
may wait."""

MAX_UNANSWERED_UTTERANCES = 2 * MAX_PENDING
"""Utterances of one WebSocket, the refused ones included (they keep no text), after which it is closed: twice what may
wait, since a page sees at once that it is refused."""

MAX_EVENT_FAULTS = 64
"""Events in a row that make no sense where they come, after which a client is disconnected. One that goes on with a
stream which the server does not know of sends as many deltas in a few seconds."""


# Text

MAX_SSML_TAG_CHARS = 2000
"""What is kept of one tag; the longest real ones carry an URL or an alias."""

MAX_THOUGHT_CHARS = 50_000
"""How much of a block without an end is dropped: what reasoning models write at their longest, about 12,000 of their
tokens. A text that goes on behind that is rather spoken than lost."""

MAX_INSTRUCTIONS_CHARS = 4096
"""Of OpenAI's field of this name: what OpenAI takes."""


# HTTP

MAX_HEAD_BYTES = 32 * 1024
"""A request's line and headers; browsers send one to four kilobytes, and some thousand of cookies for other ports."""

MAX_HEAD_LINES = 256
"""Headers of a request; browsers send 20. h11 takes 3 µs for each, at once: 8,000 would stop the loop for 30 ms."""

MAX_FRAGMENTS = 4096
"""Frames of one WebSocket message: 1 MiB in pieces of 256 bytes."""

UNREAD_BODY_SECONDS = 5.0
"""How long a request's body may go on arriving after the request was answered without it."""

LINGER_SECONDS = 5.0
"""How long a client may go on sending after its answer: 64 MiB of an upload that is refused need 100 Mbit/s."""

LINGER_BYTES = 256 * 1024 * 1024
"""Bytes of a client that goes on sending after its answer, of which nothing is kept: four times the longest upload.
Loopback carries more than that in LINGER_SECONDS."""

MIN_TOKEN_CHARS = 16
"""Of a bearer token: 96 bits if it is random base64, which nobody guesses over a network."""

MAX_TOKEN_FILE_BYTES = 64 * 1024
"""Of the file with the bearer tokens: a thousand long ones."""

TOKEN_FILE_SECONDS = 5.0
"""How long the file with the bearer tokens may take to be read before it counts as unreadable; a share over Wi-Fi
takes 0.1 s."""


# Voices

MAX_CLIP_BYTES = 64 * 2**20
"""A minute of 24-bit stereo at 96 kHz is 35 MB; of speech no more than a minute is looked at."""

MAX_VOICE_CONFIG_BYTES = 64 * 2**10
"""Of a voice's settings file; a page of settings is 2 kB."""

MAX_CONFIG_CHARS = 4096
"""Of the settings that are uploaded with a clip: YAML of a dozen short lines."""

MAX_UPLOAD_BYTES = MAX_CLIP_BYTES + 64 * 1024
"""A reference clip and the form around it."""

UPLOAD_SECONDS = 300.0
"""How long an upload may take; 64 MiB over a slow network's 2 Mbit/s."""

FOLDER_SECONDS = 30.0
"""How long a folder of voices may take to write or delete a clip; 64 MiB to a share over a slow Wi-Fi are 30 s."""

UPLOAD_THREADS = 4
"""Clips that are added or deleted at once; further ones wait. A dead share may hold all of them for ever."""

MIN_CLIP_SECONDS = 1.0
"""Of speech in a reference clip. Below it there are fewer than 25 speech tokens to take a voice from."""

MIN_TURBO_CLIP_SECONDS = 5.0
"""Turbo and Nano refuse clips that have no more, as their developers' code does."""

MAX_CLIP_SECONDS = 60.0
"""Chatterbox takes the sound of the first 10 seconds and the speaker of all; a minute is more than it gains from."""

MAX_DECLARED_SECONDS = 1800.0
"""A book's chapter is no reference clip, and hours of silence take a few kB as FLAC."""

MAX_CLIP_CHANNELS = 8
"""A 7.1 film sound; libsndfile would take 1024."""

MAX_CLIP_SAMPLES = 60 * 192_000 * 2
"""Of all channels together, 92 MB: a minute of the fastest stereo, or of 7.1 at 48 kHz."""

MAX_WAV_CHUNKS = 64
"""Chunks of a WAV file before its samples: a recorder writes up to ten."""

MAX_VOICES = 500
"""In one folder. Info grows by 150 bytes for each, and Home Assistant asks for it every 30 seconds."""

MAX_CLIPS = 20
"""Of one speaker: a minute of sound is used at most, and 3 s is a short clip."""

MAX_SPEAKERS = 50
"""Of one voice: each is another name of 150 bytes in Info, as a voice is."""

MAX_VOICE_NAME_CHARS = MAX_NAME_CHARS // 2
"""Of a voice in a folder: half of what a client may send for a name, as its settings may stand behind it."""

MAX_NAME_SETTINGS = 20
"""Settings behind the `?` of a voice's name; there are a dozen to be set."""

MAX_VOICE_TEXT_CHARS = 200
"""Of a title or a name of somebody: a line in a picker."""

MAX_VOICE_LANGUAGES = 32
"""Of one voice; the models that speak most languages speak 23."""

MAX_VOICE_ALIASES = 16
"""Of one voice; OpenAI's clients know a dozen names, which one voice may answer to."""
