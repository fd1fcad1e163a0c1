"""What programs do wrong: other loops, other processes, and rooms that nobody closes."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import warnings
from collections.abc import Awaitable, Callable

import pytest
from client_harness import play
from programs import until

from broadcast_server import (
    ConnectError,
    Left,
    RoomClosedError,
    ServerRoom,
    connect,
    connect_sync,
    serve,
    serve_sync,
)


def error_elsewhere(call: Callable[[], Awaitable[object]]) -> str:
    """Run *call* in another event loop, where it has to fail at once. Return the error."""

    async def run() -> None:
        await call()

    with pytest.raises(RuntimeError) as raised:
        asyncio.run(run())
    return str(raised.value)


def test_another_event_loop() -> None:
    """A call from another thread's loop is an error at once, and breaks nothing."""

    async def scenario() -> None:
        async with serve(port=0) as server, connect(server.url) as room:
            for owner, call in (
                ("room", lambda: room.send("x")),
                ("room", room.receive),
                ("room", lambda: room.rename("x")),
                ("room", room.close),
                ("server", lambda: server.broadcast("lobby", "x")),
                ("server", server.stop),
            ):
                text = await asyncio.to_thread(error_elsewhere, call)
                remedy = "(call it there with asyncio.run_coroutine_threadsafe)"
                assert text == f"this {owner} belongs to another event loop {remedy}"
            events = server.events()
            await asyncio.to_thread(error_elsewhere, lambda: anext(events))
            loop = asyncio.get_running_loop()
            sending = await asyncio.to_thread(
                lambda: asyncio.run_coroutine_threadsafe(room.send("from a thread"), loop)
            )
            assert (await asyncio.wrap_future(sending)).seq == 1
            assert (await room.receive()).text == "from a thread"

    play(scenario)


def test_blocking_the_loop_of_ones_own_server() -> None:
    """A call without asyncio in a coroutine can wait for itself: the error says so."""

    async def scenario() -> None:
        async with serve(port=0, grace=0) as server:
            with pytest.raises(ConnectError, match=r"within 0\.1 s.* blocked meanwhile"):
                connect_sync(server.url, open_timeout=0.1)
            async with connect(server.url) as room:
                assert room.connected

    play(scenario)
    with pytest.raises(ConnectError, match=r"is it running\?\)$"):
        connect_sync("ws://127.0.0.1:9/")


def test_a_room_that_nobody_has_any_more() -> None:
    """It is left, and its program is warned."""

    async def scenario() -> None:
        async with serve(port=0) as server:
            tasks = asyncio.all_tasks()
            rooms = [await connect(server.url, name="ann")]
            assert server.rooms["lobby"].members == ("ann",)
            events = server.events()
            with pytest.warns(ResourceWarning, match="the room lobby was not closed") as warned:
                rooms.clear()
            assert len(warned) == 1
            assert await anext(events) == Left("lobby", "ann", 0)
            await asyncio.wait(asyncio.all_tasks() - tasks)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                room = await connect(server.url)
                await room.close()
                del room

    play(scenario)


def test_a_server_that_nobody_has_any_more() -> None:
    """It goes on, as its clients want it to, and the program is warned."""

    async def scenario() -> None:
        servers = [await serve(port=0)]
        async with connect(servers[0].url) as room:
            stopping = servers[0]._server  # as in the frame of a coroutine that is still there
            with pytest.warns(ResourceWarning, match=r"the server at .* was not stopped \(use a"):
                servers.clear()
            await room.send("on")
            await stopping.stop()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            server = await serve(port=0)
            await server.stop()
            del server

    play(scenario)


def test_a_client_that_was_ended_while_its_program_waits() -> None:
    """It is no error to leave its block then, and nothing is logged: the client is not to blame."""

    async def scenario() -> None:
        logged: list[dict[str, object]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: logged.append(context))
        async with serve(port=0) as server:
            async with connect(server.url, name="bot") as room:
                await server.kick("lobby", "bot")
                await asyncio.wait({room._core._running})
                assert not room.connected
            with pytest.raises(RoomClosedError):
                await room.receive()
        with pytest.raises(ConnectError):
            await connect(server.url, open_timeout=0)
        del room
        gc.collect()
        await asyncio.sleep(0)
        assert not logged

    play(scenario)


def test_a_room_that_nobody_has_any_more_without_asyncio() -> None:
    """It is left, its thread ends, and the program is warned."""
    with serve_sync(port=0) as server:
        before = threading.active_count()
        rooms = [connect_sync(server.url)]
        with pytest.warns(ResourceWarning, match="the room lobby was not closed"):
            rooms.clear()
        until(lambda: not server.rooms and threading.active_count() == before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_fork() -> None:
    """A child process gets an error instead of waiting for a thread that it does not have.

    Closing in the child leaves the connection of the parent alone.
    """
    with serve_sync(port=0) as server, connect_sync(server.url, name="ann") as room:
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            try:
                for call in (lambda: room.send("x"), room.receive, lambda: server.rooms):
                    with pytest.raises(RuntimeError, match="this process was forked"):
                        call()
                room.close()
                server.stop()
            except BaseException:  # pytest of the parent must not see it
                os._exit(1)
            os._exit(0)
        ended: list[int] = []

        def has_ended() -> bool:
            pid, status = os.waitpid(child, os.WNOHANG)
            ended.extend([status] if pid else [])
            return bool(pid)

        until(has_ended)
        assert ended == [0]
        assert room.send("of the parent").seq == 1
        assert server.rooms["lobby"] == ServerRoom("lobby", ("ann",), 0, 1)
