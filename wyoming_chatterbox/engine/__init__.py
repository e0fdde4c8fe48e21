"""Engines: each turns one piece of text into samples, and knows no sockets."""
