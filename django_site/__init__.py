"""The hosted house: the same room on Django Channels."""
