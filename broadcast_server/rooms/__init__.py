"""Rooms: members, the message log, and the delivery of events to connections. Start at `room`."""
