"""What a user can do something about."""


class BenchError(Exception):
    """The benchmark cannot do what it was asked; the message says what happened and what to do."""
