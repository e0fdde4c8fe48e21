"""The optional HTTP edge: OpenAI-compatible REST, a WebSocket stream, health, metrics and the page."""
