"""The terminal: `connect` for a person, with a prompt or as plain lines for screen readers."""
