"""Voices: what can be chosen by name, and what an engine needs to speak with it."""
