"""How the family's models differ between speech tokens and samples."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class S3GenSpec:
    """Speech tokens → samples."""

    mean_flow: bool = False
    """Its flow decoder was distilled to few steps (arXiv 2510.07979): it is told where a step ends, its steps are
    equally long, and there is no second row for guidance."""

    closing_tokens: tuple[int, ...] = ()
    """Speech tokens that are decoded behind the last one."""

    drops_last_token: bool = False
    """The 40 ms of the last speech token are cut off: by upstream's account they are noise."""
