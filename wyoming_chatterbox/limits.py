"""Every bound on what comes from outside, once: sizes, counts and times, each with the line that derives its number."""

from __future__ import annotations

PATH_SECONDS = 2.0
"""Longest wait at the start for a path in the settings, a folder of voices or a small file of the server's own; a local
disk takes milliseconds. A share that sleeps takes longer, and counts as being there."""
