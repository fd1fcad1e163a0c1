// A client for browsers and Node: it reconnects, resumes and resends as docs/protocol.md says.
//
//   const room = join("ws://127.0.0.1:8765/", { name: "ann", room: "ops" }, (event) => ...);
//   room.say("hello");  // arrives once, also if the server is away at the moment
//   room.leave();

const MAX_DELAY_MS = 30_000;
const SILENCE_MS = 60_000; // the server sends something every 25 s

const random = () =>
	Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16)).join("-");
const isFinal = (code) =>
	(code >= 4500 && code < 5000) || [1002, 1003, 1007, 1008, 1009, 1010].includes(code);

export function join(url, { name = "anonymous", room = "lobby" }, onEvent) {
	const session = random(); // a secret: with it, a new connection takes the place of the old one
	const unconfirmed = new Map(); // the texts without an echo, by their ids
	let socket, silence, timer, epoch, seq;
	let welcomed = false, left = false;
	let failures = 0, strays = 0; // strays: attempts without a welcome, which may yet arrive

	const send = (id, text) => socket.send(JSON.stringify({ type: "say", text, id }));

	function connect() {
		const query = new URLSearchParams({ name, room });
		if (epoch) query.set("since", `${epoch}.${seq}`);
		welcomed = false;
		socket = new WebSocket(`${url}?${query}`, ["broadcast.v1.json", `session.${session}`]);
		socket.onmessage = ({ data }) => {
			listen();
			for (const line of data.split("\n")) receive(JSON.parse(line));
		};
		socket.onclose = ({ code }) => lost(code);
		socket.onerror = () => lost(1006); // in Node 20, no close follows
		listen();
	}

	function listen() {
		clearTimeout(silence);
		silence = setTimeout(() => lost(1006), SILENCE_MS);
	}

	function lost(code) {
		clearTimeout(silence);
		socket.onmessage = socket.onclose = socket.onerror = null;
		socket.close(); // which may take minutes if nobody answers
		if (left) return;
		if (!welcomed) strays++;
		if (isFinal(code) && !(code === 4504 && strays-- > 0)) {
			left = true;
			onEvent({ type: "closed", code }); // the reason is in the error before it
			return;
		}
		const bound = Math.min(MAX_DELAY_MS, 500 * 2 ** failures++);
		timer = setTimeout(connect, Math.random() * bound);
	}

	function receive(event) {
		const { type, id } = event;
		if (type === "welcome") {
			welcomed = true;
			failures = 0;
			name = event.name; // ask for the same one the next time
			// At first from now on. In a new log, everything that it has follows.
			if (event.epoch !== epoch) seq = epoch ? 0 : event.seq;
			epoch = event.epoch;
			for (const each of unconfirmed) send(...each);
		}
		if (type === "message" || type === "hidden") seq = Math.max(seq, event.seq);
		if (type === "message" || type === "hidden" || type === "error") unconfirmed.delete(id);
		if (type === "renamed" && event.name === name) name = event.to;
		onEvent(event); // a welcome with `recovered: false` means that messages are missing
	}

	connect();
	return {
		say(text) {
			const id = random();
			unconfirmed.set(id, text);
			if (welcomed && socket.readyState === WebSocket.OPEN) send(id, text);
		},
		leave() {
			left = true;
			clearTimeout(timer);
			socket.close();
		},
	};
}
