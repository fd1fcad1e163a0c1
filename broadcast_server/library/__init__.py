"""The library: what other programs import, documented in docs/api.md. The package exports it."""
