// A bot in Node: answers "ping" with "pong", also what it missed while the server was away.
//
//   node examples/node_bot.mjs ws://127.0.0.1:8765/ bot ops
//
// It needs Node 22, which has a WebSocket; Node 20 has it with --experimental-websocket.
import { join } from "./room.mjs";

const [url = "ws://127.0.0.1:8765/", name = "bot", room = "lobby"] = process.argv.slice(2);

const bot = join(url, { name, room }, (event) => {
	console.log(JSON.stringify(event));
	if (event.type === "message" && event.text.startsWith("ping")) {
		bot.say(event.text.replace("ping", "pong"));
	}
	if (event.type === "closed") process.exitCode = 1;
});
