"""A WebSocket broadcast server and its clients, in one command-line program."""

__version__ = "0.1.0"
