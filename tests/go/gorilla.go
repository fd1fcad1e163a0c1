// Prints each line that a WebSocket receives, and resumes after a break: gorilla URL
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

type event struct {
	Type  string `json:"type"`
	Epoch string `json:"epoch"`
	Seq   int    `json:"seq"`
}

var epoch, since string

func receive() {
	dialer := websocket.Dialer{Subprotocols: []string{"broadcast.v1.json"}}
	connection, _, err := dialer.Dial(os.Args[1]+since, nil)
	if err != nil {
		return
	}
	defer connection.Close()
	for {
		_, frame, err := connection.ReadMessage()
		if err != nil {
			return
		}
		for _, line := range strings.Split(string(frame), "\n") {
			var found event
			if err := json.Unmarshal([]byte(line), &found); err != nil {
				panic(err)
			}
			if found.Type == "welcome" {
				epoch = found.Epoch
			}
			if found.Type == "message" || found.Type == "welcome" && since == "" {
				since = fmt.Sprintf("&since=%s.%d", epoch, found.Seq)
			}
			fmt.Println(line)
		}
	}
}

func main() {
	for {
		receive()
		time.Sleep(200 * time.Millisecond)
	}
}
