"""The Django deployment: the same room on Django Channels."""
