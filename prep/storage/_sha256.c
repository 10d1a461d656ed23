/*
 * `prep.storage._sha256`: SHA-256 (FIPS 180-4) of two streams at a time, with the CPU's own instructions for it.
 *
 * One step of SHA-256 waits for the one before it, so a CPU that hashes one stream is idle half of the time; the steps
 * of a second stream fill that. `IS_FAST` is False where the CPU has no such instructions, or the compiler does not
 * know them: hashlib does the work there, and nothing here may be called.
 *
 * A stream is a State in a bytearray of Python's. The caller sees to it that no two calls share one.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>
#if defined(__GNUC__) && defined(__x86_64__)
#define HAS_INSTRUCTIONS 1
#include <cpuid.h>
#include <immintrin.h>
#else
#define HAS_INSTRUCTIONS 0
#endif

typedef unsigned char byte;

enum { BLOCK = 64, WORDS = 8, DIGEST = 32 };

typedef struct {
    uint32_t words[WORDS];
    uint64_t bytes;
    byte waiting[BLOCK];
} State;

static const State START = {
    {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}, 0, {0}};

#if HAS_INSTRUCTIONS

static const uint32_t constants[BLOCK] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

#define FOR_SHA __attribute__((target("sha,sse4.1,ssse3")))
#define INLINE static inline __attribute__((always_inline)) FOR_SHA

/* A stream's words as the instructions take them, and sixteen words of its message. */
typedef struct {
    __m128i abef, cdgh, message[4];
} Lane;

INLINE void open_lane(Lane *lane, const uint32_t *words) {
    __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)words), 0xB1);
    __m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(words + 4)), 0x1B);
    lane->abef = _mm_alignr_epi8(low, high, 8);
    lane->cdgh = _mm_blend_epi16(high, low, 0xF0);
}

INLINE void close_lane(const Lane *lane, uint32_t *words) {
    __m128i first = _mm_shuffle_epi32(lane->abef, 0x1B), last = _mm_shuffle_epi32(lane->cdgh, 0xB1);
    _mm_storeu_si128((__m128i *)words, _mm_blend_epi16(first, last, 0xF0));
    _mm_storeu_si128((__m128i *)(words + 4), _mm_alignr_epi8(last, first, 8));
}

INLINE void load_message(Lane *lane, const byte *at) {
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    for (int part = 0; part < 4; part++)
        lane->message[part] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(at + 16 * part)), big_endian);
}

/* Four rounds, and the message's words for those sixteen rounds later. */
INLINE void do_rounds(Lane *lane, int step) {
    __m128i *message = lane->message;
    __m128i words = _mm_add_epi32(message[step & 3], _mm_loadu_si128((const __m128i *)(constants + 4 * step)));
    lane->cdgh = _mm_sha256rnds2_epu32(lane->cdgh, lane->abef, words);
    lane->abef = _mm_sha256rnds2_epu32(lane->abef, lane->cdgh, _mm_shuffle_epi32(words, 0x0E));
    if (step >= 12) return;
    __m128i next = _mm_sha256msg1_epu32(message[step & 3], message[(step + 1) & 3]);
    next = _mm_add_epi32(next, _mm_alignr_epi8(message[(step + 3) & 3], message[(step + 2) & 3], 4));
    message[step & 3] = _mm_sha256msg2_epu32(next, message[(step + 3) & 3]);
}

INLINE void add_words(Lane *lane, const Lane *before) {
    lane->abef = _mm_add_epi32(lane->abef, before->abef);
    lane->cdgh = _mm_add_epi32(lane->cdgh, before->cdgh);
}

/* A macro, so that `step` is known when it is compiled: then the message stays in registers. */
#define STEP(step)                           \
    do_rounds(&one, step);                   \
    if (are_two) do_rounds(&other, step)

INLINE void hash_lanes(int are_two, uint32_t *words, const byte *at, uint32_t *other_words, const byte *other_at, size_t blocks) {
    Lane one, other;
    open_lane(&one, words);
    open_lane(&other, other_words);
    for (; blocks; blocks--, at += BLOCK, other_at += BLOCK) {
        Lane before = one, other_before = other;
        load_message(&one, at);
        if (are_two) load_message(&other, other_at);
        STEP(0); STEP(1); STEP(2); STEP(3); STEP(4); STEP(5); STEP(6); STEP(7);
        STEP(8); STEP(9); STEP(10); STEP(11); STEP(12); STEP(13); STEP(14); STEP(15);
        add_words(&one, &before);
        if (are_two) add_words(&other, &other_before);
    }
    close_lane(&one, words);
    if (are_two) close_lane(&other, other_words);
}

FOR_SHA static void hash_blocks(uint32_t *words, const byte *at, size_t blocks) {
    hash_lanes(0, words, at, words, at, blocks);
}

FOR_SHA static void hash_both(uint32_t *words, const byte *at, uint32_t *other_words, const byte *other_at, size_t blocks) {
    hash_lanes(1, words, at, other_words, other_at, blocks);
}

static int has_instructions(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 9 & 1) || !(c >> 19 & 1)) return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1);
}

#else

static void hash_blocks(uint32_t *words, const byte *at, size_t blocks) {
    (void)words, (void)at, (void)blocks;
}

static void hash_both(uint32_t *words, const byte *at, uint32_t *other_words, const byte *other_at, size_t blocks) {
    (void)words, (void)at, (void)other_words, (void)other_at, (void)blocks;
}

static int has_instructions(void) {
    return 0;
}

#endif

/* Fill up the block that waits; what is left of the data begins at `at`. */
static void fill_block(State *state, const byte **at, size_t *size) {
    size_t waiting = state->bytes % BLOCK, part = (BLOCK - waiting) % BLOCK;
    if (!part) return;
    if (part > *size) part = *size;
    memcpy(state->waiting + waiting, *at, part);
    state->bytes += part;
    *at += part;
    *size -= part;
    if (state->bytes % BLOCK == 0) hash_blocks(state->words, state->waiting, 1);
}

/* Hash whole blocks, and keep the rest, when no block waits. */
static void hash_rest(State *state, const byte *at, size_t size) {
    if (!size) return;
    hash_blocks(state->words, at, size / BLOCK);
    memcpy(state->waiting, at + size / BLOCK * BLOCK, size % BLOCK);
    state->bytes += size;
}

static void update(State *state, const byte *at, size_t size) {
    fill_block(state, &at, &size);
    hash_rest(state, at, size);
}

static void update_two(State *state, const byte *at, size_t size, State *other, const byte *other_at, size_t other_size) {
    fill_block(state, &at, &size);
    fill_block(other, &other_at, &other_size);
    size_t blocks = (size < other_size ? size : other_size) / BLOCK, both = blocks * BLOCK;
    hash_both(state->words, at, other->words, other_at, blocks);
    state->bytes += both;
    other->bytes += both;
    hash_rest(state, at + both, size - both);
    hash_rest(other, other_at + both, other_size - both);
}

static void finish(State *state, byte *digest) {
    static const byte end[BLOCK] = {0x80};
    uint64_t bits = state->bytes * 8;
    byte length[8];
    for (int place = 0; place < 8; place++) length[place] = (byte)(bits >> (56 - 8 * place));
    size_t waiting = state->bytes % BLOCK;
    update(state, end, (waiting < 56 ? 56 : 56 + BLOCK) - waiting);
    update(state, length, sizeof length);
    for (int place = 0; place < DIGEST; place++) digest[place] = (byte)(state->words[place / 4] >> (24 - 8 * (place % 4)));
}

/* ---- Python ---- */

/* Asked once: on a virtual machine each question is a call of its host. */
static int is_fast;

static int check(const Py_buffer *state) {
    if (!is_fast) PyErr_SetString(PyExc_RuntimeError, "this CPU has no instructions for SHA-256");
    else if (state->len != sizeof(State)) PyErr_SetString(PyExc_ValueError, "it is no state of a stream");
    return !PyErr_Occurred();
}

static PyObject *py_update(PyObject *module, PyObject *arguments) {
    (void)module;
    Py_buffer buffer, data;
    if (!PyArg_ParseTuple(arguments, "w*y*:update", &buffer, &data)) return NULL;
    int is_sound = check(&buffer);
    if (is_sound) {
        State state;
        Py_BEGIN_ALLOW_THREADS
        memcpy(&state, buffer.buf, sizeof state);
        update(&state, data.buf, (size_t)data.len);
        memcpy(buffer.buf, &state, sizeof state);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&buffer);
    PyBuffer_Release(&data);
    return is_sound ? Py_BuildValue("") : NULL;
}

static PyObject *py_update_two(PyObject *module, PyObject *arguments) {
    (void)module;
    Py_buffer buffer, data, other_buffer, other_data;
    if (!PyArg_ParseTuple(arguments, "w*y*w*y*:update_two", &buffer, &data, &other_buffer, &other_data)) return NULL;
    int is_sound = check(&buffer) && check(&other_buffer);
    if (is_sound) {
        State state, other;
        Py_BEGIN_ALLOW_THREADS
        memcpy(&state, buffer.buf, sizeof state);
        memcpy(&other, other_buffer.buf, sizeof other);
        update_two(&state, data.buf, (size_t)data.len, &other, other_data.buf, (size_t)other_data.len);
        memcpy(buffer.buf, &state, sizeof state);
        memcpy(other_buffer.buf, &other, sizeof other);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&buffer);
    PyBuffer_Release(&data);
    PyBuffer_Release(&other_buffer);
    PyBuffer_Release(&other_data);
    return is_sound ? Py_BuildValue("") : NULL;
}

static PyObject *py_digest(PyObject *module, PyObject *arguments) {
    (void)module;
    Py_buffer buffer;
    byte digest[DIGEST];
    if (!PyArg_ParseTuple(arguments, "y*:digest", &buffer)) return NULL;
    int is_sound = check(&buffer);
    if (is_sound) {
        State state;
        memcpy(&state, buffer.buf, sizeof state);
        finish(&state, digest);
    }
    PyBuffer_Release(&buffer);
    return is_sound ? PyBytes_FromStringAndSize((const char *)digest, DIGEST) : NULL;
}

static int add_constants(PyObject *module) {
    is_fast = has_instructions();
    PyObject *start = PyBytes_FromStringAndSize((const char *)&START, sizeof START);
    int failed = PyModule_AddObjectRef(module, "START", start);
    Py_XDECREF(start);
    return failed || PyModule_AddObjectRef(module, "IS_FAST", is_fast ? Py_True : Py_False) ? -1 : 0;
}

static PyMethodDef methods[] = {
    {"update", py_update, METH_VARARGS, "Hash more of a stream."},
    {"update_two", py_update_two, METH_VARARGS, "Hash more of two streams at once."},
    {"digest", py_digest, METH_VARARGS, "Return a stream's digest; the stream can go on."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{Py_mod_exec, add_constants}, {0, NULL}};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_sha256", "SHA-256 of two streams at a time.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__sha256(void) {
    return PyModuleDef_Init(&definition);
}
