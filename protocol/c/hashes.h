/* Numbers in bytes, and the hashes that the hot path takes of short bytes: XXH3-64, XXH32 and CRC16.
 *
 * Theory. The module `xxhash` is as fast, but each call from C would make two objects, which costs more than to hash 150
 * bytes. So short bytes are hashed here, by the plain text of the specification, and long ones by the module. The algorithm
 * and its constants are those of https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md, with the seed 0. A test
 * compares every length with the module (tests/protocol/test_native.py).
 */
#ifndef DYN_HASHES_H
#define DYN_HASHES_H

#include <stdint.h>
#include <string.h>

/* gcc makes one instruction of each copy below, and eight of a loop over the bytes. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define IN_LITTLE(bits, number) (number)
#define IN_BIG(bits, number) __builtin_bswap##bits(number)
#else
#define IN_LITTLE(bits, number) __builtin_bswap##bits(number)
#define IN_BIG(bits, number) (number)
#endif

static inline uint64_t le64(const uint8_t *at) {
    uint64_t number;
    memcpy(&number, at, 8);
    return IN_LITTLE(64, number);
}

static inline uint32_t le32(const uint8_t *at) {
    uint32_t number;
    memcpy(&number, at, 4);
    return IN_LITTLE(32, number);
}

static inline uint64_t be64(const uint8_t *at) {
    uint64_t number;
    memcpy(&number, at, 8);
    return IN_BIG(64, number);
}

static inline uint32_t be32(const uint8_t *at) {
    uint32_t number;
    memcpy(&number, at, 4);
    return IN_BIG(32, number);
}

static inline uint32_t be16(const uint8_t *at) { return (uint32_t)at[0] << 8 | at[1]; }

static inline void put_be64(uint8_t *at, uint64_t number) {
    number = IN_BIG(64, number);
    memcpy(at, &number, 8);
}

static inline void put_be32(uint8_t *at, uint32_t number) {
    number = IN_BIG(32, number);
    memcpy(at, &number, 4);
}

#define PRIME32_1 0x9E3779B1U
#define PRIME32_2 0x85EBCA77U
#define PRIME32_3 0xC2B2AE3DU
#define PRIME32_4 0x27D4EB2FU
#define PRIME32_5 0x165667B1U
#define PRIME64_1 0x9E3779B185EBCA87ULL
#define PRIME64_2 0xC2B2AE3D27D4EB4FULL
#define PRIME64_3 0x165667B19E3779F9ULL
#define PRIME_MX1 0x165667919E3779F9ULL
#define PRIME_MX2 0x9FB21C651E98DF25ULL
#define XXH3_SHORT_BYTES_MAX 240

static const uint8_t XXH3_SECRET[136] = {  /* of 192: short bytes need no more */
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c, 0xde,
    0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f, 0xcb, 0x79,
    0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21, 0xb8, 0x08, 0x46,
    0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb,
    0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3, 0x71, 0x64, 0x48, 0x97, 0xa2,
    0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8, 0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c,
    0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d, 0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59,
    0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64, 0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3,
};

static inline uint64_t rotated64(uint64_t number, int bits) { return number << bits | number >> (64 - bits); }
static inline uint32_t rotated32(uint32_t number, int bits) { return number << bits | number >> (32 - bits); }

static inline uint64_t folded_product(uint64_t one, uint64_t other) {
    unsigned __int128 product = (unsigned __int128)one * other;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t mixed(const uint8_t *at, const uint8_t *secret) {
    return folded_product(le64(at) ^ le64(secret), le64(at + 8) ^ le64(secret + 8));
}

static inline uint64_t avalanche(uint64_t hash) {
    hash = (hash ^ hash >> 37) * PRIME_MX1;
    return hash ^ hash >> 32;
}

static inline uint64_t avalanche_of_few(uint64_t hash) {
    hash = (hash ^ hash >> 33) * PRIME64_2;
    hash = (hash ^ hash >> 29) * PRIME64_3;
    return hash ^ hash >> 32;
}

static inline uint64_t xxh3_of_few(const uint8_t *at, size_t size) {
    const uint8_t *secret = XXH3_SECRET;
    if (size > 8) {
        uint64_t low = le64(at) ^ le64(secret + 24) ^ le64(secret + 32);
        uint64_t high = le64(at + size - 8) ^ le64(secret + 40) ^ le64(secret + 48);
        return avalanche(size + __builtin_bswap64(low) + high + folded_product(low, high));
    }
    if (size >= 4) {
        uint64_t both = le32(at + size - 4) + ((uint64_t)le32(at) << 32);
        uint64_t hash = both ^ le64(secret + 8) ^ le64(secret + 16);
        hash ^= rotated64(hash, 49) ^ rotated64(hash, 24);
        hash *= PRIME_MX2;
        hash ^= (hash >> 35) + size;
        hash *= PRIME_MX2;
        return hash ^ hash >> 28;
    }
    if (!size) return avalanche_of_few(le64(secret + 56) ^ le64(secret + 64));
    uint32_t bytes = (uint32_t)at[0] << 16 | (uint32_t)at[size >> 1] << 24 | at[size - 1] | (uint32_t)size << 8;
    return avalanche_of_few((uint64_t)bytes ^ (uint64_t)(le32(secret) ^ le32(secret + 4)));
}

/* XXH3-64 of at most XXH3_SHORT_BYTES_MAX bytes. */
static inline uint64_t xxh3_short(const uint8_t *at, size_t size) {
    if (size <= 16) return xxh3_of_few(at, size);
    const uint8_t *secret = XXH3_SECRET;
    uint64_t hash = size * PRIME64_1;
    if (size <= 128) {
        for (size_t pair = (size - 1) / 32; pair > 0; pair--) {
            hash += mixed(at + 16 * pair, secret + 32 * pair);
            hash += mixed(at + size - 16 * (pair + 1), secret + 32 * pair + 16);
        }
        hash += mixed(at, secret);
        return avalanche(hash + mixed(at + size - 16, secret + 16));
    }
    size_t rounds = size / 16;
    for (size_t index = 0; index < 8; index++) hash += mixed(at + 16 * index, secret + 16 * index);
    hash = avalanche(hash);
    for (size_t index = 8; index < rounds; index++) hash += mixed(at + 16 * index, secret + 16 * (index - 8) + 3);
    return avalanche(hash + mixed(at + size - 16, secret + 136 - 17));
}

/* The CRC16/XMODEM of each byte (protocol/slots.py). */
static uint16_t crcs[256];

static void make_crcs(void) {
    for (int byte = 0; byte < 256; byte++) {
        uint16_t crc = (uint16_t)(byte << 8);
        for (int bit = 0; bit < 8; bit++) crc = (uint16_t)(crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1);
        crcs[byte] = crc;
    }
}

static inline uint32_t xxh32(const uint8_t *at, size_t size) {
    const uint8_t *end = at + size;
    uint32_t hash = PRIME32_5;
    if (size >= 16) {
        uint32_t lanes[4] = {PRIME32_1 + PRIME32_2, PRIME32_2, 0, 0U - PRIME32_1};
        for (; end - at >= 16; at += 16)
            for (int lane = 0; lane < 4; lane++)
                lanes[lane] = rotated32(lanes[lane] + le32(at + 4 * lane) * PRIME32_2, 13) * PRIME32_1;
        hash = rotated32(lanes[0], 1) + rotated32(lanes[1], 7) + rotated32(lanes[2], 12) + rotated32(lanes[3], 18);
    }
    hash += (uint32_t)size;
    for (; end - at >= 4; at += 4) hash = rotated32(hash + le32(at) * PRIME32_3, 17) * PRIME32_4;
    for (; at < end; at++) hash = rotated32(hash + *at * PRIME32_5, 11) * PRIME32_1;
    hash = (hash ^ hash >> 15) * PRIME32_2;
    hash = (hash ^ hash >> 13) * PRIME32_3;
    return hash ^ hash >> 16;
}

#endif
