/* The token by which the load generator recognizes a message, wherever a server puts it.
 *
 *     ~ SSNNNNNN TTTTTTTTTTTTTTTT xxxx...
 *
 * The sender (2 digits), the number of its message (6) and the time of sending in nanoseconds
 * (16), in base 16 with the letters a to p as digits, so that JSON and MQTT do not change
 * them. Everything around it is added by the server: a name, quotes, a line break.
 */
#ifndef TOKEN_H
#define TOKEN_H

#include <stdint.h>
#include <string.h>

enum { TOKEN = 25, MARK = '~', PADDING = 'x' };

typedef struct {
    uint32_t sender;
    uint32_t number;
    uint64_t time;
} token;

static inline uint64_t digits(const unsigned char *from) {
    uint64_t each;
    memcpy(&each, from, 8);
    each = __builtin_bswap64(each - 0x6161616161616161u); /* eight digits, a byte each */
    each = (each | each >> 4) & 0x00ff00ff00ff00ffu;
    each = (each | each >> 8) & 0x0000ffff0000ffffu;
    return (each | each >> 16) & 0xffffffffu;
}

static inline token token_read(const unsigned char *from) {
    uint64_t who = digits(from + 1);
    return (token){(uint32_t)(who >> 24), (uint32_t)(who & 0xffffff),
                   digits(from + 9) << 32 | digits(from + 17)};
}

static inline void token_write(unsigned char *to, token what) {
    uint64_t who = (uint64_t)what.sender << 24 | what.number;
    *to++ = MARK;
    for (int shift = 28; shift >= 0; shift -= 4) *to++ = 'a' + (who >> shift & 15);
    for (int shift = 60; shift >= 0; shift -= 4) *to++ = 'a' + (what.time >> shift & 15);
}

#endif
