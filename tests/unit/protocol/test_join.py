"""Join requests: the parameters of a query, and the error for each invalid one."""

from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broadcast_server.protocol.join import MAX_PARAMETERS, JoinRequest, parse_join, parse_query
from broadcast_server.protocol.messages import Cursor, Error, Format
from broadcast_server.protocol.session_key import SessionKey

KEY = SessionKey(b"key")
SESSION = "0123456789abcdef"


def test_an_empty_query_asks_for_the_lobby() -> None:
    """Without parameters a client is anonymous, in the lobby, and gets no history."""
    assert parse_join("", Format.TEXT, KEY) == JoinRequest(
        "anonymous", "lobby", 0, None, None, Format.TEXT
    )


def test_every_parameter_is_read() -> None:
    """Each parameter is a field of the join request, in the type of that field."""
    query = "name=Zo%C3%AB&room=a.b-c_1&history=20&since=aZ-_0.42&session=0123456789abcdef&quiet=1"
    since, session = Cursor("aZ-_0", 42), KEY.digest(SESSION)
    assert parse_join(query, Format.JSON, KEY) == JoinRequest(
        "Zoë", "a.b-c_1", 20, since, session, Format.JSON, quiet=True
    )


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("name=two+words", "two words"),
        ("name=two%20words", "two words"),
        ("name=a%2Bb", "a+b"),
        ("name=a;room=b", "a;room=b"),
        ("name=100%", "100%"),
        ("name=a&name=b", "a"),
        ("Name=a&nom=b&&=&x", "anonymous"),
        ("name=e%CC%81", "é"),
    ],
)
def test_a_query_is_read_like_a_form(query: str, name: str) -> None:
    """Plus is a space, only & separates, the first of two counts, unknown names are ignored."""
    join = parse_join(query, Format.TEXT, KEY)
    assert isinstance(join, JoinRequest)
    assert (join.name, join.room) == (name, "lobby")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("name=%ff", "bad_query"),
        ("%ff", "bad_query"),
        ("name=%ed%a0%80", "bad_query"),  # a surrogate in UTF-8
        ("&".join(["x=1"] * 100), "bad_query"),
        ("name=", "bad_name"),
        ("name", "bad_name"),
        ("name=%00", "bad_name"),
        ("name=a%0Aroot:%20hi", "bad_name"),
        ("room=", "bad_room"),
        ("room=Lobby", "bad_room"),
        ("room=-a", "bad_room"),
        ("room=a%0A", "bad_room"),
        ("room=" + "a" * 65, "bad_room"),
        ("room=%D0%B0", "bad_room"),
        ("history=", "bad_history"),
        ("history=-1", "bad_history"),
        ("history=1.5", "bad_history"),
        ("history=%D9%A3", "bad_history"),  # a digit, but not an ASCII one
        ("history=" + "9" * 5000, "bad_history"),
        ("since=", "bad_cursor"),
        ("since=5", "bad_cursor"),
        ("since=.5", "bad_cursor"),
        ("since=a.", "bad_cursor"),
        ("since=a.-1", "bad_cursor"),
        ("since=a.b.5", "bad_cursor"),
        ("since=a.5%0A", "bad_cursor"),
        ("since=a." + "9" * 19, "bad_cursor"),
        ("since=" + "a" * 65 + ".1", "bad_cursor"),
        ("quiet=", "bad_quiet"),
        ("quiet=yes", "bad_quiet"),
        ("session=", "bad_session"),
        ("session=" + "a" * 15, "bad_session"),
        ("session=" + "a" * 65, "bad_session"),
        ("session=0123456789abcde%21", "bad_session"),
    ],
)
def test_each_invalid_parameter_has_its_error_code(query: str, code: str) -> None:
    """An invalid parameter is an error with its own code, on one line, and never a default."""
    error = parse_join(query, Format.TEXT, KEY)
    assert isinstance(error, Error)
    assert error.code == code
    assert error.text.isprintable()


def test_the_longest_parameters_are_accepted() -> None:
    """The longest room, session, cursor and count, and the most parameters, are accepted."""
    parameters = {"room": "a" * 64, "session": "-" * 64, "since": f"{'e' * 64}.{10**18 - 1}"}
    parameters |= {"history": "0" * 17 + "7"} | {f"x{number}": "" for number in range(60)}
    join = parse_join(urlencode(parameters), Format.TEXT, KEY)
    assert isinstance(join, JoinRequest)
    assert join.since == Cursor("e" * 64, 10**18 - 1)
    assert (join.room, join.session, join.history) == ("a" * 64, KEY.digest("-" * 64), 7)


def test_a_cursor_is_read_back_unchanged() -> None:
    """A cursor that is written as text is read as the same cursor."""
    join = parse_join(urlencode({"since": Cursor("aB-_9", 0)}), Format.JSON, KEY)
    assert isinstance(join, JoinRequest)
    assert join.since == Cursor("aB-_9", 0)


@pytest.mark.parametrize(
    ("headers", "subprotocols", "query", "counts"),
    [
        ([SESSION], [], "", SESSION),
        ([], ["broadcast.v1.json", f"session.{SESSION}", "bearer.x"], "", SESSION),
        ([SESSION], [f"session.{'b' * 16}"], f"session={'c' * 16}", SESSION),
        ([], [f"session.{SESSION}"], f"session={'c' * 16}", SESSION),
        ([SESSION], ["session."], "session=!", SESSION),
        ([], ["sessions.", "session"], "", None),
    ],
)
def test_a_session_is_read_from_where_it_was_sent(
    headers: list[str], subprotocols: list[str], query: str, counts: str | None
) -> None:
    """The header takes precedence over the subprotocol, and that over the query."""
    join = parse_join(query, Format.JSON, KEY, headers=headers, subprotocols=subprotocols)
    assert isinstance(join, JoinRequest)
    assert join.session == (None if counts is None else KEY.digest(counts))


NO_SESSIONS = [
    [""],
    ["a" * 15],
    ["a" * 65],
    [f"{SESSION},{SESSION}"],
    [f"{SESSION}, {SESSION}"],
    [f'"{SESSION}"'],
    [f"{SESSION} "],
    [f"{SESSION};a=b"],
    ["0123456789abcde\xe9"],
    ["0123456789abcde\udce9"],
    [SESSION, SESSION],
    [SESSION, ""],
    [f"{SESSION}\n"],
]


@pytest.mark.parametrize("values", NO_SESSIONS)
def test_an_invalid_session_is_the_same_error_wherever_it_is(values: list[str]) -> None:
    """An invalid or repeated session is an error that does not contain it, also beside others."""
    good = f"session={SESSION}"
    offered = [f"session.{value}" for value in values]
    for join in (
        parse_join(good, Format.JSON, KEY, headers=values),
        parse_join(good, Format.JSON, KEY, subprotocols=offered),
    ):
        text = "session is not 16 to 64 of A-Z a-z 0-9 _ -"
        assert join == Error("bad_session", text)


def test_the_digest_needs_the_key() -> None:
    """A digest depends on the session and the key, and shows neither of them."""
    digest = KEY.digest(SESSION)
    assert digest == SessionKey(b"key").digest(SESSION)
    others = SessionKey(b"another").digest(SESSION), KEY.digest(SESSION + "x")
    assert len({digest, *others, SessionKey().digest(SESSION), SessionKey().digest(SESSION)}) == 5
    join = parse_join(f"session={SESSION}", Format.JSON, KEY)
    assert SESSION not in repr(join) and "key'" not in repr(KEY)
    assert digest.startswith("=") and len(digest) == 25


@given(st.text(st.sampled_from("ab=&%+;2# é\udcff"), max_size=20))
@example("&" * (MAX_PARAMETERS - 1) + "a=b")
@example("&" * MAX_PARAMETERS)
def test_a_query_is_read_as_python_reads_it(query: str) -> None:
    """The short way for a query without escapes gives what `parse_qsl` does."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=64)
    except ValueError:
        assert isinstance(parse_query(query), Error)
    else:
        assert parse_query(query) == dict(reversed(pairs))
