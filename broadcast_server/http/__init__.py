"""The HTTP port's responses, pure: the page, the program, metrics, publishing and event streams."""
