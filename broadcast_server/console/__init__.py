"""The console: standard streams, signals, and blocking calls that Ctrl+C may abandon."""
