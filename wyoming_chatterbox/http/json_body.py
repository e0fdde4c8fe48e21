"""JSON in the body of a request, parsed at a bounded cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from ..json_limits import parse
from .errors import InvalidRequest


class _Request(Request):
    async def json(self) -> Any:
        """Returns what the body says. Raises JSONDecodeError, or InvalidRequest where it is too much."""
        try:
            return parse(await self.body())
        except json.JSONDecodeError:
            raise
        except ValueError as error:
            raise InvalidRequest(f"The body is no JSON that this server takes: {str(error)[:100]}") from None


class BoundedJsonRoute(APIRoute):
    """A route whose JSON body has as many values, and is as deep, as an event of the Wyoming protocol."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            return await handler(_Request(request.scope, request.receive))

        return bounded
