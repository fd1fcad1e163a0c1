/* A minimal server: how fast a broadcast can be in C with one thread and epoll.
 *
 *     floor PORT each    encode a message once, and send() it to each client at once
 *     floor PORT turn    the same, but all messages of one turn of epoll are sent with one send()
 *
 * No rooms, names, history, limits or checks.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sha1.h"

enum { READ = 1 << 18, EVENTS = 512, FILES = 1 << 16 };

typedef struct {
    unsigned char *data;
    size_t size, room;
} heap;

typedef struct {
    int fd, open, place; /* place: index in the list of clients */
    heap in, out;        /* not parsed yet, and not accepted by the socket yet */
} client;

static client *by_fd[FILES], *here[FILES];
static int epoll, coalesce, count;
static heap turn; /* frames that are still to be sent to all clients */

static void add(heap *to, const void *data, size_t size) {
    if (to->size + size > to->room) {
        to->room = 2 * (to->size + size);
        to->data = realloc(to->data, to->room);
        if (!to->data) abort();
    }
    memcpy(to->data + to->size, data, size);
    to->size += size;
}

static void drop(heap *from, size_t size) {
    from->size -= size;
    memmove(from->data, from->data + size, from->size);
}

static void watch(client *it, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = it->fd};
    epoll_ctl(epoll, EPOLL_CTL_MOD, it->fd, &event);
}

static void flush(client *it) {
    ssize_t done = send(it->fd, it->out.data, it->out.size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (done > 0) drop(&it->out, (size_t)done);
    if (!it->out.size) watch(it, EPOLLIN);
}

static void put(client *it, const void *data, size_t size) {
    ssize_t done = 0;
    if (!it->out.size) {
        done = send(it->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (done < 0) done = 0; /* full, or broken, which the next read reports */
    }
    if ((size_t)done == size) return;
    if (!it->out.size) watch(it, EPOLLIN | EPOLLOUT);
    add(&it->out, (const char *)data + done, size - (size_t)done);
}

static void everyone(const void *data, size_t size) {
    for (int i = 0; i < count; i++) put(here[i], data, size);
}

static void say(const unsigned char *text, size_t size) {
    unsigned char frame[4 + 65536] = {0x81, (unsigned char)size};
    size_t header = 2;
    if (size > 125) {
        frame[1] = 126;
        frame[2] = (unsigned char)(size >> 8);
        frame[3] = (unsigned char)size;
        header = 4;
    }
    memcpy(frame + header, text, size);
    if (coalesce) add(&turn, frame, header + size);
    else everyone(frame, header + size);
}

static void leave(client *it) {
    if (it->open) {
        here[it->place] = here[--count];
        here[it->place]->place = it->place;
    }
    by_fd[it->fd] = NULL;
    close(it->fd);
    free(it->in.data);
    free(it->out.data);
    free(it);
}

/* Answer the handshake if it is complete. */
static int shake(client *it) {
    unsigned char *end = memmem(it->in.data, it->in.size, "\r\n\r\n", 4);
    if (!end) return 1;
    *end = 0;
    char *key = strcasestr((char *)it->in.data, "\nsec-websocket-key:");
    if (!key) return 0;
    key += 19;
    key += strspn(key, " ");
    key[strcspn(key, "\r")] = 0;
    char accept[32], answer[256];
    websocket_accept(key, accept);
    int size = sprintf(answer,
                       "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                       "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                       accept);
    drop(&it->in, (size_t)(end + 4 - it->in.data));
    put(it, answer, (size_t)size);
    it->open = 1;
    it->place = count;
    here[count++] = it;
    return 1;
}

/* Broadcast the complete frames among the data; returns 0 for invalid data. */
static int frames(client *it) {
    size_t at = 0;
    while (it->in.size - at >= 6) {
        unsigned char *frame = it->in.data + at;
        size_t size = frame[1] & 127, header = 6;
        if (frame[0] != 0x81 || !(frame[1] & 128) || size == 127) return 0;
        if (size == 126) {
            header = 8;
            size = (size_t)frame[2] << 8 | frame[3];
        }
        if (it->in.size - at < header + size) break;
        unsigned char *mask = frame + header - 4, *text = frame + header;
        for (size_t i = 0; i < size; i++) text[i] ^= mask[i & 3];
        say(text, size);
        at += header + size;
    }
    drop(&it->in, at);
    return 1;
}

static void readable(client *it) {
    static unsigned char buffer[READ];
    ssize_t got = recv(it->fd, buffer, READ, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got > 0) add(&it->in, buffer, (size_t)got);
    if (got <= 0 || (!it->open && !shake(it)) || (it->open && !frames(it))) leave(it);
}

static void arrivals(int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= FILES) abort();
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        by_fd[fd] = calloc(1, sizeof(client));
        by_fd[fd]->fd = fd;
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
}

int main(int words, char **word) {
    if (words != 3) return 2;
    coalesce = !strcmp(word[2], "turn");
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(word[1])),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) return 1;
    epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        static struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            client *it = by_fd[events[i].data.fd];
            if (events[i].data.fd == listener) arrivals(listener);
            else if (it && events[i].events & EPOLLOUT) flush(it);
            else if (it) readable(it);
        }
        if (turn.size) everyone(turn.data, turn.size);
        turn.size = 0;
    }
}
