"""A Wyoming server that streams Chatterbox speech to Home Assistant.

`ChatterboxTTS` is the Python interface of chatterbox-streaming on our decoder. It is imported when it is first used, so
that importing the package loads neither torch nor numpy.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["ChatterboxTTS", "__version__"]

if TYPE_CHECKING:
    from .api import ChatterboxTTS
else:  # hidden from type checkers, which would take any name for one of the package's

    def __getattr__(name: str) -> Any:
        if name != "ChatterboxTTS":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from .api import ChatterboxTTS

        return ChatterboxTTS
