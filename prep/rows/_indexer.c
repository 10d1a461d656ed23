/*
 * `prep.rows._indexer`: what the row index says of plain lines of Alpaca JSONL, without a Python object for a row.
 *
 * A line is plain when it has just the fields that convert writes, in their order, no character by its number (`\u`),
 * and a question of ASCII, Han and wide marks alone. The call stops before the first line that is not, or is of another
 * dataset. Python
 * describes one that is not plain and goes on, to the very same values (`describe_row` in indexing.py).
 *
 * Nothing is read but between the ends of the line, and nothing written but whole records into the output.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

typedef unsigned char byte;

typedef struct {
    const byte *at, *end;
} Piece;

/* What the index says of a line, but for where it lies; the kind is that of plain rows, 0. */
typedef struct {
    byte question[16], asked[16];
    uint64_t conversation;
    uint32_t size, characters;
    byte flags;
    Piece dataset;
} Record;

enum { WITH_SYSTEM = 1, WITH_HISTORY = 2, WITH_THOUGHT = 4, EMPTY_THOUGHT = 8 };

/* ---- BLAKE2b, RFC 7693, of 16 bytes and without a key ---- */

typedef struct {
    uint64_t state[8], bytes;
    byte block[128];
    size_t filled;
} Hash;

static const uint64_t iv[8] = {0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
                               0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};
static const byte sigma[12][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3}};

#ifdef __GNUC__
#define ALWAYS_INLINE inline __attribute__((always_inline))
#else
#define ALWAYS_INLINE inline
#endif

static inline uint64_t turn(uint64_t word, int bits) {
    return word >> bits | word << (64 - bits);
}

static uint64_t load8(const byte *at) {
    uint64_t word = 0;
    for (int place = 7; place >= 0; place--) word = word << 8 | at[place];
    return word;
}

static void store8(byte *at, uint64_t word) {
    for (int place = 0; place < 8; place++, word >>= 8) at[place] = (byte)word;
}

static ALWAYS_INLINE void mix(uint64_t *v, int a, int b, int c, int d, uint64_t x, uint64_t y) {
    v[a] += v[b] + x, v[d] = turn(v[d] ^ v[a], 32), v[c] += v[d];
    v[b] = turn(v[b] ^ v[c], 24), v[a] += v[b] + y;
    v[d] = turn(v[d] ^ v[a], 16), v[c] += v[d], v[b] = turn(v[b] ^ v[c], 63);
}

/* A macro, so that the numbers are known when it is compiled: then the words stay in registers. */
#define MIX(round, place, a, b, c, d) \
    mix(v, a, b, c, d, m[sigma[round][2 * (place)]], m[sigma[round][2 * (place) + 1]])
#define ROUND(round)                                                                                     \
    MIX(round, 0, 0, 4, 8, 12), MIX(round, 1, 1, 5, 9, 13), MIX(round, 2, 2, 6, 10, 14),                   \
        MIX(round, 3, 3, 7, 11, 15), MIX(round, 4, 0, 5, 10, 15), MIX(round, 5, 1, 6, 11, 12),             \
        MIX(round, 6, 2, 7, 8, 13), MIX(round, 7, 3, 4, 9, 14)

static void compress(Hash *hash, int is_last) {
    uint64_t v[16], m[16];
    for (int place = 0; place < 16; place++) m[place] = load8(hash->block + 8 * place);
    memcpy(v, hash->state, sizeof hash->state);
    memcpy(v + 8, iv, sizeof iv);
    v[12] ^= hash->bytes;
    if (is_last) v[14] = ~v[14];
    ROUND(0), ROUND(1), ROUND(2), ROUND(3), ROUND(4), ROUND(5);
    ROUND(6), ROUND(7), ROUND(8), ROUND(9), ROUND(10), ROUND(11);
    for (int place = 0; place < 8; place++) hash->state[place] ^= v[place] ^ v[place + 8];
}

static void begin(Hash *hash) {
    memset(hash, 0, sizeof *hash);
    memcpy(hash->state, iv, sizeof iv);
    hash->state[0] ^= 0x01010000 ^ 16;
}

static inline void add_byte(Hash *hash, byte value) {
    if (hash->filled == sizeof hash->block) {
        hash->bytes += hash->filled;
        compress(hash, 0);
        hash->filled = 0;
    }
    hash->block[hash->filled++] = value;
}

static void add(Hash *hash, const byte *at, const byte *end) {
    while (at < end) {
        if (hash->filled == sizeof hash->block) {
            hash->bytes += hash->filled;
            compress(hash, 0);
            hash->filled = 0;
        }
        size_t room = sizeof hash->block - hash->filled, size = (size_t)(end - at);
        if (size > room) size = room;
        memcpy(hash->block + hash->filled, at, size);
        hash->filled += size;
        at += size;
    }
}

static void finish(Hash *hash, byte *out) {
    hash->bytes += hash->filled;
    memset(hash->block + hash->filled, 0, sizeof hash->block - hash->filled);
    compress(hash, 1);
    store8(out, hash->state[0]);
    store8(out + 8, hash->state[1]);
}

/* ---- lines ---- */

/* Step over a text that must stand here. */
static int skip(Piece *line, const char *text) {
    size_t size = strlen(text);
    if ((size_t)(line->end - line->at) < size || memcmp(line->at, text, size)) return 0;
    line->at += size;
    return 1;
}

static inline int is_rest(byte value) {
    return (value & 0xC0) == 0x80;
}

/* Step over the inside of a string and its end; count its characters, an escaped one as one. */
static int read_string(Piece *line, Piece *text, uint32_t *characters) {
    const byte *at = line->at, *end = line->end;
    uint32_t count = 0;
    text->at = at;
    for (;;) {
#ifdef __SSE2__
        /* Bytes that go on with a character, counted for two halves. */
        __m128i rest = _mm_setzero_si128();
        const byte *begin_of_words = at;
        while (end - at >= 16) {
            __m128i word = _mm_loadu_si128((const __m128i *)at);
            __m128i marks = _mm_or_si128(_mm_cmpeq_epi8(word, _mm_set1_epi8('"')), _mm_cmpeq_epi8(word, _mm_set1_epi8('\\')));
            int found = _mm_movemask_epi8(marks);
            /* Signed: the rest of a character is below -64. */
            __m128i below = _mm_cmplt_epi8(word, _mm_set1_epi8(-64));
            if (found) {
                int before = __builtin_ctz((unsigned)found), going_on = _mm_movemask_epi8(below) & ((1 << before) - 1);
                for (; going_on; going_on &= going_on - 1) count--;
                at += before;
                break;
            }
            __m128i goes_on = _mm_and_si128(below, _mm_set1_epi8(1));
            rest = _mm_add_epi64(rest, _mm_sad_epu8(goes_on, _mm_setzero_si128()));
            at += 16;
        }
        rest = _mm_add_epi64(rest, _mm_srli_si128(rest, 8));
        count += (uint32_t)(at - begin_of_words) - (uint32_t)_mm_cvtsi128_si32(rest);
#endif
        while (at < end && *at != '"' && *at != '\\') count += !is_rest(*at++);
        if (at == end) return 0;
        if (*at == '"') break;
        if (end - at < 2 || !memchr("\"\\/bfnrt", at[1], 8)) return 0;
        at += 2;
        count++;
    }
    text->end = at;
    line->at = at + 1;
    *characters += count;
    return 1;
}

/* Step over a history, `[["q","a"],…]`. */
static int read_history(Piece *line, uint32_t *characters, int *has_turns) {
    Piece text;
    *has_turns = 0;
    if (!skip(line, "[")) return 0;
    if (skip(line, "]")) return 1;
    do {
        if (!skip(line, "[\"") || !read_string(line, &text, characters)) return 0;
        if (!skip(line, ",\"") || !read_string(line, &text, characters) || !skip(line, "]")) return 0;
    } while (skip(line, ","));
    *has_turns = 1;
    return skip(line, "]");
}

/* ---- questions: see normalise_question in questions.py ---- */

enum { MOST_WAITING = 512 };

/* What is kept of a question waits in `kept` to be hashed; `sign` is one that stood last. */
typedef struct {
    Hash hash;
    size_t written, waiting;
    byte sign, kept[MOST_WAITING + 8];
} Question;

/* Stands for a character that is dropped, and yet parts a sign from a digit. */
enum { MARK = ',' };

/* What a byte of a question is; all that is not named is dropped, and parts a sign from a digit. */
enum { DROPPED, KEPT, DIGIT, SIGN, WHITE, ODD };
static byte classes[256];
/* What is written for a byte, whether it is, the sign that it is, and whether one before it still counts after it. */
static byte folded[256], is_kept[256], signs[256], keeps_sign[256];

static void sort_bytes(void) {
    for (int value = 0; value < 256; value++) {
        int is_upper = value >= 'A' && value <= 'Z', is_letter = is_upper || (value >= 'a' && value <= 'z');
        byte class = value < ' ' || value > 127 || value == '\\'      ? ODD
                     : value == ' '                                 ? WHITE
                     : value >= '0' && value <= '9'                 ? DIGIT
                     : memchr(".-*/%:", value, 6)                   ? SIGN
                     : is_letter || memchr("$+<=>^|", value, 7)    ? KEPT
                                                                    : DROPPED;
        classes[value] = class;
        folded[value] = (byte)(is_upper ? value + 'a' - 'A' : value);
        is_kept[value] = class == DIGIT || class == KEPT;
        signs[value] = class == SIGN ? (byte)value : 0;
        keeps_sign[value] = class == WHITE ? 0xFF : 0;
    }
}

static void hash_waiting(Question *question) {
    add(&question->hash, question->kept, question->kept + question->waiting);
    question->written += question->waiting;
    question->waiting = 0;
}

/* Take a byte of ASCII. Few branches: a text is no rule by which a processor could guess them. */
static inline void put(Question *question, byte value) {
    if (question->sign && classes[value] == DIGIT) {
        /* U+E000 and the sign. */
        question->kept[question->waiting++] = 0xEE;
        question->kept[question->waiting++] = 0x80;
        question->kept[question->waiting++] = 0x80 | question->sign;
    }
    question->sign = (byte)((question->sign & keeps_sign[value]) | signs[value]);
    question->kept[question->waiting] = folded[value];
    question->waiting += is_kept[value];
    if (question->waiting > MOST_WAITING) hash_waiting(question);
}

/* Take one character outside ASCII, and return its bytes; 0 when only Python knows it. */
static int put_wide(Question *question, const byte *at, const byte *end) {
    if (end - at >= 2 && at[0] == 0xC2 && at[1] == 0xB7) return put(question, MARK), 2;
    if (end - at < 3 || (at[0] & 0xF0) != 0xE0 || !is_rest(at[1]) || !is_rest(at[2])) return 0;
    unsigned code = (at[0] & 0x0Fu) << 12 | (at[1] & 0x3Fu) << 6 | (at[2] & 0x3Fu);
    if (code >= 0x4E00 && code <= 0x9FEF) {
        question->sign = 0;
        memcpy(question->kept + question->waiting, at, 3);
        question->waiting += 3;
        if (question->waiting > MOST_WAITING) hash_waiting(question);
    } else if (code >= 0xFF01 && code <= 0xFF5E) {
        put(question, (byte)(code - 0xFF01 + '!'));
    } else if (code == 0x2014 || code == 0x2018 || code == 0x2019 || code == 0x201C || code == 0x201D ||
               code == 0x2026 || code == 0x3001 || code == 0x3002 || (code >= 0x3008 && code <= 0x3011)) {
        put(question, MARK);
    } else if (code != 0x3000) {
        return 0;
    }
    return 3;
}

/* Take bytes as `put` does, up to one that is odd or may begin a number behind a sign. */
static void put_many(Question *question, Piece *text) {
    const byte *at = text->at, *end = text->end;
    size_t room = MOST_WAITING - question->waiting;
    if ((size_t)(end - at) > room) end = at + room;
    byte *out = question->kept + question->waiting, sign = question->sign;
    for (; at < end; at++) {
        byte value = *at;
        if (classes[value] == ODD || (sign && classes[value] == DIGIT)) break;
        sign = (byte)((sign & keeps_sign[value]) | signs[value]);
        *out = folded[value];
        out += is_kept[value];
    }
    question->waiting = (size_t)(out - question->kept);
    question->sign = sign;
    text->at = at;
}

static int put_text(Question *question, Piece text) {
    while (text.at < text.end) {
        put_many(question, &text);
        if (text.at == text.end) break;
        byte value = *text.at;
        if (classes[value] != ODD) {
            put(question, value);
            text.at++;
        } else if (value & 0x80) {
            int size = put_wide(question, text.at, text.end);
            if (!size) return 0;
            text.at += size;
        } else {
            if (value != '\\') return 0;
            /* read_string saw that one more stands here. */
            value = text.at[1];
            text.at += 2;
            if (!memchr("nrtf", value, 4)) put(question, value == 'b' ? MARK : value);
        }
    }
    return 1;
}

/* ---- origins and thoughts ---- */

static int starts_with(Piece text, const char *start) {
    return skip(&text, start);
}

static int has_tag(Piece text) {
    const byte *at = text.at;
    while ((at = memchr(at, '<', (size_t)(text.end - at)))) {
        if (starts_with((Piece){at, text.end}, "<think>")) return 1;
        at++;
    }
    return 0;
}

/* Tell the thought of an output; 0 when only Python can. */
static int read_thought(Piece output, byte *flags) {
    static const char empty[] = "<think>\\n\\n</think>\\n\\n", block[] = "<think>\\n";
    if (starts_with(output, empty)) {
        *flags |= EMPTY_THOUGHT;
        return 1;
    }
    const byte *first = output.at + strlen(block);
    if (starts_with(output, block) && first < output.end && !memchr("\\ <", *first, 3) && *first < 0x80) {
        *flags |= WITH_THOUGHT;
        return 1;
    }
    /* White space outside ASCII is rare: a wide character that is a letter for certain is none. */
    if (starts_with(output, block) && first < output.end && *first >= 0xE4 && *first <= 0xE9) {
        *flags |= WITH_THOUGHT;
        return 1;
    }
    return !has_tag(output);
}

static const byte *skip_digits_back(const byte *begin, const byte *at) {
    while (at > begin && at[-1] >= '0' && at[-1] <= '9') at--;
    return at;
}

static int are_equal(Piece one, Piece other) {
    return one.end - one.at == other.end - other.at && !memcmp(one.at, other.at, (size_t)(one.end - one.at));
}

/* What was hashed for the line before, which the next answer of its conversation has too: the conversation's name, and
 * the context but for its last bracket, from where the hash goes on. */
typedef struct {
    Piece name, context;
    uint64_t conversation;
    Hash hash;
} Chain;

static uint64_t hash_conversation(Chain *chain, Piece name) {
    if (!chain->name.at || !are_equal(chain->name, name)) {
        Hash hash;
        byte made[16];
        begin(&hash);
        add(&hash, name.at, name.end);
        finish(&hash, made);
        chain->name = name;
        chain->conversation = load8(made) | 1;
    }
    return chain->conversation;
}

/* Read `<dataset>/<file>:<row>` with or without `#<answer>`; 0 when it is something else. */
static int read_origin(Piece origin, Record *record, Chain *chain) {
    const byte *slash = memchr(origin.at, '/', (size_t)(origin.end - origin.at));
    if (!slash || slash == origin.at || memchr(origin.at, '\\', (size_t)(origin.end - origin.at))) return 0;
    const byte *end = origin.end, *digits = skip_digits_back(slash, end);
    record->conversation = 0;
    if (digits < end && digits[-1] == '#') {
        int is_zero = 1;
        for (const byte *at = digits; at < end; at++) is_zero &= *at == '0';
        if (is_zero) return 0;
        end = digits - 1;
        digits = skip_digits_back(slash, end);
        record->conversation = hash_conversation(chain, (Piece){origin.at, end});
    }
    if (digits == end || digits[-1] != ':' || digits - 1 <= slash + 1) return 0;
    record->dataset = (Piece){origin.at, slash};
    return 1;
}

/* Hash a context and a question, as `describe_row` in indexing.py does. */
static void hash_asked(Chain *chain, Piece context, Record *record) {
    size_t size = (size_t)(context.end - 1 - context.at), known = (size_t)(chain->context.end - chain->context.at);
    if (!chain->context.at || known > size || memcmp(chain->context.at, context.at, known)) {
        begin(&chain->hash);
        known = 0;
    }
    add(&chain->hash, context.at + known, context.end - 1);
    chain->context = (Piece){context.at, context.end - 1};
    Hash hash = chain->hash;
    add(&hash, context.end - 1, context.end);
    add(&hash, record->question, record->question + sizeof record->question);
    finish(&hash, record->asked);
}

/* Describe a line, without its end; 0 when it is not plain. */
static int describe(Piece line, Record *record, Chain *chain) {
    uint32_t characters = 0, unused = 0;
    int has_turns;
    Piece instruction, input, output, system, origin;
    memset(record, 0, sizeof *record);
    record->size = (uint32_t)(line.end - line.at);
    if (!skip(&line, "{\"instruction\":\"") || !read_string(&line, &instruction, &characters)) return 0;
    if (!skip(&line, ",\"input\":\"") || !read_string(&line, &input, &characters)) return 0;
    if (!skip(&line, ",\"output\":\"") || !read_string(&line, &output, &characters)) return 0;
    const byte *context = line.at + 1;
    if (!skip(&line, ",\"system\":\"") || !read_string(&line, &system, &characters)) return 0;
    if (!skip(&line, ",\"history\":") || !read_history(&line, &characters, &has_turns)) return 0;
    const byte *context_end = line.at;
    if (!skip(&line, ",\"origin\":\"") || !read_string(&line, &origin, &unused) || !skip(&line, "}")) return 0;
    if (line.at != line.end || !read_origin(origin, record, chain)) return 0;
    record->flags = (byte)((system.at < system.end ? WITH_SYSTEM : 0) | (has_turns ? WITH_HISTORY : 0));
    if (!read_thought(output, &record->flags)) return 0;
    Question question;
    question.written = question.waiting = 0;
    question.sign = 0;
    begin(&question.hash);
    /* The line end between the two is white space. */
    if (!put_text(&question, instruction) || !put_text(&question, input)) return 0;
    hash_waiting(&question);
    if (!question.written) return 0;
    finish(&question.hash, record->question);
    memcpy(record->asked, record->question, sizeof record->asked);
    if (record->flags & (WITH_SYSTEM | WITH_HISTORY)) hash_asked(chain, (Piece){context, context_end}, record);
    record->characters = characters + (instruction.at < instruction.end && input.at < input.end);
    return 1;
}

/* Where each column of the output begins, of as many rows as fit: in the order of `_COLUMNS` in indexing.py. */
enum { QUESTION = 0, ASKED = 16, CONVERSATION = 32, SIZE = 40, CHARACTERS = 44, FLAGS = 48, ROW_BYTES = 49 };

static void put_record(byte *out, size_t room, size_t place, const Record *record) {
    memcpy(out + QUESTION * room + 16 * place, record->question, 16);
    memcpy(out + ASKED * room + 16 * place, record->asked, 16);
    memcpy(out + CONVERSATION * room + 8 * place, &record->conversation, 8);
    memcpy(out + SIZE * room + 4 * place, &record->size, 4);
    memcpy(out + CHARACTERS * room + 4 * place, &record->characters, 4);
    out[FLAGS * room + place] = record->flags;
}

static PyObject *describe_lines(PyObject *module, PyObject *arguments) {
    (void)module;
    Py_buffer data, output;
    Py_ssize_t start, read = 0;
    size_t done = 0;
    Piece dataset = {NULL, NULL};
    Chain chain = {.name = {NULL, NULL}, .context = {NULL, NULL}};
    if (!PyArg_ParseTuple(arguments, "y*nw*:describe_lines", &data, &start, &output)) return NULL;
    int is_sound = start >= 0 && start <= data.len;
    if (is_sound) {
        const byte *at = (const byte *)data.buf + start, *begin_of_all = at, *end = (const byte *)data.buf + data.len;
        size_t room = (size_t)output.len / ROW_BYTES;
        Py_BEGIN_ALLOW_THREADS
        while (at < end && done < room) {
            const byte *line_end = memchr(at, '\n', (size_t)(end - at));
            Record record;
            if (!line_end || line_end - at > INT32_MAX || !describe((Piece){at, line_end}, &record, &chain)) break;
            if (!done) dataset = record.dataset;
            else if (!are_equal(dataset, record.dataset)) break;
            put_record(output.buf, room, done++, &record);
            at = line_end + 1;
        }
        read = at - begin_of_all;
        Py_END_ALLOW_THREADS
    } else {
        PyErr_SetString(PyExc_ValueError, "start is out of range");
    }
    const char *name = dataset.at ? (const char *)dataset.at : "";
    PyObject *made = is_sound ? Py_BuildValue("(nny#)", (Py_ssize_t)done, read, name, (Py_ssize_t)(dataset.end - dataset.at)) : NULL;
    PyBuffer_Release(&data);
    PyBuffer_Release(&output);
    return made;
}

/* Find the origin that a line ends with, of which nothing is escaped; 0 when it does not. */
static int find_origin(Piece line, Piece *origin) {
    static const char before[] = ",\"origin\":\"";
    size_t size = sizeof before - 1;
    const byte *end = line.end - 2, *at = end;
    if (line.end - line.at < 2 || memcmp(end, "\"}", 2)) return 0;
    while (at > line.at && at[-1] != '"' && at[-1] != '\\') at--;
    if ((size_t)(at - line.at) < size || memcmp(at - size, before, size)) return 0;
    *origin = (Piece){at, end};
    return 1;
}

/* Copy the origin of each line, with a line end behind each, which is shorter than the line; return what was written,
 * NULL when a line has none that is plain. */
static byte *copy_origins(Piece lines, byte *out) {
    while (lines.at < lines.end) {
        Piece origin;
        const byte *end = memchr(lines.at, '\n', (size_t)(lines.end - lines.at));
        if (!end || !find_origin((Piece){lines.at, end}, &origin)) return NULL;
        size_t size = (size_t)(origin.end - origin.at);
        memcpy(out, origin.at, size);
        out[size] = '\n';
        out += size + 1;
        lines.at = end + 1;
    }
    return out;
}

static PyObject *list_origins(PyObject *module, PyObject *arguments) {
    (void)module;
    Py_buffer data;
    PyObject *made = NULL;
    if (!PyArg_ParseTuple(arguments, "y*:list_origins", &data)) return NULL;
    byte *out = PyMem_Malloc((size_t)data.len + 1);
    if (out) {
        const byte *at = data.buf;
        byte *end;
        Py_BEGIN_ALLOW_THREADS
        end = data.len ? copy_origins((Piece){at, at + data.len}, out) : out;
        Py_END_ALLOW_THREADS
        made = end ? PyBytes_FromStringAndSize((const char *)out, end - out) : Py_BuildValue("");
    } else {
        PyErr_NoMemory();
    }
    PyMem_Free(out);
    PyBuffer_Release(&data);
    return made;
}

/* ---- the module ---- */

static PyMethodDef methods[] = {
    {"list_origins", list_origins, METH_VARARGS, "List the origins of lines, or return None when one is not plain."},
    {"describe_lines", describe_lines, METH_VARARGS, "Describe lines until one is not plain or the output is full."},
    {NULL, NULL, 0, NULL},
};

static int prepare(PyObject *module) {
    (void)module;
    sort_bytes();
    return 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, prepare}, {0, NULL}};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_indexer", "What the row index says of plain lines.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__indexer(void) {
    return PyModuleDef_Init(&definition);
}
