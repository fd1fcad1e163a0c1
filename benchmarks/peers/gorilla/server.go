// A broadcast on gorilla/websocket, modelled on its chat example: a hub owns the set of
// clients, and each client has one goroutine that reads and one that writes. A writer puts
// all waiting messages into one frame, one message a line.
package main

import (
	"log"
	"net/http"
	"os"
	"time"

	"github.com/gorilla/websocket"
)

const (
	writeWait  = 10 * time.Second
	pongWait   = 60 * time.Second
	pingPeriod = 54 * time.Second
	maxMessage = 4096
	queue      = 256 // messages that may wait for a client, which is dropped if there are more
)

type client struct {
	conn *websocket.Conn
	send chan []byte
}

type hub struct {
	clients   map[*client]bool
	broadcast chan []byte
	enter     chan *client
	leave     chan *client
}

func (h *hub) remove(c *client) {
	if h.clients[c] {
		delete(h.clients, c)
		close(c.send)
	}
}

func (h *hub) run() {
	for {
		select {
		case c := <-h.enter:
			h.clients[c] = true
		case c := <-h.leave:
			h.remove(c)
		case message := <-h.broadcast:
			for c := range h.clients {
				select {
				case c.send <- message:
				default:
					h.remove(c)
				}
			}
		}
	}
}

func (c *client) read(h *hub) {
	defer func() {
		h.leave <- c
		c.conn.Close()
	}()
	c.conn.SetReadLimit(maxMessage)
	c.conn.SetReadDeadline(time.Now().Add(pongWait))
	c.conn.SetPongHandler(func(string) error {
		return c.conn.SetReadDeadline(time.Now().Add(pongWait))
	})
	for {
		_, message, err := c.conn.ReadMessage()
		if err != nil {
			return
		}
		h.broadcast <- message
	}
}

func (c *client) write() {
	pings := time.NewTicker(pingPeriod)
	defer func() {
		pings.Stop()
		c.conn.Close()
	}()
	for {
		select {
		case message, open := <-c.send:
			c.conn.SetWriteDeadline(time.Now().Add(writeWait))
			if !open {
				c.conn.WriteMessage(websocket.CloseMessage, nil)
				return
			}
			frame, err := c.conn.NextWriter(websocket.TextMessage)
			if err != nil {
				return
			}
			frame.Write(message)
			for waiting := len(c.send); waiting > 0; waiting-- {
				frame.Write([]byte{'\n'})
				frame.Write(<-c.send)
			}
			if frame.Close() != nil {
				return
			}
		case <-pings.C:
			c.conn.SetWriteDeadline(time.Now().Add(writeWait))
			if c.conn.WriteMessage(websocket.PingMessage, nil) != nil {
				return
			}
		}
	}
}

func main() {
	h := &hub{
		clients:   make(map[*client]bool),
		broadcast: make(chan []byte),
		enter:     make(chan *client),
		leave:     make(chan *client),
	}
	go h.run()
	upgrader := websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		c := &client{conn: conn, send: make(chan []byte, queue)}
		h.enter <- c
		go c.write()
		go c.read(h)
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
