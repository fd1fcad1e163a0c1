// A bot in Go: answers "ping" with "pong", also what it missed while the server was away. It
// reconnects, resumes and resends as docs/protocol.md says.
//
//	go mod init bot && go get github.com/gorilla/websocket
//	go run go_bot.go ws://127.0.0.1:8765/ gopher ops
package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	mathrand "math/rand"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

const (
	maxDelay = 30 * time.Second
	silence  = 60 * time.Second // the server sends something every 25 s
)

type event struct {
	Type, Epoch, Name, To, Text, ID string
	Seq                             int64
}

type say struct {
	Type string `json:"type"`
	Text string `json:"text"`
	ID   string `json:"id"`
}

type client struct {
	url, name, room string
	session         string // a secret: with it, a new connection takes the place of the old one
	epoch           string
	seq             int64 // the last number that was received
	unconfirmed     []say // the messages without an echo
	welcomed        bool
	socket          *websocket.Conn
}

func random() string {
	bytes := make([]byte, 16)
	if _, err := rand.Read(bytes); err != nil {
		log.Fatal(err)
	}
	return hex.EncodeToString(bytes)
}

// say publishes a message: now, or when the client is in the room again.
func (c *client) say(text string) {
	message := say{"say", text, random()}
	c.unconfirmed = append(c.unconfirmed, message)
	c.write(message)
}

func (c *client) write(message say) {
	c.socket.SetWriteDeadline(time.Now().Add(silence))
	c.socket.WriteJSON(message) // if that fails, so does the next read
}

func (c *client) confirm(id string) {
	for place, each := range c.unconfirmed {
		if id != "" && each.ID == id {
			c.unconfirmed = append(c.unconfirmed[:place], c.unconfirmed[place+1:]...)
			return
		}
	}
}

// receive takes one line from the server.
func (c *client) receive(e event) {
	switch e.Type {
	case "welcome":
		c.welcomed = true
		c.name = e.Name // ask for the same one the next time
		if c.epoch == "" {
			c.seq = e.Seq // from now on
		} else if c.epoch != e.Epoch {
			c.seq = 0 // a new log: everything that it has follows
		}
		c.epoch = e.Epoch
		for _, each := range c.unconfirmed {
			c.write(each)
		}
	case "message", "hidden":
		if e.Seq > c.seq {
			c.seq = e.Seq
		}
		c.confirm(e.ID)
		if e.Type == "message" && strings.HasPrefix(e.Text, "ping") {
			c.say(strings.Replace(e.Text, "ping", "pong", 1))
		}
	case "error":
		c.confirm(e.ID)
	case "renamed":
		if e.Name == c.name {
			c.name = e.To
		}
	}
}

// connect stays in the room as long as the connection lasts, and returns why it ended.
func (c *client) connect() error {
	query := url.Values{"name": {c.name}, "room": {c.room}}
	if c.epoch != "" {
		query.Set("since", fmt.Sprintf("%s.%d", c.epoch, c.seq))
	}
	dialer := websocket.Dialer{
		Subprotocols: []string{"broadcast.v1.json"}, HandshakeTimeout: 20 * time.Second,
	}
	header := http.Header{"Broadcast-Session": {c.session}}
	socket, _, err := dialer.Dial(c.url+"?"+query.Encode(), header)
	if err != nil {
		return err
	}
	defer socket.Close()
	c.socket = socket
	for {
		socket.SetReadDeadline(time.Now().Add(silence))
		_, frame, err := socket.ReadMessage()
		if err != nil {
			return err
		}
		for _, line := range strings.Split(string(frame), "\n") {
			var found event
			if err := json.Unmarshal([]byte(line), &found); err != nil {
				log.Fatal("this is no broadcast server: ", err)
			}
			fmt.Println(line)
			c.receive(found)
		}
	}
}

func isFinal(err error) (bool, int) {
	closed, ok := err.(*websocket.CloseError)
	if !ok {
		return false, 0
	}
	code := closed.Code
	client := code == 1002 || code == 1003 || code >= 1007 && code <= 1010
	return client || code >= 4500 && code < 5000, code
}

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: go_bot URL NAME ROOM")
	}
	c := &client{url: os.Args[1], name: os.Args[2], room: os.Args[3], session: random()}
	strays := 0 // attempts without a welcome, which may yet arrive
	for delay := time.Second / 2; ; delay *= 2 {
		c.welcomed = false
		err := c.connect()
		if c.welcomed {
			delay = time.Second / 2
		} else {
			strays++
		}
		if final, code := isFinal(err); final && !(code == 4504 && strays > 0) {
			log.Fatal(err)
		} else if final {
			strays--
		}
		if delay > maxDelay {
			delay = maxDelay
		}
		time.Sleep(time.Duration(mathrand.Int63n(int64(delay))))
	}
}
