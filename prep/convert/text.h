/* Texts: copying, escaping, white space, and what may be markup; for the files that convert rows. */

#ifndef LFC_TEXT_H
#define LFC_TEXT_H

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "kernel.h"

/* ---- texts ---- */

static inline uint64_t load8(const byte *at) {
    uint64_t word;
    memcpy(&word, at, 8);
    return word;
}

/* Special is what cannot be copied as it stands: a quote, a backslash, a '<', a control character, and all outside
 * ASCII. Both functions copy the bytes before the first one, or up to where fewer than 16 are left, and may write
 * up to 16 more. */
#ifdef __SSE2__
static inline size_t copy_ordinary(const byte *at, const byte *end, byte *out) {
    const byte *begin = at;
    while (end - at >= 16) {
        __m128i word = _mm_loadu_si128((const __m128i *)at);
        _mm_storeu_si128((__m128i *)out, word);
        /* Signed: a byte outside ASCII is negative, and so below a space. */
        __m128i special = _mm_cmplt_epi8(word, _mm_set1_epi8(' '));
        special = _mm_or_si128(special, _mm_cmpeq_epi8(word, _mm_set1_epi8('"')));
        special = _mm_or_si128(special, _mm_cmpeq_epi8(word, _mm_set1_epi8('\\')));
        special = _mm_or_si128(special, _mm_cmpeq_epi8(word, _mm_set1_epi8('<')));
        int found = _mm_movemask_epi8(special);
        if (found) return (size_t)(at - begin) + (size_t)__builtin_ctz((unsigned)found);
        at += 16;
        out += 16;
    }
    return (size_t)(at - begin);
}
#else
#define REPEAT(value) (UINT64_C(0x0101010101010101) * (value))

static inline uint64_t has_zero(uint64_t word) {
    return (word - REPEAT(1)) & ~word & REPEAT(0x80);
}

static inline size_t copy_ordinary(const byte *at, const byte *end, byte *out) {
    const byte *begin = at;
    for (; end - at >= 16; at += 8, out += 8) {
        uint64_t word = load8(at);
        uint64_t control = ((word - REPEAT(0x20)) & ~word) | word;
        uint64_t marks = has_zero(word ^ REPEAT('"')) | has_zero(word ^ REPEAT('\\')) | has_zero(word ^ REPEAT('<'));
        if ((control & REPEAT(0x80)) | marks) break;
        memcpy(out, at, 8);
    }
    return (size_t)(at - begin);
}
#endif

/* Both functions copy characters of three bytes, as most Chinese ones are, several at a time; they stop before where
 * 0xE0 or 0xED leads: there not every second byte is allowed. Like the ones above they may write up to 16 more. */
#ifdef __SSE2__
static inline size_t copy_wide(const byte *at, const byte *end, byte *out) {
    enum { BYTES = 15, ALL = (1 << BYTES) - 1 };
#define FIVE(lead, rest) _mm_setr_epi8(lead, rest, rest, lead, rest, rest, lead, rest, rest, lead, rest, rest, lead, rest, rest, 0)
    const __m128i kinds = FIVE((char)0xF0, (char)0xC0), marks = FIVE((char)0xE0, (char)0x80);
#undef FIVE
    const byte *begin = at;
    for (; end - at >= 16; at += BYTES, out += BYTES) {
        __m128i word = _mm_loadu_si128((const __m128i *)at);
        _mm_storeu_si128((__m128i *)out, word);
        __m128i wide = _mm_cmpeq_epi8(_mm_and_si128(word, kinds), marks);
        __m128i special = _mm_cmpeq_epi8(word, _mm_set1_epi8((char)0xE0));
        special = _mm_or_si128(special, _mm_cmpeq_epi8(word, _mm_set1_epi8((char)0xED)));
        int other = ALL & ~_mm_movemask_epi8(_mm_andnot_si128(special, wide));
        if (other) return (size_t)(at - begin) + (size_t)__builtin_ctz((unsigned)other) / 3 * 3;
    }
    return (size_t)(at - begin);
}
#else
static inline size_t copy_wide(const byte *at, const byte *end, byte *out) {
    static const byte masks[8] = {0xF0, 0xC0, 0xC0, 0xF0, 0xC0, 0xC0, 0, 0};
    static const byte marks[8] = {0xE0, 0x80, 0x80, 0xE0, 0x80, 0x80, 0, 0};
    const byte *begin = at;
    for (; end - at >= 8; at += 6, out += 6) {
        uint64_t word = load8(at);
        int is_simple = at[0] != 0xE0 && at[0] != 0xED && at[3] != 0xE0 && at[3] != 0xED;
        if ((word & load8(masks)) != load8(marks) || !is_simple) break;
        memcpy(out, at, 8);
    }
    return (size_t)(at - begin);
}
#endif

static inline int is_inside(byte value, byte first, byte last) {
    return value >= first && value <= last;
}

/* The bytes of the UTF-8 character at a place; 0 when it is none (RFC 3629: no overlong ones, no surrogates). */
static inline size_t measure_utf8(const byte *at, const byte *end) {
    size_t left = (size_t)(end - at);
    byte first = at[0];
    if (first < 0x80) return 1;
    if (left >= 3 && (first & 0xF0) == 0xE0) {
        byte low = first == 0xE0 ? 0xA0 : 0x80, high = first == 0xED ? 0x9F : 0xBF;
        return is_inside(at[1], low, high) && is_inside(at[2], 0x80, 0xBF) ? 3 : 0;
    }
    if (left >= 2 && is_inside(first, 0xC2, 0xDF)) return is_inside(at[1], 0x80, 0xBF) ? 2 : 0;
    if (left >= 4 && is_inside(first, 0xF0, 0xF4)) {
        byte low = first == 0xF0 ? 0x90 : 0x80, high = first == 0xF4 ? 0x8F : 0xBF;
        int rest = is_inside(at[2], 0x80, 0xBF) && is_inside(at[3], 0x80, 0xBF);
        return is_inside(at[1], low, high) && rest ? 4 : 0;
    }
    return 0;
}

static inline int starts_with(const byte *at, const byte *end, const char *text) {
    size_t size = strlen(text);
    return (size_t)(end - at) >= size && !memcmp(at, text, size);
}

/* Skip up to three blanks, as tags may have them between their parts. */
static inline const byte *skip_few_blanks(const byte *at, const byte *end) {
    for (int left = 3; left && at < end && (*at == ' ' || *at == '\t'); left--) at++;
    return at;
}

/* Whether a '<' may begin Qwen3's think tags, any closing tag of a thought, or chat markup; a backslash near it may
 * hide one. Other opening tags count only where a text begins. */
static inline int may_be_markup(const byte *at, const byte *end, int is_json) {
    enum { NEAR = 12 };
    if (starts_with(at, end, "<|") || starts_with(at, end, "<think>") || starts_with(at, end, "</think>")) return 1;
    size_t near = (size_t)(end - at) < NEAR ? (size_t)(end - at) : NEAR;
    if (is_json && memchr(at, '\\', near) != NULL) return 1;
    const byte *name = skip_few_blanks(at + 1, end);
    if (name == end || *name != '/') return 0;
    name = skip_few_blanks(name + 1, end);
    if (end - name < 2) return 0;
    byte first = name[0] | 0x20, second = name[1] | 0x20;
    return (first == 't' && second == 'h') || (first == 'r' && second == 'e');
}

/* Whether a text begins as markup of a thought does (prep/rows/thinking.py, MARKUPS): a bracket of any width, or a
 * heading whose first word could be one of its. */
static inline int may_begin_thought(const byte *at, const byte *end) {
    if (at == end) return 0;
    if (*at == '<' || *at == '&') return 1;
    if (starts_with(at, end, "\xEF\xBC\x9C") || starts_with(at, end, "\xE2\x97\x81")) return 1;
    if (starts_with(at, end, "\xE3\x80\x90")) return 1;
    if (*at == '[') return end - at > 1 && ((at[1] | 0x20) == 't' || (at[1] | 0x20) == 'r' || at[1] == ' ' || at[1] == 0xE6);
    if (*at != '#' && *at != '*') return 0;
    while (at < end && (*at == '#' || *at == '*' || *at == ' ' || *at == '\t' || *at == '\\')) at++;
    return at < end && ((*at | 0x20) == 't' || (*at | 0x20) == 'r' || *at == 0xE6);
}

/* The bytes of the white space that a text begins with, as Python's str.strip() knows it; 0 when it does not. */
static inline size_t measure_space(const byte *at, const byte *end, int is_json) {
    size_t left = (size_t)(end - at);
    if (!left) return 0;
    if (at[0] == ' ') return 1;
    if (is_json) {
        if (left >= 2 && at[0] == '\\' && strchr("nrtf", at[1]) && at[1]) return 2;
    } else if (is_inside(at[0], 0x09, 0x0D) || is_inside(at[0], 0x1C, 0x1F)) {
        return 1;
    }
    if (left >= 2 && at[0] == 0xC2) return at[1] == 0x85 || at[1] == 0xA0 ? 2 : 0;
    if (left < 3 || !is_inside(at[0], 0xE1, 0xE3)) return 0;
    uint32_t code = (uint32_t)at[0] << 16 | (uint32_t)at[1] << 8 | at[2];
    if (code >= 0xE28080 && code <= 0xE2808A) return 3;
    return code == 0xE19A80 || code == 0xE280A8 || code == 0xE280A9 || code == 0xE280AF || code == 0xE2819F ||
                   code == 0xE38080
               ? 3
               : 0;
}

/* The bytes of the white space that a text ends with; 0 when it does not. */
static inline size_t measure_space_before(const byte *begin, const byte *end, int is_json) {
    if (is_json && end - begin >= 2 && end[-1] < 0x80 && measure_space(end - 2, end, 1) == 2) {
        /* `\\n` is a backslash and a letter. */
        const byte *slash = end - 2;
        while (slash > begin && slash[-1] == '\\') slash--;
        return (end - 1 - slash) % 2 ? 2 : 0;
    }
    for (size_t size = 1; size <= 3 && size <= (size_t)(end - begin); size++)
        if (end[-(ptrdiff_t)size] != '\\' && measure_space(end - size, end, is_json) == size) return size;
    return 0;
}

static inline void strip(const byte **begin, const byte **end, int is_json) {
    size_t size;
    while ((size = measure_space(*begin, *end, is_json))) *begin += size;
    while ((size = measure_space_before(*begin, *end, is_json))) *end -= size;
}

static inline byte *write_escape(byte *out, byte value) {
    static const char hex[] = "0123456789abcdef";
    static const char letters[] = "btn\0fr";
    *out++ = '\\';
    if (value == '"' || value == '\\') {
        *out++ = value;
    } else if (is_inside(value, 0x08, 0x0D) && letters[value - 8]) {
        *out++ = (byte)letters[value - 8];
    } else {
        memcpy(out, "u00", 3);
        out[3] = (byte)hex[value >> 4];
        out[4] = (byte)hex[value & 15];
        out += 5;
    }
    return out;
}

/* Copy what a text and its JSON have alike, up to a quote, a backslash, a '<' or a control character; 0 when what
 * stands there is not UTF-8. */
static inline int copy_alike(const byte **at, const byte *end, byte **out) {
    while (*at < end) {
        size_t size = **at >= 0x80 ? copy_wide(*at, end, *out) : copy_ordinary(*at, end, *out);
        *at += size;
        *out += size;
        if (*at == end || **at < 0x20 || **at == '"' || **at == '\\' || **at == '<') break;
        size = measure_utf8(*at, end);
        if (!size) return 0;
        for (; size; size--) *(*out)++ = *(*at)++;
    }
    return 1;
}

/* Write a text as JSON has it, without quotes; needs six times its bytes. Of two quotes that stand for one, one is
 * written. NULL when it is not plain. */
static inline byte *escape_text(const byte *at, const byte *end, int is_doubled, byte *out) {
    while (at < end) {
        if (!copy_alike(&at, end, &out)) return NULL;
        if (at == end) break;
        if (*at != '<') {
            out = write_escape(out, *at);
            at += is_doubled && *at == '"' && end - at > 1 ? 2 : 1;
        } else {
            if (may_be_markup(at, end, 0)) return NULL;
            *out++ = *at++;
        }
    }
    return out;
}

static inline int read_hex(const byte *at, const byte *end) {
    int code = 0;
    if (end - at < 4) return -1;
    for (int place = 0; place < 4; place++) {
        byte value = at[place];
        if (is_inside(value, '0', '9')) value -= '0';
        else if (is_inside(value | 0x20, 'a', 'f')) value = (byte)((value | 0x20) - 'a' + 10);
        else return -1;
        code = code << 4 | value;
    }
    return code;
}

static inline byte *write_utf8(byte *out, uint32_t code) {
    if (code < 0x80) {
        *out++ = (byte)code;
    } else if (code < 0x800) {
        *out++ = (byte)(0xC0 | code >> 6);
        *out++ = (byte)(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        *out++ = (byte)(0xE0 | code >> 12);
        *out++ = (byte)(0x80 | (code >> 6 & 0x3F));
        *out++ = (byte)(0x80 | (code & 0x3F));
    } else {
        *out++ = (byte)(0xF0 | code >> 18);
        *out++ = (byte)(0x80 | (code >> 12 & 0x3F));
        *out++ = (byte)(0x80 | (code >> 6 & 0x3F));
        *out++ = (byte)(0x80 | (code & 0x3F));
    }
    return out;
}

/* Write the character that `\u` and four digits, or two of them, stand for; `*at` is after the `\u`. */
static inline byte *write_unescaped(const byte **at, const byte *end, byte *out) {
    int code = read_hex(*at, end);
    *at += 4;
    /* A control character may be white space, a '<' a tag. */
    if (code < 0x20 || code == '<') return NULL;
    if (code == '"' || code == '\\') return write_escape(out, (byte)code);
    if (code < 0xD800 || code > 0xDFFF) return write_utf8(out, (uint32_t)code);
    if (code > 0xDBFF || end - *at < 6 || (*at)[0] != '\\' || (*at)[1] != 'u') return NULL;
    int low = read_hex(*at + 2, end);
    if (low < 0xDC00 || low > 0xDFFF) return NULL;
    *at += 6;
    return write_utf8(out, 0x10000 + ((uint32_t)(code - 0xD800) << 10) + (uint32_t)(low - 0xDC00));
}

/* Write what stands between a JSON string's quotes in JSON's shortest form, in no more bytes. NULL when it is not
 * valid or not plain. */
static inline byte *copy_json(const byte *at, const byte *end, byte *out) {
    while (at < end) {
        if (!copy_alike(&at, end, &out)) return NULL;
        if (at == end) break;
        if (*at == '<') {
            if (may_be_markup(at, end, 1)) return NULL;
            *out++ = *at++;
            continue;
        }
        if (*at != '\\' || end - at < 2) return NULL;
        byte letter = at[1];
        at += 2;
        if (letter == 'u') {
            out = write_unescaped(&at, end, out);
            if (!out) return NULL;
        } else if (letter == '/') {
            *out++ = '/';
        } else if (letter && strchr("\"\\nrtbf", letter)) {
            *out++ = '\\';
            *out++ = letter;
        } else {
            return NULL;
        }
    }
    return out;
}

#endif
