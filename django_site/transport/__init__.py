"""ASGI connections: the WebSocket consumer, HTTP requests, and who the client is."""
