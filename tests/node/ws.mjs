// Prints each line that a WebSocket receives, and resumes after a break: node ws.mjs URL
import WebSocket from "ws";

let epoch, cursor;

function connect() {
	const since = cursor ? `&since=${cursor}` : "";
	const socket = new WebSocket(process.argv[2] + since, "broadcast.v1.json");
	socket.on("message", (frame) => {
		for (const line of String(frame).split("\n")) {
			const { type, seq, ...event } = JSON.parse(line);
			if (type === "welcome") epoch = event.epoch;
			if (type === "message" || (type === "welcome" && !cursor)) cursor = `${epoch}.${seq}`;
			console.log(line);
		}
	});
	socket.on("error", () => {});
	socket.on("close", () => setTimeout(connect, 200));
}

connect();
