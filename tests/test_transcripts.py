"""Plays every transcript against every house."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from conftest import HOSTED, Player
from houses import House
from transcripts import FOLDER, Stage, Transcript


async def play(transcript: Transcript, house: House) -> None:
    """Play it in a house."""
    await Stage(house).play(transcript)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_transcript(path: Path, player: Player) -> None:
    """A house does what the transcript says, and nothing more."""
    transcript = Transcript.read(path)
    if transcript.needs_socket and player.kind == "bare":
        pytest.skip("the bare room has no socket")
    if path.stem == "not-utf-8" and player.kind in HOSTED:
        pytest.skip("Daphne drops such a connection without a code, uvicorn logs a traceback")
    if "--log-messages" in transcript.options and player.kind in HOSTED:
        pytest.skip("the database keeps all")
    player.play(partial(play, transcript), transcript.options)


def test_a_transcript_can_fail(player: Player, tmp_path: Path) -> None:
    """What a house does otherwise, or besides, makes a transcript fail."""
    path = tmp_path / "wrong.txt"
    for wrong in (
        "alice > hi\nalice < alice: ho",
        "alice > hi",
        "alice > hi\nalice closed 4500",
        "bob opens /?name=bob\nalice < carol joined the chat",
        'bob opens /?name=bob as JSON\nbob < {"type":"welcome"}\nalice < …',
    ):
        path.write_text(f"alice opens /?name=alice\n{wrong}\n", encoding="utf-8")
        transcript = Transcript.read(path)
        with pytest.raises(AssertionError):
            player.play(partial(play, transcript))
