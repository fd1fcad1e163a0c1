/* The load generator: many WebSocket clients in one thread with epoll.
 *
 * The first *senders* of the clients send messages, and all clients receive them. For each
 * client, the next number of each sender is stored, so that a lost, repeated or reordered
 * message is detected at once; a checksum of the sequence shows whether all clients saw the
 * same order. The results are written to standard output as one line of JSON.
 *
 * Modes: window (each sender has *window* messages in flight), rate (*rate* messages a second
 * in total, timed from when they were due), flood (a window, and one more sender at a rate,
 * which alone is timed), idle (connect, and wait until standard input ends), handshakes
 * (connect and disconnect repeatedly), stampede (all are cut, reconnect at once, and resume),
 * joins (connect in *rooms* rooms, and wait until everyone has seen all later joins of its room).
 *
 * With *other_port*, every second client connects there, to another process of the same server,
 * whose CPU time is added if its *other_pid* is given.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "dialect.h"
#include "histogram.h"
#include "token.h"

enum { READ = 1 << 18, CARRY = 4096, EVENTS = 512, OPENING = 128, JOINING = 64, SENDERS = 256,
       RING = 1 << 16, PER_ADDRESS = 20000 };

typedef enum { GONE, CONNECTING, UPGRADING, GREETING_IT, OPEN } state;

typedef struct {
    int fd;
    state state;
    int opcode;              /* of the frame that is being read */
    uint64_t left;           /* of its payload */
    uint32_t carried;        /* bytes of carry: an incomplete header */
    uint32_t begun;          /* bytes of token: one that is split over two reads or frames */
    unsigned char token[TOKEN];
    uint32_t *next;          /* the next number of each sender */
    uint64_t order;          /* checksum of the sequence of messages */
    uint64_t heard;          /* messages received */
    unsigned char *carry;
    unsigned char *out;      /* what the socket has not accepted yet */
    size_t out_size, out_room;
} client;

typedef struct {
    client *client;
    uint32_t sent, done, window; /* done: received by all clients */
    uint32_t *arrived;       /* how many clients have received each of the last messages */
    unsigned char *frame;    /* a message, unmasked */
    size_t frame_size, at;   /* at: the offset of the token */
} sender;

static struct {
    int port, other_port, clients, senders, window, size, rate, rooms;
    double warm, seconds, drain, opening;
    const char *mode;
    const dialect *dialect;
    clockid_t server, other;
    int has_server, has_other;
} how = {.clients = 100, .senders = 8, .window = 30, .size = 64, .rate = 200, .warm = 1,
         .seconds = 1, .drain = 3, .opening = 60, .mode = "window"};

static client *clients;
static sender senders[SENDERS];
static unsigned char *seen; /* in mode joins: for each client, which members of its room joined */
static int epoll, timer, opened, opening, gone, stampeding;
static uint64_t sent, heard, faults, bytes, timed_from, timed_to = UINT64_MAX, timed;
static uint32_t timed_sender; /* this sender and those after it are timed */
static histogram latency, last;
static char epoch[65];
static unsigned char buffer[CARRY + READ];

static void die(const char *format, ...) {
    va_list values;
    va_start(values, format);
    fprintf(stderr, "load: ");
    vfprintf(stderr, format, values);
    fprintf(stderr, "\n");
    va_end(values);
    exit(1);
}

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    if (clock_gettime(clock, &now)) return 0;
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

/* -- writing ------------------------------------------------------------------ */

static void watch(client *it, int writing) {
    struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = it};
    epoll_ctl(epoll, EPOLL_CTL_MOD, it->fd, &event);
}

static void flush(client *it) {
    if (!it->out_size) return;
    ssize_t done = send(it->fd, it->out, it->out_size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (done < 0) done = 0; /* full; or broken, which the next read reports */
    it->out_size -= (size_t)done;
    memmove(it->out, it->out + done, it->out_size);
    watch(it, it->out_size > 0);
}

static unsigned char *room_for(client *it, size_t size) {
    if (it->out_size + size > it->out_room) {
        it->out_room = 2 * (it->out_size + size);
        it->out = realloc(it->out, it->out_room);
        if (!it->out) die("out of memory");
    }
    unsigned char *place = it->out + it->out_size;
    it->out_size += size;
    return place;
}

static void put_frame(client *it, int opcode, const unsigned char *payload, size_t size) {
    unsigned char *to = room_for(it, size + (size < 126 ? 6 : 8));
    *to++ = 0x80 | (unsigned char)opcode;
    if (size < 126) {
        *to++ = 0x80 | (unsigned char)size;
    } else {
        *to++ = 0x80 | 126;
        *to++ = (unsigned char)(size >> 8);
        *to++ = (unsigned char)size;
    }
    uint32_t key = (uint32_t)random();
    memcpy(to, &key, 4);
    unsigned char *mask = to;
    to += 4;
    for (size_t i = 0; i < size; i++) to[i] = payload[i] ^ mask[i & 3];
}

static void say(sender *who, uint64_t stamp) {
    uint32_t index = (uint32_t)(who - senders);
    if (who->sent - who->done >= RING) die("%d messages of one sender are under way", RING);
    if (index >= timed_sender && stamp >= timed_from && stamp < timed_to) timed++;
    token_write(who->frame + who->at, (token){index, who->sent++, stamp});
    put_frame(who->client, how.dialect->opcode, who->frame, who->frame_size);
    sent++;
}

static void make_sender(int index, client *it) {
    sender *who = &senders[index];
    size_t after = strlen(how.dialect->after);
    who->client = it;
    who->frame = malloc(AROUND + (size_t)how.size + after);
    who->at = dialect_before(how.dialect, (size_t)how.size, (char *)who->frame);
    memset(who->frame + who->at, PADDING, (size_t)how.size);
    memcpy(who->frame + who->at + how.size, how.dialect->after, after);
    who->frame_size = who->at + (size_t)how.size + after;
    who->arrived = calloc(RING, sizeof *who->arrived);
}

/* -- connecting --------------------------------------------------------------- */

static int port_of(const client *it) {
    return how.other_port && (it - clients) % 2 ? how.other_port : how.port;
}

static void dial(client *it) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port_of(it)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    it->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (it->fd < 0) die("socket: %s", strerror(errno));
    int one = 1;
    setsockopt(it->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    uint32_t address = (uint32_t)(it - clients) / PER_ADDRESS; /* ports of one address run out */
    if (address) {
        struct sockaddr_in from = {.sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK + address)};
        setsockopt(it->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(it->fd, (struct sockaddr *)&from, sizeof from)) die("bind: %s", strerror(errno));
    }
    if (connect(it->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS)
        die("connect: %s", strerror(errno));
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = it};
    epoll_ctl(epoll, EPOLL_CTL_ADD, it->fd, &event);
    it->state = CONNECTING;
    it->left = it->carried = it->begun = 0;
    it->out_size = 0;
    opening++;
}

static void upgrade(client *it) {
    char query[128] = "", extra[64] = "";
    if (!strcmp(how.mode, "stampede")) {
        sprintf(query, "?room=stampede-%d&session=benchmark-%08ld", getpid(),
                (long)(it - clients));
        if (stampeding) /* it has received everything up to here */
            sprintf(query + strlen(query), "&since=%s.%llu", epoch,
                    (unsigned long long)it->heard);
    } else if (how.rooms) {
        long index = it - clients;
        sprintf(query, "?room=r%ld", index % how.rooms);
        if (seen) { /* its name is a token */
            unsigned char name[TOKEN + 1] = "";
            token_write(name, (token){0, (uint32_t)index, 0});
            sprintf(query + strlen(query), "&name=%s", name);
        }
    }
    if (how.dialect->subprotocol)
        sprintf(extra, "Sec-WebSocket-Protocol: %s\r\n", how.dialect->subprotocol);
    char request[512];
    int size = sprintf(request,
                       "GET %s%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                       "Connection: Upgrade\r\nSec-WebSocket-Key: bG9hZCBnZW5lcmF0b3IhIQ==\r\n"
                       "Sec-WebSocket-Version: 13\r\n%s\r\n",
                       how.dialect->path, query, port_of(it), extra);
    memcpy(room_for(it, (size_t)size), request, (size_t)size);
    it->state = UPGRADING;
    flush(it);
}

static void hang_up(client *it) {
    struct linger cut = {1, 0}; /* RST: no port stays in TIME_WAIT for a minute */
    setsockopt(it->fd, SOL_SOCKET, SO_LINGER, &cut, sizeof cut);
    close(it->fd);
    if (it->state == OPEN) opened--;
    else if (it->state != GONE) opening--;
    it->state = GONE;
}

static void is_open(client *it) {
    it->state = OPEN;
    opening--;
    opened++;
}

static void greet(client *it, const unsigned char *frame, size_t size) {
    unsigned char answer[GREETING];
    int open = !how.dialect->greet;
    if (!open) {
        int answered = how.dialect->greet(frame, size, answer, &open);
        if (answered) put_frame(it, how.dialect->opcode, answer, (size_t)answered);
        flush(it);
    }
    if (open) is_open(it);
}

/* -- reading ------------------------------------------------------------------ */

/* A member sees the join of each later member of its room once, and no other join. */
static void take_join(client *it, uint32_t who) {
    uint32_t rooms = (uint32_t)how.rooms, me = (uint32_t)(it - clients);
    uint32_t in_room = (uint32_t)how.clients / rooms;
    if (who >= (uint32_t)how.clients || who == me || who % rooms != me % rooms ||
        seen[me * in_room + who / rooms] || seen[who * in_room + me / rooms]) {
        faults++;
        return;
    }
    seen[me * in_room + who / rooms] = 1;
    heard++;
}

static void take(client *it, token what, uint64_t now) {
    if (seen) {
        take_join(it, what.number);
        return;
    }
    if (what.sender >= (uint32_t)SENDERS || !senders[what.sender].client ||
        what.number != it->next[what.sender]) {
        faults++;
        return;
    }
    sender *who = &senders[what.sender];
    it->next[what.sender]++;
    it->order = it->order * 0x9e3779b97f4a7c15u + ((uint64_t)what.sender << 24 | what.number) + 1;
    it->heard++;
    heard++;
    uint32_t *arrived = &who->arrived[what.number % RING];
    int everyone = ++*arrived == (uint32_t)(how.clients - gone);
    if (everyone) {
        *arrived = 0;
        who->done++;
    }
    if (what.sender >= timed_sender && what.time >= timed_from && what.time < timed_to) {
        uint64_t age = now > what.time ? now - what.time : 0;
        histogram_add(&latency, age);
        if (everyone) histogram_add(&last, age);
    }
}

/* Find the tokens from *at* to *end*, and keep the beginning of one that continues later. */
static void search(client *it, const unsigned char *at, const unsigned char *end, uint64_t now) {
    if (it->begun) {
        while (it->begun < TOKEN && at < end) it->token[it->begun++] = *at++;
        if (it->begun < TOKEN) return;
        it->begun = 0;
        take(it, token_read(it->token), now);
    }
    while ((at = memchr(at, MARK, (size_t)(end - at)))) {
        if (end - at < TOKEN) {
            it->begun = (uint32_t)(end - at);
            memcpy(it->token, at, it->begun);
            return;
        }
        take(it, token_read(at), now);
        at += TOKEN;
    }
}

static void control(client *it, const unsigned char *payload, size_t size) {
    if (it->opcode == PING) {
        put_frame(it, PONG, payload, size);
        flush(it);
    } else if (it->opcode == CLOSE) {
        int code = size > 1 ? payload[0] << 8 | payload[1] : 1005;
        if (gone++ < 3) fprintf(stderr, "load: closed with %d\n", code);
        hang_up(it);
    } else if (it->state == GREETING_IT) {
        greet(it, payload, size);
    } else if (size == 1 && *payload == '2') { /* a ping of Engine.IO */
        put_frame(it, TEXT, (const unsigned char *)"3", 1);
        flush(it);
    }
}

/* Parse the data, and return how many bytes were complete. */
static size_t understand(client *it, const unsigned char *from, size_t size, uint64_t now) {
    const unsigned char *at = from, *end = from + size;
    if (it->state == UPGRADING) {
        const unsigned char *head = memmem(from, size, "\r\n\r\n", 4);
        if (!head) return 0;
        if (memcmp(from, "HTTP/1.1 101", 12)) die("refused: %.60s", from);
        at = head + 4;
        it->state = GREETING_IT;
        greet(it, at, 0);
    }
    while (at < end && it->state != GONE) {
        if (!it->left) {
            size_t header = 2, here = (size_t)(end - at);
            if (here < 2) break;
            uint64_t length = at[1] & 127;
            if (length == 126) header = 4;
            if (length == 127) header = 10;
            if (here < header) break;
            if (header > 2) length = 0;
            for (size_t i = 2; i < header; i++) length = length << 8 | at[i];
            it->opcode = at[0] & 15;
            if (it->opcode >= CLOSE || it->state == GREETING_IT || length == 1) {
                if (here < header + length) break;
                control(it, at + header, (size_t)length);
                at += header + length;
                continue;
            }
            at += header;
            it->left = length;
        }
        const unsigned char *until = (uint64_t)(end - at) < it->left ? end : at + it->left;
        search(it, at, until, now);
        it->left -= (uint64_t)(until - at);
        at = until;
    }
    return (size_t)(at - from);
}

static void find_epoch(const unsigned char *from, size_t size) {
    static const char key[] = "\"epoch\":\"";
    const char *found = memmem(from, size, key, sizeof key - 1);
    if (found) sscanf(found + sizeof key - 1, "%64[^\"]", epoch);
}

static void readable(client *it) {
    memcpy(buffer, it->carry, it->carried);
    ssize_t got = recv(it->fd, buffer + it->carried, READ, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        if (gone++ < 3) fprintf(stderr, "load: cut by the server\n");
        hang_up(it);
        return;
    }
    bytes += (uint64_t)got;
    size_t size = it->carried + (size_t)got;
    if (!*epoch && it == clients && how.dialect->subprotocol) find_epoch(buffer, size);
    size_t done = understand(it, buffer, size, now_ns());
    it->carried = (uint32_t)(size - done);
    if (it->carried > CARRY) die("a frame that is too long for its kind");
    if (it->carried) {
        if (!it->carry) it->carry = malloc(CARRY);
        memcpy(it->carry, buffer + done, it->carried);
    }
}

/* Wait for a limited time, and serve the sockets. Returns whether the timer has expired. */
static int turn(int timeout) {
    static struct epoll_event events[EVENTS];
    int rang = 0, count = epoll_wait(epoll, events, EVENTS, timeout);
    for (int i = 0; i < count; i++) {
        client *it = events[i].data.ptr;
        if (!it) {
            uint64_t times;
            rang = read(timer, &times, sizeof times) > 0;
        } else if (it->state == CONNECTING) {
            int error = 0;
            socklen_t size = sizeof error;
            getsockopt(it->fd, SOL_SOCKET, SO_ERROR, &error, &size);
            if (error) die("connect: %s", strerror(error));
            upgrade(it);
        } else if (it->state != GONE) {
            if (events[i].events & EPOLLOUT) flush(it);
            if (events[i].events & ~(uint32_t)EPOLLOUT) readable(it);
        }
    }
    return rang;
}

/* -- modes -------------------------------------------------------------------- */

typedef struct {
    uint64_t time, heard, server, own, bytes;
} reading;

static reading read_now(void) {
    uint64_t other = how.has_other ? clock_ns(how.other) : 0;
    return (reading){now_ns(), heard, how.has_server ? clock_ns(how.server) + other : 0,
                     clock_ns(CLOCK_PROCESS_CPUTIME_ID), bytes};
}

static void open_all(int from, int to, int at_once) {
    uint64_t deadline = now_ns() + (uint64_t)(how.opening * 1e9);
    while (from < to || opening) {
        while (from < to && opening < at_once) dial(&clients[from++]);
        turn(100);
        if (gone) die("%d clients were cut while they came", gone);
        if (now_ns() > deadline) die("only %d clients could join in %.0f s", opened, how.opening);
    }
}

/* Some servers answer the handshake before they add a client to the receivers. */
static void settle(void) {
    uint64_t end = now_ns() + 100000000u;
    while (now_ns() < end) turn(10);
}

static void set_timer(uint64_t when) {
    struct itimerspec at = {.it_value = {(time_t)(when / 1000000000u),
                                         (long)(when % 1000000000u)}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
}

/* Let the senders in the range send what their windows allow: that many messages may be in
 * flight, which means not received by all clients yet. Each message that all have received
 * opens its window by one, so that a slow server gets no backlog. Returns whether all are open. */
static int fill_windows(int from, int to) {
    uint32_t widest = (uint32_t)how.window;
    int full = 1;
    for (int i = from; i < to; i++) {
        sender *who = &senders[i];
        if (who->client->state != OPEN) continue;
        who->window = who->done + 1 < widest ? who->done + 1 : widest;
        full &= who->window == widest;
        uint64_t stamp = now_ns();
        while (who->sent - who->done < who->window) say(who, stamp);
        flush(who->client);
    }
    return full;
}

static int drain(double seconds, uint64_t wanted) {
    uint64_t deadline = now_ns() + (uint64_t)(seconds * 1e9);
    while (heard < wanted && now_ns() < deadline) turn(20);
    return heard == wanted;
}

static int one_order(void) {
    for (int i = 1; i < how.clients; i++)
        if (clients[i].order != clients[0].order) return 0;
    return 1;
}

static void percentiles(const char *name, const histogram *in, uint64_t all) {
    static const struct {
        const char *name;
        double share;
    } shares[] = {{"p50", 0.5}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1}};
    printf("\"%s\":{\"count\":%llu,\"all\":%llu", name, (unsigned long long)in->count,
           (unsigned long long)all);
    for (size_t i = 0; i < 4; i++) {
        double value = histogram_at(in, shares[i].share, all);
        if (value < 0) printf(",\"%s\":null", shares[i].name);
        else printf(",\"%s\":%.6f", shares[i].name, value / 1e9);
    }
    printf("},");
}

static void report_run(reading from, reading to, int drained) {
    double seconds = (double)(to.time - from.time) / 1e9;
    printf("\"seconds\":%.6f,\"deliveries\":%llu,\"server_cpu\":%.6f,\"load_cpu\":%.6f,"
           "\"bytes\":%llu,\"messages\":%llu,\"missing\":%llu,\"drained\":%s,",
           seconds, (unsigned long long)(to.heard - from.heard),
           (double)(to.server - from.server) / 1e9, (double)(to.own - from.own) / 1e9,
           (unsigned long long)(to.bytes - from.bytes), (unsigned long long)sent,
           (unsigned long long)(sent * (uint64_t)how.clients - heard),
           drained ? "true" : "false");
    percentiles("latency", &latency, timed * (uint64_t)how.clients);
    percentiles("last", &last, timed);
    printf("\"one_order\":%s,", drained && one_order() ? "true" : "false");
}

/* Windows for the first senders, a rate for the rest; either group may be empty. */
static void run_load(int windowed) {
    int paced = how.senders - windowed;
    uint64_t start = now_ns(), step = paced ? (uint64_t)(1e9 / how.rate) : 0, due = start;
    uint64_t warm = start + (uint64_t)(how.warm * 1e9), end = UINT64_MAX;
    reading from = {0};
    timed_sender = paced ? (uint32_t)windowed : 0;
    timed_from = UINT64_MAX;
    int next = windowed;
    if (paced) set_timer(due);
    for (;;) {
        uint64_t now = now_ns();
        int full = fill_windows(0, windowed);
        if (end == UINT64_MAX && (now >= warm || (windowed && full && now >= start + 200000000u))) {
            from = read_now();
            timed_from = now;
            end = now + (uint64_t)(how.seconds * 1e9);
        }
        if (now >= end) break;
        if (paced && now >= due) {
            for (; due <= now && due < end; due += step) {
                say(&senders[next], due);
                flush(senders[next].client);
                if (++next == how.senders) next = windowed;
            }
            set_timer(due);
        }
        turn(10);
    }
    timed_to = now_ns();
    reading to = read_now();
    int drained = drain(how.drain, sent * (uint64_t)how.clients);
    if (paced && !windowed) { /* all that was caused, however late it arrived */
        reading late = read_now();
        late.time = to.time;
        to = late;
    }
    report_run(from, to, drained);
}

static void run_idle(void) {
    int flags = fcntl(0, F_GETFL);
    char ignored[64];
    printf("{\"ready\":%d}\n", opened);
    fflush(stdout);
    fcntl(0, F_SETFL, flags | O_NONBLOCK);
    while (read(0, ignored, sizeof ignored)) turn(20);
}

static void run_handshakes(void) {
    uint64_t warm = now_ns() + (uint64_t)(how.warm * 1e9), done = 0;
    uint64_t end = warm + (uint64_t)(how.seconds * 1e9);
    reading from = {0};
    for (int i = 0; i < how.clients; i++) dial(&clients[i]);
    while (now_ns() < end) {
        turn(10);
        if (!from.time && now_ns() >= warm) {
            from = read_now();
            done = 0;
        }
        for (int i = 0; i < how.clients; i++)
            if (clients[i].state == OPEN) {
                done++;
                hang_up(&clients[i]);
                dial(&clients[i]);
            }
    }
    reading to = read_now();
    printf("\"handshakes\":%llu,\"seconds\":%.6f,\"server_cpu\":%.6f,\"load_cpu\":%.6f,",
           (unsigned long long)done, (double)(to.time - from.time) / 1e9,
           (double)(to.server - from.server) / 1e9, (double)(to.own - from.own) / 1e9);
}

/* All clients join, JOINING at a time, until each has seen the joins of all later members of its
 * room: one of every two members sees the other. */
static void run_joins(void) {
    uint64_t in_room = (uint64_t)(how.clients / how.rooms);
    uint64_t wanted = (uint64_t)how.clients * (in_room - 1) / 2, in = 0;
    reading from = read_now();
    uint64_t deadline = from.time + (uint64_t)(how.drain * 1e9);
    for (int next = 0; (heard < wanted || !in) && now_ns() < deadline;) {
        while (next < how.clients && opening < JOINING) dial(&clients[next++]);
        turn(10);
        if (!in && opened == how.clients) in = now_ns();
    }
    reading to = read_now();
    uint64_t late = heard;
    settle(); /* for what is announced twice */
    printf("\"joins\":%d,\"seconds\":%.6f,\"in\":%.6f,\"server_cpu\":%.6f,\"load_cpu\":%.6f,"
           "\"announced\":%llu,\"missing\":%llu,",
           opened, (double)(to.time - from.time) / 1e9,
           in ? (double)(in - from.time) / 1e9 : -1, (double)(to.server - from.server) / 1e9,
           (double)(to.own - from.own) / 1e9, (unsigned long long)late,
           (unsigned long long)(wanted - late));
}

/* All clients receive a window of messages, are cut, miss as many, and reconnect at once. */
static void run_stampede(void) {
    client *speaker = senders[0].client;
    uint64_t half = (uint64_t)how.window, all = (uint64_t)how.clients * half;
    timed_from = UINT64_MAX; /* messages are not timed in this mode */
    for (uint64_t i = 0; i < half; i++) say(&senders[0], now_ns());
    flush(speaker);
    if (!drain(30, all + half)) die("the first half did not arrive");
    for (int i = 0; i < how.clients; i++) hang_up(&clients[i]);
    for (uint64_t i = 0; i < half; i++) say(&senders[0], now_ns());
    flush(speaker);
    if (!drain(30, all + 2 * half)) die("the second half did not come back");
    stampeding = 1;
    reading from = read_now();
    for (int i = 0; i < how.clients; i++) dial(&clients[i]);
    uint64_t deadline = from.time + (uint64_t)(how.drain * 1e9), in = 0;
    unsigned char *resumed = calloc((size_t)how.clients, 1);
    for (int done = 0; done < how.clients && now_ns() < deadline;) {
        turn(10);
        if (!in && opened == how.clients + 1) in = now_ns();
        for (int i = 0; i < how.clients; i++)
            if (!resumed[i] && clients[i].heard == 2 * half) {
                resumed[i] = 1;
                done++;
                histogram_add(&latency, now_ns() - from.time);
            }
    }
    reading to = read_now();
    printf("\"seconds\":%.6f,\"in\":%.6f,\"server_cpu\":%.6f,\"load_cpu\":%.6f,\"missing\":%llu,",
           (double)(to.time - from.time) / 1e9, in ? (double)(in - from.time) / 1e9 : -1,
           (double)(to.server - from.server) / 1e9, (double)(to.own - from.own) / 1e9,
           (unsigned long long)(2 * (all + half) - heard));
    percentiles("latency", &latency, (uint64_t)how.clients);
    printf("\"one_order\":%s,", one_order() ? "true" : "false");
}

/* -- the command line --------------------------------------------------------- */

static void parse(int count, char **words) {
    for (int i = 1; i + 1 < count; i += 2) {
        const char *name = words[i], *value = words[i + 1];
        if (!strcmp(name, "--port")) how.port = atoi(value);
        else if (!strcmp(name, "--other_port")) how.other_port = atoi(value);
        else if (!strcmp(name, "--clients")) how.clients = atoi(value);
        else if (!strcmp(name, "--senders")) how.senders = atoi(value);
        else if (!strcmp(name, "--window")) how.window = atoi(value);
        else if (!strcmp(name, "--size")) how.size = atoi(value);
        else if (!strcmp(name, "--rate")) how.rate = atoi(value);
        else if (!strcmp(name, "--rooms")) how.rooms = atoi(value);
        else if (!strcmp(name, "--opening")) how.opening = atof(value);
        else if (!strcmp(name, "--warm")) how.warm = atof(value);
        else if (!strcmp(name, "--seconds")) how.seconds = atof(value);
        else if (!strcmp(name, "--drain")) how.drain = atof(value);
        else if (!strcmp(name, "--mode")) how.mode = value;
        else if (!strcmp(name, "--dialect")) how.dialect = dialect_named(value);
        else if (!strcmp(name, "--pid"))
            how.has_server = !clock_getcpuclockid(atoi(value), &how.server);
        else if (!strcmp(name, "--other_pid"))
            how.has_other = !clock_getcpuclockid(atoi(value), &how.other);
        else die("unknown option %s", name);
    }
    if (!how.dialect) how.dialect = &DIALECTS[0];
    if (how.size < TOKEN || how.size > 60000) die("a message has %d to 60000 bytes", TOKEN);
    if (how.senders < 1 || how.senders > SENDERS || how.clients < how.senders)
        die("there are 1 to %d senders, who are clients too", SENDERS);
}

int main(int count, char **words) {
    parse(count, words);
    int stampede = !strcmp(how.mode, "stampede"), all = how.clients + stampede;
    epoll = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &event);
    clients = calloc((size_t)all, sizeof *clients);
    uint32_t *next = calloc((size_t)all * SENDERS, sizeof *next);
    for (int i = 0; i < all; i++) clients[i].next = next + (size_t)i * (size_t)how.senders;

    if (!strcmp(how.mode, "handshakes")) {
        printf("{");
        run_handshakes();
    } else if (!strcmp(how.mode, "joins")) {
        if (how.rooms < 1 || how.clients % how.rooms) die("the rooms are not of one size");
        seen = calloc((size_t)how.clients, (size_t)(how.clients / how.rooms));
        printf("{");
        run_joins();
    } else {
        /* The senders are spread among the others, since some servers write in that order. */
        for (int i = 0; i < how.senders; i++)
            make_sender(i, stampede ? &clients[how.clients]
                                    : &clients[(2 * i + 1) * how.clients / (2 * how.senders)]);
        uint64_t start = now_ns();
        open_all(0, all, OPENING);
        double coming = (double)(now_ns() - start) / 1e9;
        settle();
        if (!strcmp(how.mode, "idle")) {
            run_idle();
            printf("{");
        } else {
            printf("{\"opening\":%.6f,", coming);
            if (!strcmp(how.mode, "window")) run_load(how.senders);
            else if (!strcmp(how.mode, "rate")) run_load(0);
            else if (!strcmp(how.mode, "flood")) run_load(how.senders - 1);
            else if (stampede) run_stampede();
            else die("unknown mode %s", how.mode);
        }
    }
    printf("\"faults\":%llu,\"gone\":%d}\n", (unsigned long long)faults, gone);
    return 0;
}
