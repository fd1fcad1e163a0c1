/* The dialects: what each server expects before the first message, and around each message.
 *
 * All of it is sent in WebSocket frames. The received data is only searched for tokens, so
 * the generator need not know how a server wraps them.
 */
#ifndef DIALECT_H
#define DIALECT_H

#include <stdio.h>
#include <string.h>

enum { TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };
enum { GREETING = 64, AROUND = 64 };

typedef struct {
    const char *name;
    const char *path;        /* of the handshake */
    const char *subprotocol; /* or NULL */
    int opcode;              /* of the frames that are sent */
    const char *before;      /* what precedes a message */
    const char *after;
    /* Answers a frame that arrives before the connection is open. Returns the answer's size,
     * 0 for none, and sets *open. *size* is 0 just after the handshake. NULL: open by then. */
    int (*greet)(const unsigned char *frame, size_t size, unsigned char *answer, int *open);
} dialect;

/* Socket.IO 4 over Engine.IO 4: "0{...}" opens Engine.IO, "40" Socket.IO. */
static int greet_socketio(const unsigned char *frame, size_t size, unsigned char *answer,
                          int *open) {
    if (size && frame[0] == '0') return sprintf((char *)answer, "40");
    *open = size > 1 && frame[0] == '4' && frame[1] == '0';
    return 0;
}

/* MQTT 3.1.1: CONNECT, CONNACK, SUBSCRIBE to the topic "r", SUBACK. */
static int greet_mqtt(const unsigned char *frame, size_t size, unsigned char *answer, int *open) {
    static const unsigned char connect[] = {0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, 0};
    static const unsigned char subscribe[] = {0x82, 6, 0, 1, 0, 1, 'r', 0};
    const unsigned char *next = NULL;
    if (!size) next = connect;
    else if (frame[0] == 0x20) next = subscribe;
    *open = size && frame[0] == 0x90;
    if (!next) return 0;
    memcpy(answer, next, 2 + (size_t)next[1]);
    return 2 + next[1];
}

static const dialect DIALECTS[] = {
    {"text", "/", NULL, TEXT, "", "", NULL},
    {"json", "/", "broadcast.v1.json", TEXT, "{\"type\":\"say\",\"text\":\"", "\"}", NULL},
    {"tutorial", "/ws/chat/lobby/", NULL, TEXT, "{\"message\":\"", "\"}", NULL},
    {"socketio", "/socket.io/?EIO=4&transport=websocket", NULL, TEXT, "42[\"message\",\"", "\"]",
     greet_socketio},
    {"mqtt", "/", "mqtt", BINARY, NULL, "", greet_mqtt}, /* before: see dialect_before */
};

static inline const dialect *dialect_named(const char *name) {
    for (size_t i = 0; i < sizeof DIALECTS / sizeof *DIALECTS; i++)
        if (!strcmp(DIALECTS[i].name, name)) return &DIALECTS[i];
    return NULL;
}

/* Writes what precedes a message of *size* bytes; returns its length. */
static inline size_t dialect_before(const dialect *in, size_t size, char *to) {
    if (in->before) return (size_t)sprintf(to, "%s", in->before);
    size_t rest = size + 3, at = 0; /* PUBLISH at QoS 0, with its length in base 128 */
    to[at++] = 0x30;
    for (; rest > 127; rest >>= 7) to[at++] = (char)(rest | 128);
    to[at++] = (char)rest;
    memcpy(to + at, "\0\1r", 3);
    return at + 3;
}

#endif
