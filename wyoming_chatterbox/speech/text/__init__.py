"""Text on its way to an engine: markup is removed, SSML is read, and what is left is split into sentences."""
