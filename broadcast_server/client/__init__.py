"""The client: a session that survives reconnects, and publishing one message over HTTP."""
