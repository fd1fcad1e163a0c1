"""The history command: prints the messages that a server still has of a room."""

from __future__ import annotations

import argparse
from itertools import islice

from broadcast_server.client.target import Target
from broadcast_server.client.transcript import (
    ALL,
    TranscriptError,
    read_transcript,
    transcript_lines,
)
from broadcast_server.console.streams import note, print_text
from broadcast_server.protocol.sanitize import strip_control

BATCH_MESSAGES = 500
"""How many messages are written at once."""


def history(options: argparse.Namespace, target: Target) -> int:
    """Run `history` with its *options*, and return the exit code."""
    count = ALL if options.last is None else options.last
    messages = read_transcript(target, options.room, count)
    failure = ""
    while True:
        batch: list[str] = []
        try:
            for message in islice(messages, BATCH_MESSAGES):
                batch += transcript_lines(message, json=options.json)
        except TranscriptError as error:
            failure = strip_control(str(error))
        # RFC 8259, section 8.1: JSON is in UTF-8.
        text = "".join(f"{line}\n" for line in batch)
        if batch and print_text(text, "utf-8" if options.json else None):
            return 1
        if failure or not batch:
            break
    if failure:
        note(failure)
    return 1 if failure else 0
