"""The pipe: `connect` without a terminal, where lines in are messages and events are lines out."""
