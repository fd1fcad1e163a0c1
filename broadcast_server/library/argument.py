"""Arguments: checks what a program passes to the library before anything depends on it. Pure.

What is of another type would be rejected at the next moment at best. At worst it would be kept and
fail again and again where nobody waits for it: bytes as a text, for example, cannot be JSON.
"""

from __future__ import annotations

import math

from broadcast_server.protocol.operators import HIDE, MAX_SLOW_S, OperatorRequest


def check_text(name: str, value: object) -> None:
    """Raise TypeError if *value*, passed as *name*, is not a string."""
    if not isinstance(value, str):
        remedy = " (decode it)" if isinstance(value, bytes | bytearray | memoryview) else ""
        raise TypeError(f"{name} is of type {type(value).__name__}, not a string{remedy}")


def check_switch(name: str, value: object) -> None:
    """Raise TypeError if *value*, passed as *name*, is neither true nor false."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} is of type {type(value).__name__}, not True or False")


def check_seconds(name: str, value: object) -> None:
    """Raise TypeError if *value*, passed as *name*, is no number of seconds.

    Raises ValueError if it is negative or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is of type {type(value).__name__}, not a number of seconds")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} is {value:g}, must be 0 or more seconds")


def check_request(request: OperatorRequest) -> None:
    """Raise TypeError if what a program has passed for *request* is of another type."""
    check_text("name", request.name)
    check_text("text", request.text)
    check_switch("on", request.on)
    check_seconds("seconds", request.seconds)
    if type(request.seconds) is not int or request.seconds > MAX_SLOW_S:
        text = f"seconds is {request.seconds}, must be a whole number up to {MAX_SLOW_S}"
        raise ValueError(text)


def hide_request(what: object) -> OperatorRequest:
    """Return the request to hide *what*: the number of a message, or the name of an author.

    Raises TypeError if it is neither, ValueError for a number that no message has.
    """
    if isinstance(what, int) and not isinstance(what, bool):
        if what < 1:
            raise ValueError(f"message {what} cannot be: the first has number 1")
        return OperatorRequest(HIDE, seq=what)
    check_text("what", what)
    return OperatorRequest(HIDE, str(what))
