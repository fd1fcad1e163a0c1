// A broadcast on Socket.IO: a client's message is emitted to all clients.
const { Server } = require("socket.io");

const io = new Server({ transports: ["websocket"] });

io.on("connection", (socket) => {
  socket.on("message", (text) => io.emit("message", text));
});

io.listen(Number(process.argv[2]));
