"""A WebSocket broadcast server and its client in one command line."""

__version__ = "0.1.0"
