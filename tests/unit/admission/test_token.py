"""Where a request carries its token."""

from __future__ import annotations

from base64 import urlsafe_b64encode

import pytest

from broadcast_server.admission.token import find_token


@pytest.mark.parametrize(
    ("headers", "subprotocols", "token"),
    [
        ({}, [], None),
        ({"authorization": "Bearer s3cret"}, [], "s3cret"),
        ({"authorization": "bearer  s3cret "}, [], "s3cret"),
        ({"authorization": "Basic s3cret"}, [], None),
        ({"authorization": "Bearer"}, [], ""),
        ({}, ["broadcast.v1.json"], None),
        ({}, ["broadcast.v1.json", "bearer.czNjcmV0"], "s3cret"),
        ({"authorization": "Bearer header"}, ["bearer.czNjcmV0"], "header"),
        ({}, ["bearer."], ""),
        ({}, ["bearer.x"], ""),
        ({}, ["bearer._w"], ""),
    ],
)
def test_a_token_is_in_the_authorization_header_or_in_a_subprotocol(
    headers: dict[str, str], subprotocols: list[str], token: str | None
) -> None:
    """The Authorization header takes precedence; what cannot be decoded is an empty token."""
    assert find_token(headers, subprotocols) == token


def test_a_token_of_any_length_fits_into_a_subprotocol() -> None:
    """Base64url without padding is decoded at every length."""
    for size in range(1, 40):
        token = "~!" * size
        encoded = urlsafe_b64encode(token.encode()).decode().rstrip("=")
        assert find_token({}, [f"bearer.{encoded}"]) == token
