"""Voices: reference clips and their settings, as values that an engine can speak with."""
