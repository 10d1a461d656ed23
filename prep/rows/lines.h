/* What _near.c and _sound.c read of lines that convert wrote. Nothing is read but between the ends of a text. */

#ifndef LFC_LINES_H
#define LFC_LINES_H

#include <stdint.h>
#include <string.h>

typedef unsigned char byte;

typedef struct {
    const byte *at, *end;
} Text;

enum { CODES = 0x110000 };

static inline int is_rest(byte value) {
    return (value & 0xC0) == 0x80;
}

/* Read the character that begins here, of more than one byte, and step over it; CODES when it is none. */
static inline uint32_t read_wide(Text *text) {
    const byte *at = text->at;
    size_t left = (size_t)(text->end - at);
    uint32_t code;
    if (left >= 3 && (at[0] & 0xF0) == 0xE0 && is_rest(at[1]) && is_rest(at[2])) {
        code = (at[0] & 0x0Fu) << 12 | (at[1] & 0x3Fu) << 6 | (at[2] & 0x3Fu);
        if (code < 0x800 || (code >= 0xD800 && code < 0xE000)) return CODES;
        text->at += 3;
    } else if (left >= 2 && at[0] >= 0xC2 && at[0] <= 0xDF && is_rest(at[1])) {
        code = (at[0] & 0x1Fu) << 6 | (at[1] & 0x3Fu);
        text->at += 2;
    } else if (left >= 4 && (at[0] & 0xF8) == 0xF0 && is_rest(at[1]) && is_rest(at[2]) && is_rest(at[3])) {
        code = (at[0] & 0x07u) << 18 | (at[1] & 0x3Fu) << 12 | (at[2] & 0x3Fu) << 6 | (at[3] & 0x3Fu);
        if (code < 0x10000 || code >= CODES) return CODES;
        text->at += 4;
    } else {
        return CODES;
    }
    return code;
}

/* Return what a letter after a backslash stands for, 0 when the escape is not plain. */
static byte unescape(byte letter) {
    static const byte letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    const byte *found = letter ? memchr(letters, letter, sizeof letters - 1) : NULL;
    return found ? meant[found - letters] : 0;
}

static inline int starts_with(Text text, const char *start) {
    size_t size = strlen(start);
    return (size_t)(text.end - text.at) >= size && !memcmp(text.at, start, size);
}

/* Step over what must stand here. */
static inline int skip(Text *text, const char *start) {
    if (!starts_with(*text, start)) return 0;
    text->at += strlen(start);
    return 1;
}

#endif
