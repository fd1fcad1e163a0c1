"""The hosted deployment: the same room on Django Channels."""
