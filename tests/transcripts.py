"""Transcripts: text files that say what the clients of a room send and receive.

    # A title
    alice opens /?name=alice             joins; "as JSON" may follow, and after that
                                         "offering session.x" or "with Some-Header: x"
    alice > hi                           sends a frame
          | and this                     of two lines
    alice < alice: hi                    receives this line next; … matches any text
    alice < {"type":"pong", "id":"$x"}   receives JSON, keys in any order; $x is a variable
    alice closes                         closes the connection; "vanishes" aborts it
    alice closed 4500                    was closed by the server with this code

``alice sends binary 00 ff`` and ``alice sends text c3 28`` send the bytes as a binary
or a text frame. The line ``with --log-messages 3`` sets options of the server. The
line ``needs a socket`` skips the deployment `bare`, which has none, and ``needs an operator
key`` those that have none, and ``needs accounts`` all others. There, ``needs operators`` has
whoever would show the key sign in with a moderator's account, whose name is the client's and
`HOST_SUFFIX`. With the line
``in one process``, no client connects to another process of the deployment. The first comment is
the title. At the end, no client may have received anything that is not listed.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from deployments import Deployment, DeploymentClient

from broadcast_server.protocol.operators import OPERATOR_HEADER

HOST_SUFFIX = "-host"
"""What follows in the name of an account, so that no other transcript has the name of one."""

VERIFIED = re.compile(r" \(verified: [^:]*\)$")
"""What a text client is told of accounts."""

FOLDER = Path(__file__).parent / "transcripts"
_STEP = re.compile(r"(\w+)\s+(opens|closes|vanishes|closed|sends binary|sends text|>|<)\s?(.*)")


@dataclass(frozen=True)
class Step:
    """One line of a transcript, with the continuation lines of its frame."""

    number: int
    who: str
    verb: str
    rest: str


@dataclass(frozen=True)
class Transcript:
    """A transcript that has been read from its file."""

    title: str
    options: tuple[str, ...]
    needs_socket: bool
    needs_operators: bool
    needs_key: bool
    needs_accounts: bool
    in_one_process: bool
    steps: tuple[Step, ...]

    @classmethod
    def read(cls, path: Path) -> Transcript:
        """Read a file. Raises ValueError for a line that is no step, comment or option."""
        title, needs_socket, needs_operators, in_one_process = "", False, False, False
        needs_key = needs_accounts = False
        options: tuple[str, ...] = ()
        steps: list[Step] = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            match = _STEP.fullmatch(line)
            if match:
                steps.append(Step(number, match[1], match[2], match[3]))
            elif line.startswith("#"):
                title = title or line.lstrip("# ")
            elif line.startswith("with "):
                options = tuple(line.split()[1:])
            elif line == "needs a socket":
                needs_socket = True
            elif line == "needs operators":
                needs_operators = True
            elif line == "needs an operator key":
                needs_key = True
            elif line == "needs accounts":
                needs_accounts = True
            elif line == "in one process":
                in_one_process = True
            elif line.lstrip().startswith("| "):
                last = steps.pop()
                continuation = line.lstrip()[2:]
                steps.append(Step(last.number, last.who, last.verb, f"{last.rest}\n{continuation}"))
            elif line.strip():
                raise ValueError(f"{path.name}:{number}: not a transcript line: {line}")
        needs = needs_socket, needs_operators, needs_key, needs_accounts
        return cls(title, options, *needs, in_one_process, tuple(steps))


class Playback:
    """Plays one transcript against a deployment: its clients and variables."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._clients: dict[str, DeploymentClient] = {}
        self._as_json: dict[str, bool] = {}
        self._rooms: dict[str, str] = {}
        self._variables: dict[str, str] = {}
        # One server plays many transcripts, so each gets its own rooms by a suffix.
        self._suffix = "-" + secrets.token_hex(4)
        self._hosts: set[str] = set()  # who is signed in with a moderator's account

    async def play(self, transcript: Transcript) -> None:
        """Play *transcript*. Raises AssertionError at the first step that fails."""
        if transcript.in_one_process:
            self._deployment.stay_in_one_process()
        for step in transcript.steps:
            try:
                await self._step(step)
            except (AssertionError, EOFError, TimeoutError) as error:
                raise AssertionError(
                    f"line {step.number}: {step.who} {step.verb} {step.rest}: {error!r}"
                ) from error
        for name in self._clients:
            await self._assert_nothing_more(name)

    async def _step(self, step: Step) -> None:
        client = self._clients.get(step.who)
        match step.verb:
            case "opens":
                await self._open(step.who, step.rest)
                return
            case _ if client is None:
                raise AssertionError("is not connected")
            case ">":
                await client.send(self._with_accounts(self._substitute(step.rest)))
            case "sends binary":
                await client.send(bytes.fromhex(step.rest), text=False)
            case "sends text":
                await client.send(bytes.fromhex(step.rest), text=True)
            case "<":
                got = self._without_accounts((await self._line(client)).replace(self._suffix, ""))
                assert self._matches(step.rest.strip(), got), f"got {got}"
            case "closes":
                del self._clients[step.who]
                await client.close()
                if not self._clients:  # no client is left that would see it leave
                    await self._deployment.emptied(self._rooms[step.who])
            case "vanishes":
                del self._clients[step.who]
                await client.vanish()
            case "closed":
                del self._clients[step.who]
                await self._assert_closed(client, int(step.rest))

    async def _line(self, client: DeploymentClient) -> str:
        """Return the next line, without heartbeats: those come by the clock, every 25 seconds."""
        while (line := await client.line()).startswith('{"type":"head",'):
            pass
        return line

    async def _assert_closed(self, client: DeploymentClient, code: int) -> None:
        try:
            line = await self._line(client)
        except EOFError as end:
            if end.args == (code,):
                return
            raise
        raise AssertionError(f"got {line}")

    async def _open(self, who: str, rest: str) -> None:
        rest, _, header = rest.partition(" with ")
        rest, _, subprotocol = rest.partition(" offering ")
        target, _, as_json = rest.partition(" as ")
        assert as_json in ("", "JSON"), as_json
        name, _, value = header.partition(": ")
        if name == OPERATOR_HEADER and self._deployment.operator_tokens:
            self._hosts.add(who)
            name, value = "Authorization", f"Bearer {self._deployment.operator_tokens[who]}"
        target = self._substitute(target.strip())
        if "room=" in target:
            target = re.sub(r"room=[a-z0-9.-]+(?=&|$)", rf"\g<0>{self._suffix}", target)
        else:
            target += f"{'&' if '?' in target else '?'}room=lobby{self._suffix}"
        self._rooms[who] = target.partition("room=")[2].partition("&")[0]
        self._as_json[who] = bool(as_json)
        self._clients[who] = await self._deployment.open(
            target,
            as_json=bool(as_json),
            headers={name: value} if header else {},
            offered=[subprotocol] if subprotocol else [],
        )

    def _with_accounts(self, frame: str) -> str:
        """Return a frame of a client, with the names of accounts for those who are signed in."""
        if not self._hosts or not frame.startswith("{"):
            return frame
        requests = [json.loads(line) for line in frame.split("\n")]
        for request in requests:
            for key in ("name", "to"):
                if request.get(key) in self._hosts:
                    request[key] += HOST_SUFFIX
        return "\n".join(map(json.dumps, requests))

    def _without_accounts(self, line: str) -> str:
        """Return a received line as it is where operators show a key."""
        if not self._hosts:
            return line
        line = VERIFIED.sub("", line.replace(HOST_SUFFIX, ""))
        if not line.startswith("{"):
            return line
        event = json.loads(line)
        event.pop("verified", None)
        return json.dumps(event)

    def _substitute(self, text: str) -> str:
        return re.sub(r"\$(\w+)", lambda match: self._variables.get(match[1], match[0]), text)

    def _matches(self, expected: str, got: str) -> bool:
        if expected.startswith("{"):
            return self._equal(json.loads(expected), json.loads(got))
        pattern = ".*".join(map(re.escape, expected.split("…")))
        return re.fullmatch(pattern, got.strip()) is not None

    def _equal(self, expected: object, got: object) -> bool:
        if expected == "…":
            return True
        if isinstance(expected, str) and expected.startswith("$") and isinstance(got, str):
            return self._variables.setdefault(expected[1:], got) == got
        if isinstance(expected, dict) and isinstance(got, dict):
            return expected.keys() == got.keys() and all(
                self._equal(value, got[key]) for key, value in expected.items()
            )
        if isinstance(expected, list) and isinstance(got, list):
            return len(expected) == len(got) and all(map(self._equal, expected, got))
        return type(expected) is type(got) and expected == got

    async def _assert_nothing_more(self, who: str) -> None:
        """Send a request, and assert that its answer is the next line that *who* receives."""
        client = self._clients[who]
        if self._as_json[who]:
            await client.send('{"type":"ping","id":"the end"}')
            assert json.loads(await self._line(client)) == {"type": "pong", "id": "the end"}
        else:
            await client.send("/who")
            line = await self._line(client)
            assert re.match(r"\* \d+ here: ", line), f"{who} got {line}"
