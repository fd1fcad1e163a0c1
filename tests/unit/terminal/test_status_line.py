"""The status line: what it shows in which width."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broadcast_server.terminal.status_line import Status, fit_status

HERE = Status("lobby", "alice", 3, True, 0)
TOPIC = replace(HERE, topic="release at five")
AWAY = Status("lobby", "alice", 3, False, 2)


@pytest.mark.parametrize(
    ("status", "width", "line"),
    [
        (HERE, 80, "lobby · 3 here · alice · connected"),
        (HERE, 33, "lobby · 3 here · alice"),
        (HERE, 21, "lobby · 3 here"),
        (HERE, 13, "lobby"),
        (HERE, 4, ""),
        (AWAY, 80, "lobby · alice · not connected · 2 not sent"),
        (AWAY, 40, "lobby · not connected · 2 not sent"),
        (AWAY, 30, "not connected · 2 not sent"),
        (AWAY, 20, "not connected"),
        (AWAY, 12, "offline"),
        (AWAY, 6, ""),
        (replace(AWAY, unsent=0), 80, "lobby · alice · not connected"),
        (replace(HERE, unsent=2), 80, "lobby · 3 here · alice · connected"),
        (TOPIC, 80, "lobby · 3 here · alice · connected · release at five"),
        (TOPIC, 52, "lobby · 3 here · alice · connected · release at five"),
        (TOPIC, 51, "lobby · 3 here · alice · connected · release at fi…"),
        (TOPIC, 45, "lobby · 3 here · alice · connected · release…"),
        (TOPIC, 44, "lobby · 3 here · alice · connected"),
        (
            replace(TOPIC, mode="locked"),
            60,
            "lobby · 3 here · alice · connected · locked · release at fi…",
        ),
        (replace(HERE, mode="locked"), 42, "lobby · 3 here · alice · locked"),
        (replace(HERE, mode="locked"), 24, "lobby · 3 here · alice"),
        (replace(TOPIC, connected=False), 80, "lobby · alice · not connected"),
    ],
)
def test_the_status_fits_the_width(status: Status, width: int, line: str) -> None:
    """A narrower line shows less, and a lost connection is the last thing left out."""
    assert fit_status(status, width) == line


def test_cells_are_measured_not_characters() -> None:
    """A character that is two cells wide counts twice."""
    assert fit_status(HERE, 20, lambda text: 2 * len(text)) == "lobby"
