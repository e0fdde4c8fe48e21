"""Hosts: where an engine runs, and the messages that go there and back."""
