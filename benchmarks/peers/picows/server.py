"""A broadcast on picows: a listener for each connection, a frame sent to each transport."""

import asyncio
import sys

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

here: set[WSTransport] = set()


class Chat(WSListener):
    """One connection."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Add the connection."""
        here.add(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Send a message to all connections."""
        if frame.msg_type == WSMsgType.TEXT:
            message = frame.get_payload_as_bytes()
            for each in here:
                each.send(WSMsgType.TEXT, message)
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Remove the connection."""
        here.discard(transport)


async def main(port: int) -> None:
    """Serve for ever."""
    server = await ws_create_server(lambda request: Chat(), "127.0.0.1", port)
    await server.serve_forever()


if sys.argv[2:] == ["uvloop"]:
    import uvloop

    uvloop.run(main(int(sys.argv[1])))
else:
    asyncio.run(main(int(sys.argv[1])))
