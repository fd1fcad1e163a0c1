// A broadcast on Socket.IO: what a client says is emitted to all.
const { Server } = require("socket.io");

const io = new Server({ transports: ["websocket"] });

io.on("connection", (socket) => {
  socket.on("message", (text) => io.emit("message", text));
});

io.listen(Number(process.argv[2]));
