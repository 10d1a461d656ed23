/*
 * Plain rows to lines of Alpaca JSONL: the hot loop of `lfc prep convert`, without Python objects.
 *
 * A row is plain when its texts are valid UTF-8 without think tags and chat markup, and nothing else in it is out
 * of the ordinary. Both functions stop before the first row that is not; Python converts that one and goes on, so
 * that every fault is told of in one place. A plain row's line is the very bytes that Python would have written.
 *
 * Nothing here allocates or knows Python (that is `_kernelmodule.c`). It is safe by itself, whatever the caller asks for: every write is checked against the end
 * of the buffer that it was given, every index of the job and every offset against what it leads into. Sizes are
 * compared with what is left, never added up, so that no check can wrap.
 */

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "kernel.h"

/* Up to sixteen bytes are copied at a time: buffers end this much before what was allocated. */
enum { SLACK = 32, MAX_TURNS = 512, NUMBER_BYTES = 20 };

typedef struct {
    byte *at;
    byte *end;
    int full;
} Writer;

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

static int starts_with(const byte *at, const byte *end, const char *text) {
    size_t size = strlen(text);
    return (size_t)(end - at) >= size && !memcmp(at, text, size);
}

/* Skip up to three blanks, as tags may have them between their parts. */
static const byte *skip_few_blanks(const byte *at, const byte *end) {
    for (int left = 3; left && at < end && (*at == ' ' || *at == '\t'); left--) at++;
    return at;
}

/* Whether a '<' may begin Qwen3's think tags, any closing tag of a thought, or chat markup; a backslash near it may
 * hide one. Other opening tags count only where a text begins. */
static int may_be_markup(const byte *at, const byte *end, int is_json) {
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
static int may_begin_thought(const byte *at, const byte *end) {
    if (at == end) return 0;
    if (*at == '<' || *at == '&') return 1;
    if (starts_with(at, end, "\xEF\xBC\x9C") || starts_with(at, end, "\xE2\x97\x81")) return 1;
    if (*at == '[') return end - at > 1 && (at[1] | 0x20) == 't';
    if (*at != '#' && *at != '*') return 0;
    while (at < end && (*at == '#' || *at == '*' || *at == ' ' || *at == '\t' || *at == '\\')) at++;
    return at < end && ((*at | 0x20) == 't' || (*at | 0x20) == 'r' || *at == 0xE6);
}

/* The bytes of the white space that a text begins with, as Python's str.strip() knows it; 0 when it does not. */
static size_t measure_space(const byte *at, const byte *end, int is_json) {
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
static size_t measure_space_before(const byte *begin, const byte *end, int is_json) {
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

static void strip(const byte **begin, const byte **end, int is_json) {
    size_t size;
    while ((size = measure_space(*begin, *end, is_json))) *begin += size;
    while ((size = measure_space_before(*begin, *end, is_json))) *end -= size;
}

static byte *write_escape(byte *out, byte value) {
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
static int copy_alike(const byte **at, const byte *end, byte **out) {
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

/* Write a text as JSON has it, without quotes; needs six times its bytes. NULL when it is not plain. */
static byte *escape_text(const byte *at, const byte *end, byte *out) {
    while (at < end) {
        if (!copy_alike(&at, end, &out)) return NULL;
        if (at == end) break;
        if (*at != '<') {
            out = write_escape(out, *at++);
        } else {
            if (may_be_markup(at, end, 0)) return NULL;
            *out++ = *at++;
        }
    }
    return out;
}

static int read_hex(const byte *at, const byte *end) {
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

static byte *write_utf8(byte *out, uint32_t code) {
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
static byte *write_unescaped(const byte **at, const byte *end, byte *out) {
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
static byte *copy_json(const byte *at, const byte *end, byte *out) {
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

/* ---- lines ---- */

/* Begin to write into a buffer; 0 when it is too small for anything. */
static int open_writer(Writer *out, byte *at, size_t size) {
    if (!at || size < SLACK) return 0;
    *out = (Writer){at, at + (size - SLACK), 0};
    return 1;
}

/* Whether `times` as many bytes can still be written; else the output is full. */
static inline int has_room(Writer *out, size_t size, size_t times) {
    if (size > (size_t)(out->end - out->at) / times) out->full = 1;
    return !out->full;
}

static inline void put(Writer *out, const byte *at, size_t size) {
    if (!size || !has_room(out, size, 1)) return;
    memcpy(out->at, at, size);
    out->at += size;
}

static inline void put_piece(Writer *out, Piece piece) {
    put(out, piece.at, piece.size);
}

static inline void put_text(Writer *out, const char *text) {
    put(out, (const byte *)text, strlen(text));
}

static void put_number(Writer *out, uint64_t number) {
    byte digits[NUMBER_BYTES];
    size_t size = 0;
    do {
        digits[NUMBER_BYTES - ++size] = (byte)('0' + number % 10);
        number /= 10;
    } while (number);
    put(out, digits + NUMBER_BYTES - size, size);
}

/* ---- JSONL of question, think, answer ---- */

static const byte *skip_blank(const byte *at, const byte *end) {
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r')) at++;
    return at;
}

/* The closing quote of a string whose first byte is at a place. */
static const byte *find_quote(const byte *begin, const byte *end) {
    for (const byte *at = begin; at < end; at++) {
        at = memchr(at, '"', (size_t)(end - at));
        if (!at) return NULL;
        const byte *slash = at;
        while (slash > begin && slash[-1] == '\\') slash--;
        if ((at - slash) % 2 == 0) return at;
    }
    return NULL;
}

/* What follows a null, a truth value or an integer; NULL for all else. */
static const byte *skip_scalar(const byte *at, const byte *end) {
    static const char *const words[] = {"null", "true", "false"};
    for (size_t word = 0; word < 3; word++)
        if (starts_with(at, end, words[word])) return at + strlen(words[word]);
    if (at < end && *at == '-') at++;
    const byte *first = at;
    while (at < end && is_inside(*at, '0', '9')) at++;
    if (at == first || at - first > 18 || (*first == '0' && at - first > 1)) return NULL;
    return at;
}

/* Find the values of the line that begins at a place, and return its end; NULL when it is not an object of just
 * these columns. A line end inside a string is found when the string is copied. */
static const byte *find_values(const LinesJob *job, const byte *at, const byte *end, Piece *values) {
    if (*at++ != '{') return NULL;
    for (uint64_t column = 0; column < job->columns; column++) {
        Piece name = job->names[column];
        at = skip_blank(at, end);
        if ((size_t)(end - at) < name.size || memcmp(at, name.at, name.size)) return NULL;
        at = skip_blank(at + name.size, end);
        if (at == end || *at++ != ':') return NULL;
        at = skip_blank(at, end);
        if (at == end) return NULL;
        values[column] = (Piece){NULL, 0};
        if (*at == '"') {
            const byte *quote = find_quote(at + 1, end);
            if (!quote) return NULL;
            values[column] = (Piece){at + 1, (size_t)(quote - at - 1)};
            at = quote + 1;
        } else if (!(at = skip_scalar(at, end))) {
            return NULL;
        }
        at = skip_blank(at, end);
        if (at == end || *at++ != (column + 1 < job->columns ? ',' : '}')) return NULL;
    }
    at = skip_blank(at, end);
    return at == end || *at == '\n' ? at : NULL;
}

/* Write a string's text without white space at its ends; 0 when it is not plain, or nothing is left, or no room. */
static int put_value(Writer *out, Piece value) {
    if (!value.at || !has_room(out, value.size, 1)) return 0;
    const byte *begin = out->at, *end = copy_json(value.at, value.at + value.size, out->at);
    if (!end) return 0;
    strip(&begin, &end, 1);
    if (may_begin_thought(begin, end)) return 0;
    size_t size = (size_t)(end - begin);
    if (begin != out->at) memmove(out->at, begin, size);
    out->at += size;
    return size > 0;
}

/* Whether a string is valid JSON; it is written where the next text will stand. */
static int is_plain_value(Writer *out, Piece value) {
    return !value.at || (has_room(out, value.size, 1) && copy_json(value.at, value.at + value.size, out->at));
}

/* Write the record of a line's values; 0 when it is not plain, or there is no room. */
static int put_line(const LinesJob *job, const Piece *values, uint64_t row, Writer *out) {
    for (uint64_t column = 0; column < job->columns; column++) {
        int is_text = column == job->places[QUESTION] || column == job->places[THOUGHT] || column == job->places[ANSWER];
        if (!is_text && !is_plain_value(out, values[column])) return 0;
    }
    put_piece(out, job->before_question);
    if (!put_value(out, values[job->places[QUESTION]])) return 0;
    put_piece(out, job->before_thought);
    byte *thought = out->at;
    if (!put_value(out, values[job->places[THOUGHT]])) return 0;
    if (!job->writes_thought) out->at = thought;
    put_piece(out, job->before_answer);
    if (!put_value(out, values[job->places[ANSWER]])) return 0;
    put_piece(out, job->after_answer);
    put_number(out, row);
    put_text(out, "\"}\n");
    return !out->full;
}

/* Whether a job asks for three columns of its own that a line can have. */
static int is_sound(const LinesJob *job) {
    const uint64_t *place = job->places;
    if (!job->names || job->columns > MAX_COLUMNS) return 0;
    for (int text = 0; text < TEXTS; text++)
        if (place[text] >= job->columns) return 0;
    return place[QUESTION] != place[THOUGHT] && place[THOUGHT] != place[ANSWER] && place[QUESTION] != place[ANSWER];
}

void lfc_convert_lines(const LinesJob *job, const byte *data, size_t size, uint64_t row, byte *out, size_t out_size,
                       Done *done) {
    Writer writer;
    memset(done, 0, sizeof *done);
    if (!data || !is_sound(job) || !open_writer(&writer, out, out_size)) return;
    const byte *at = data, *end = data + size;
    while (at < end) {
        Piece values[MAX_COLUMNS];
        const byte *line_end = find_values(job, at, end, values);
        if (!line_end) break;
        byte *begin = writer.at;
        if (!put_line(job, values, row + done->rows, &writer)) {
            writer.at = begin;
            break;
        }
        at = line_end < end ? line_end + 1 : end;
        done->rows++;
    }
    done->records = done->rows;
    done->bytes_read = (uint64_t)(at - data);
    done->bytes_written = (uint64_t)(writer.at - out);
}

/* ---- ShareGPT columns ---- */

/* A part of what offsets lead into: from `first` to `last`, without it. */
typedef struct {
    size_t first, last;
} Span;

/* Read an item's two offsets; 0 when they do not lead into `size`. The caller knows that both are there. */
static int read_span(const byte *offsets, uint64_t item, uint64_t size, Span *span) {
    int32_t pair[2];
    memcpy(pair, offsets + item * sizeof pair[0], sizeof pair);
    if (pair[0] < 0 || pair[1] < pair[0] || (uint64_t)pair[1] > size) return 0;
    *span = (Span){(size_t)pair[0], (size_t)pair[1]};
    return 1;
}

static uint64_t read_role(const TurnsJob *job, uint64_t turn) {
    Span span;
    if (!read_span(job->role_offsets, turn, job->roles_size, &span)) return 0;
    size_t size = span.last - span.first;
    for (uint64_t name = 0; name < job->role_count; name++)
        if (size && job->role_names[name].size == size && !memcmp(job->role_names[name].at, job->roles + span.first, size))
            return job->role_codes[name];
    return 0;
}

/* A row's texts as they stand in Arrow, without white space at their ends, and, from their first use on, as they
 * stand escaped in the output. */
typedef struct {
    Piece raw[MAX_TURNS], written[MAX_TURNS];
    size_t turns;
    int has_system;
} Row;

/* Find a row's texts; 0 when its turns are not a question and an answer in turn, none of them empty. */
static int find_texts(const TurnsJob *job, Span turns, Row *row) {
    row->turns = turns.last - turns.first;
    if (!row->turns || row->turns > MAX_TURNS) return 0;
    row->has_system = read_role(job, turns.first) == SYSTEM;
    size_t first = (size_t)row->has_system;
    if ((row->turns - first) % 2 || row->turns == first) return 0;
    for (size_t place = 0; place < row->turns; place++) {
        uint64_t turn = turns.first + place;
        if (place >= first && read_role(job, turn) != ((place - first) % 2 ? ASSISTANT : USER)) return 0;
        Span text;
        if (!read_span(job->text_offsets, turn, job->texts_size, &text) || text.first == text.last) return 0;
        const byte *at = job->texts + text.first, *after = job->texts + text.last;
        strip(&at, &after, 0);
        if (at == after) return 0;
        row->raw[place] = (Piece){at, (size_t)(after - at)};
        row->written[place] = (Piece){NULL, 0};
    }
    return 1;
}

/* Write a row's text; 0 when it is not plain. */
static int put_turn(Row *row, size_t place, Writer *out) {
    Piece raw = row->raw[place], *written = &row->written[place];
    if (written->at) {
        put_piece(out, *written);
        return 1;
    }
    if (may_begin_thought(raw.at, raw.at + raw.size)) return 0;
    if (!has_room(out, raw.size, 6)) return 1;
    byte *after = escape_text(raw.at, raw.at + raw.size, out->at);
    if (!after) return 0;
    *written = (Piece){out->at, (size_t)(after - out->at)};
    out->at = after;
    return 1;
}

static int put_record(const TurnsJob *job, Row *row, size_t question, size_t history, uint64_t number, uint64_t answer,
                      Writer *out, Done *done) {
    put_piece(out, job->before_question);
    if (!put_turn(row, question, out)) return 0;
    put_piece(out, job->before_answer);
    if (!put_turn(row, question + 1, out)) return 0;
    put_piece(out, job->before_system);
    if (!row->has_system) put_piece(out, job->system);
    else if (!put_turn(row, 0, out)) return 0;
    put_piece(out, job->before_history);
    for (size_t place = history; place < question; place += 2) {
        put_text(out, place == history ? "[\"" : ",[\"");
        if (!put_turn(row, place, out)) return 0;
        put_text(out, "\",\"");
        if (!put_turn(row, place + 1, out)) return 0;
        put_text(out, "\"]");
    }
    put_piece(out, job->before_origin);
    put_number(out, number);
    if (answer) {
        put_text(out, "#");
        put_number(out, answer);
    }
    put_piece(out, job->line_end);
    done->records++;
    done->with_system += row->has_system || job->system.size;
    done->with_history += history < question;
    return 1;
}

/* Whether the texts that are not written are plain as well. */
static int are_others_plain(Row *row, Writer *out) {
    byte *begin = out->at;
    int are_plain = 1;
    for (size_t place = 0; place < row->turns && are_plain; place++) {
        if (!row->written[place].at) are_plain = put_turn(row, place, out);
        out->at = begin;
    }
    return are_plain;
}

static int put_row(const TurnsJob *job, uint64_t index, uint64_t number, Writer *out, Done *done) {
    Row row;
    Span turns;
    if (!read_span(job->offsets, index, job->all_turns, &turns) || !find_texts(job, turns, &row)) return 0;
    size_t first = (size_t)row.has_system, last = row.turns - 2;
    if (job->turns == EXPAND) {
        uint64_t answers = (row.turns - first) / 2;
        for (uint64_t answer = 1; answer <= answers; answer++)
            if (!put_record(job, &row, first + 2 * (answer - 1), first, number, answers > 1 ? answer : 0, out, done))
                return 0;
        return 1;
    }
    size_t question = job->turns == FIRST ? first : last;
    return put_record(job, &row, question, job->turns == ALL ? first : question, number, 0, out, done) &&
           are_others_plain(&row, out);
}

void lfc_convert_turns(const TurnsJob *job, uint64_t first, uint64_t last, uint64_t number, byte *out, size_t out_size,
                       Done *done) {
    Writer writer;
    memset(done, 0, sizeof *done);
    if (!job->offsets || !job->text_offsets || !job->role_offsets || !job->texts || !job->roles) return;
    if (!open_writer(&writer, out, out_size)) return;
    for (uint64_t row = first; row < last && row < job->rows; row++) {
        Done before = *done;
        byte *begin = writer.at;
        int is_plain = put_row(job, row, number + row, &writer, done);
        if (!is_plain || writer.full) {
            writer.at = begin;
            *done = before;
            break;
        }
        done->rows++;
    }
    done->bytes_written = (uint64_t)(writer.at - out);
}
