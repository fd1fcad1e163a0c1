"""The saver: writes the transcript of a room to a file, while the chat goes on."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from broadcast_server.client.client import ReconnectingClient
from broadcast_server.client.opener import Opener
from broadcast_server.client.target import Target
from broadcast_server.client.transcript import (
    JSON_SUFFIXES,
    TranscriptError,
    read_transcript,
    transcript_lines,
)
from broadcast_server.console.os_error import describe_os_error
from broadcast_server.console.private_file import create_private
from broadcast_server.console.threads import run_abandonable
from broadcast_server.protocol.sanitize import strip_control


class Saver:
    """Saves transcripts, each in a thread. One that is not complete when the chat ends is lost."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()  # else they would be garbage

    def save(self, client: ReconnectingClient, name: str, show: Callable[[str], None]) -> None:
        """Save the room of *client* in the new file *name*, and *show* what became of it."""

        async def save() -> None:
            show(strip_control(await run_abandonable(lambda: save_transcript(opener, room, name))))

        opener, room = client.opener, client.session.room
        task = asyncio.ensure_future(save())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def save_transcript(opener: Opener, room: str, name: str) -> str:
    """Write all messages that the server still has of *room* to the new file *name*.

    They are lines of JSON if the name ends in one of `JSON_SUFFIXES`. The file appears when it is
    complete, and never replaces another one.

    Returns what to tell the user.
    """
    target = Target(
        opener.url, opener.query, opener.token, opener.unix, opener.authorities, opener.proxy
    )
    path = Path(name).expanduser()
    if os.path.lexists(path):
        return f"not saved: {name} exists already (choose another name)"
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    count = 0
    try:
        with os.fdopen(create_private(partial), "w", encoding="utf-8", newline="") as file:
            for message in read_transcript(target, room):
                lines = transcript_lines(message, json=path.suffix.lower() in JSON_SUFFIXES)
                file.write("".join(f"{line}\n" for line in lines))
                count += 1
        _publish(partial, path)
    except FileExistsError:
        return f"not saved: {name} exists already (choose another name)"
    except OSError as error:
        return f"not saved: {name}: {describe_os_error(error)}"
    except (TranscriptError, RuntimeError) as error:  # RuntimeError: no home folder for ~
        return f"not saved: {error}"
    finally:
        with suppress(OSError):
            partial.unlink()
    return f"saved {count} message{'' if count == 1 else 's'} to {path}"


def _publish(partial: Path, path: Path) -> None:
    """Give the complete file its name. Raises FileExistsError if there is a file by now."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError, AttributeError):  # a file system without hard links
        if os.path.lexists(path):
            raise FileExistsError from None
        partial.rename(path)
