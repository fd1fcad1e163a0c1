/* SHA-1 of a short string, and the Sec-WebSocket-Accept of a handshake. */
#ifndef SHA1_H
#define SHA1_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

static inline uint32_t rotated(uint32_t value, int by) { return value << by | value >> (32 - by); }

static void sha1_block(const unsigned char *block, uint32_t state[5]) {
    uint32_t word[80];
    for (int i = 0; i < 16; i++)
        word[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
                  (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 80; i++)
        word[i] = rotated(word[i - 3] ^ word[i - 8] ^ word[i - 14] ^ word[i - 16], 1);
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int i = 0; i < 80; i++) {
        uint32_t mix;
        if (i < 20) mix = ((b & c) | (~b & d)) + 0x5a827999;
        else if (i < 40) mix = (b ^ c ^ d) + 0x6ed9eba1;
        else if (i < 60) mix = ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc;
        else mix = (b ^ c ^ d) + 0xca62c1d6;
        uint32_t next = rotated(a, 5) + mix + e + word[i];
        e = d, d = c, c = rotated(b, 30), b = a, a = next;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
}

/* Write the value of Sec-WebSocket-Accept for *key* to *to*: 28 characters and a 0. */
static void websocket_accept(const char *key, char *to) {
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char text[128] = {0}, digest[21] = {0};
    uint32_t state[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    int size = snprintf((char *)text, 64 + 40, "%.60s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    text[size] = 0x80;
    memset(text + size + 1, 0, sizeof text - (size_t)size - 1);
    int blocks = size > 55 ? 2 : 1;
    text[64 * blocks - 2] = (unsigned char)(size * 8 >> 8);
    text[64 * blocks - 1] = (unsigned char)(size * 8);
    for (int i = 0; i < blocks; i++) sha1_block(text + 64 * i, state);
    for (int i = 0; i < 20; i++) digest[i] = (unsigned char)(state[i / 4] >> (24 - 8 * (i % 4)));
    for (int i = 0; i < 7; i++) {
        uint32_t three = (uint32_t)digest[3 * i] << 16 | (uint32_t)digest[3 * i + 1] << 8 |
                         digest[3 * i + 2];
        for (int j = 0; j < 4; j++) *to++ = letters[three >> (18 - 6 * j) & 63];
    }
    to[-1] = '='; /* 20 bytes are 27 digits */
    *to = 0;
}

#endif
