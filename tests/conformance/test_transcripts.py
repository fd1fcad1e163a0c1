"""Plays each transcript against each deployment."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from conftest import DJANGO_KINDS, Player
from deployments import Deployment
from transcripts import FOLDER, Playback, Transcript


async def play(transcript: Transcript, deployment: Deployment) -> None:
    """Play a transcript against a deployment."""
    await Playback(deployment).play(transcript)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_transcript(path: Path, player: Player) -> None:
    """A deployment sends what the transcript says, and nothing more."""
    transcript = Transcript.read(path)
    if transcript.needs_socket and player.kind == "bare":
        pytest.skip("the bare room has no socket")
    if transcript.needs_key and player.kind in DJANGO_KINDS:
        pytest.skip("the Django deployment has no operator key")
    if transcript.needs_accounts and player.kind not in DJANGO_KINDS:
        pytest.skip("only the Django deployment has accounts")
    if path.stem == "not-utf-8" and player.kind in DJANGO_KINDS:
        pytest.skip("Daphne drops such a connection without a code, uvicorn logs a traceback")
    if "--log-messages" in transcript.options and player.kind in DJANGO_KINDS:
        pytest.skip("the database keeps all")
    hosts = ("alice", "carol", "dave") if transcript.needs_operators else ()
    player.play(partial(play, transcript), transcript.options, hosts=hosts)


def test_a_transcript_can_fail(player: Player, tmp_path: Path) -> None:
    """A transcript fails if a deployment sends anything else or anything more."""
    path = tmp_path / "wrong.txt"
    for steps in (
        "alice > hi\nalice < alice: ho",
        "alice > hi",
        "alice > hi\nalice closed 4500",
        "bob opens /?name=bob\nalice < carol joined the chat",
        'bob opens /?name=bob as JSON\nbob < {"type":"welcome"}\nalice < …',
    ):
        path.write_text(f"alice opens /?name=alice\n{steps}\n", encoding="utf-8")
        transcript = Transcript.read(path)
        with pytest.raises(AssertionError):
            player.play(partial(play, transcript))
