"""A Wyoming server that streams Chatterbox speech to Home Assistant."""

__version__ = "0.1.0"
