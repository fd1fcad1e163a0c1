"""Transcripts: what people in a room send and get, as text files.

    # A title
    alice opens /?name=alice             comes in; "as JSON" may follow
    alice > hi                           sends a frame;
          | and this                     of several lines
    alice < alice: hi                    gets this line next; … stands for anything
    alice < {"type":"pong", "id":"$x"}   JSON in any order of its keys; $x is remembered
    alice closes                         or vanishes, without saying so
    alice closed 4500                    finds itself closed with this code

``alice sends binary 00 ff`` and ``alice sends text c3 28`` send bytes. A first
line ``with --log-messages 3`` sets options of the server, ``needs a socket``
leaves out the bare room. At the end, nobody may have got anything more.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from houses import House, Visitor

FOLDER = Path(__file__).parent / "transcripts"
_STEP = re.compile(r"(\w+)\s+(opens|closes|vanishes|closed|sends binary|sends text|>|<)\s?(.*)")


@dataclass(frozen=True)
class Step:
    """One line of a transcript, or several that make one frame."""

    number: int
    who: str
    verb: str
    rest: str


@dataclass(frozen=True)
class Transcript:
    """One file."""

    title: str
    options: tuple[str, ...]
    needs_socket: bool
    steps: tuple[Step, ...]

    @classmethod
    def read(cls, path: Path) -> Transcript:
        """Read a file, and refuse what it cannot mean."""
        title, needs_socket = "", False
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
            elif line.lstrip().startswith("| "):
                last = steps.pop()
                more = line.lstrip()[2:]
                steps.append(Step(last.number, last.who, last.verb, f"{last.rest}\n{more}"))
            elif line.strip():
                raise ValueError(f"{path.name}:{number}: cannot be understood: {line}")
        return cls(title, options, needs_socket, tuple(steps))


class Stage:
    """Where a transcript is played: who is there, and what is remembered."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._visitors: dict[str, Visitor] = {}
        self._as_json: dict[str, bool] = {}
        self._rooms: dict[str, str] = {}
        self._known: dict[str, str] = {}
        # One server plays many transcripts, so each has rooms of its own.
        self._suffix = "-" + secrets.token_hex(4)

    async def play(self, transcript: Transcript) -> None:
        """Play it to the end."""
        for step in transcript.steps:
            try:
                await self._step(step)
            except (AssertionError, EOFError, TimeoutError) as error:
                raise AssertionError(
                    f"line {step.number}: {step.who} {step.verb} {step.rest}: {error!r}"
                ) from error
        for name in self._visitors:
            await self._hears_no_more(name)

    async def _step(self, step: Step) -> None:
        who = self._visitors.get(step.who)
        match step.verb:
            case "opens":
                await self._open(step.who, step.rest)
                return
            case _ if who is None:
                raise AssertionError("is not there")
            case ">":
                await who.send(self._filled(step.rest))
            case "sends binary":
                await who.send(bytes.fromhex(step.rest), text=False)
            case "sends text":
                await who.send(bytes.fromhex(step.rest), text=True)
            case "<":
                got = (await self._line(who)).replace(self._suffix, "")
                assert self._fits(step.rest.strip(), got), f"got {got}"
            case "closes":
                del self._visitors[step.who]
                await who.close()
                if not self._visitors:  # nobody hears that it left
                    await self._house.emptied(self._rooms[step.who])
            case "vanishes":
                del self._visitors[step.who]
                await who.vanish()
            case "closed":
                del self._visitors[step.who]
                await self._finds_itself_closed(who, int(step.rest))

    async def _line(self, who: Visitor) -> str:
        """Return the next line but for heads: they come by the clock, every 25 seconds."""
        while (line := await who.line()).startswith('{"type":"head",'):
            pass
        return line

    async def _finds_itself_closed(self, who: Visitor, code: int) -> None:
        try:
            line = await self._line(who)
        except EOFError as end:
            if end.args == (code,):
                return
            raise
        raise AssertionError(f"got {line}")

    async def _open(self, who: str, rest: str) -> None:
        target, _, as_json = rest.partition(" as ")
        assert as_json in ("", "JSON"), as_json
        target = self._filled(target.strip())
        if "room=" in target:
            target = re.sub(r"room=[a-z0-9.-]+(?=&|$)", rf"\g<0>{self._suffix}", target)
        else:
            target += f"{'&' if '?' in target else '?'}room=lobby{self._suffix}"
        self._rooms[who] = target.partition("room=")[2].partition("&")[0]
        self._as_json[who] = bool(as_json)
        self._visitors[who] = await self._house.open(target, as_json=bool(as_json))

    def _filled(self, text: str) -> str:
        return re.sub(r"\$(\w+)", lambda match: self._known.get(match[1], match[0]), text)

    def _fits(self, wanted: str, got: str) -> bool:
        if wanted.startswith("{"):
            return self._equal(json.loads(wanted), json.loads(got))
        pattern = ".*".join(map(re.escape, wanted.split("…")))
        return re.fullmatch(pattern, got.strip()) is not None

    def _equal(self, wanted: object, got: object) -> bool:
        if wanted == "…":
            return True
        if isinstance(wanted, str) and wanted.startswith("$") and isinstance(got, str):
            return self._known.setdefault(wanted[1:], got) == got
        if isinstance(wanted, dict) and isinstance(got, dict):
            return wanted.keys() == got.keys() and all(
                self._equal(value, got[key]) for key, value in wanted.items()
            )
        if isinstance(wanted, list) and isinstance(got, list):
            return len(wanted) == len(got) and all(map(self._equal, wanted, got))
        return type(wanted) is type(got) and wanted == got

    async def _hears_no_more(self, who: str) -> None:
        """Ask something, and find that the answer is the next line."""
        visitor = self._visitors[who]
        if self._as_json[who]:
            await visitor.send('{"type":"ping","id":"the end"}')
            assert json.loads(await self._line(visitor)) == {"type": "pong", "id": "the end"}
        else:
            await visitor.send("/who")
            line = await self._line(visitor)
            assert re.match(r"\* \d+ here: ", line), f"{who} got {line}"
