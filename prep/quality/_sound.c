/*
 * `prep.quality._sound`: which lines are plainly sound Alpaca rows, without a Python object for a row.
 *
 * A line is plainly sound when it has just the fields that convert writes, in their order, and lint.py would find nothing
 * in it under any think policy that allows its kind of thought. Of any other line nothing is said: Python looks at it.
 *
 * Nothing is read but between the ends of the data.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../rows/lines.h"

/* What a line is, in the order of `_SOUND` in sound_lines.py; 0 is for what Python has to look at. */
enum { OTHER, UNTAGGED, EMPTY_THOUGHT, WITH_THOUGHT };

/* What stands in a string. */
enum { MARKUP = 1, MEDIA = 2, OPENS = 4, CLOSES = 8, ENDS_A_TAG = 16, SWITCH = 32 };

/* Where `</think>` stood last, and how many of them and of `<think>` there are. */
typedef struct {
    int seen, opened, closed;
    const byte *close;
} Inside;

static byte is_odd[256];

static void sort_bytes(void) {
    for (int value = 0; value < 256; value++)
        is_odd[value] = value < ' ' || value > 126 || value == '"' || value == '\\' || value == '<' || value == '/';
}

/* Note what a `<` begins. */
static void look_at_tag(Text text, Inside *inside) {
    Text after = {text.at + 1, text.end};
    if (after.at == after.end) return;
    if (*after.at == '|') inside->seen |= MARKUP;
    else if (memchr("iva", *after.at, 3)) inside->seen |= MEDIA;
    else if (*after.at == '/' || starts_with(after, " /") || starts_with(after, "\\/")) inside->seen |= ENDS_A_TAG;
    if (starts_with(after, "think>")) inside->seen |= OPENS, inside->opened++;
    if (starts_with(after, "/think>")) inside->seen |= CLOSES, inside->closed++, inside->close = text.at;
}

/* Step over the inside of a string and its end; 0 when it is no JSON of a plain kind. `string` is what was inside. */
static int read_string(Text *line, Text *string, Inside *inside) {
    string->at = line->at;
    for (;;) {
        while (line->at < line->end && !is_odd[*line->at]) line->at++;
        if (line->at == line->end) return 0;
        byte value = *line->at;
        if (value == '"') break;
        if (value >= 0x80) {
            if (read_wide(line) == CODES) return 0;
            continue;
        }
        if (value == '\\') {
            /* A slash has one spelling, so that a tag has. */
            if (line->end - line->at < 2 || line->at[1] == '/' || !unescape(line->at[1])) return 0;
            line->at++;
        } else if (value == '<') {
            look_at_tag(*line, inside);
        } else if (value == '/') {
            if (starts_with(*line, "/think") || starts_with(*line, "/no_think")) inside->seen |= SWITCH;
        } else if (value != 127) {
            return 0;
        }
        line->at++;
    }
    string->end = line->at++;
    return 1;
}

/* Whether a character that is no white space for certain begins here. */
static int begins_with_ink(Text text) {
    if (text.at == text.end) return 0;
    if (*text.at > ' ' && *text.at < 127) return *text.at != '\\';
    uint32_t code = *text.at < 0x80 ? 0 : read_wide(&text);
    return (code > 0x3000 && code < 0xD800) || (code > 0xFF00 && code < 0xFFF0);
}

static int ends_with_ink(Text text) {
    const byte *at = text.end;
    while (at > text.at && text.end - at < 3 && is_rest(at[-1])) at--;
    if (at == text.at) return 0;
    at--;
    if (*at < 0x80 && at > text.at && at[-1] == '\\') return 0;
    return begins_with_ink((Text){at, text.end});
}

/* Whether an answer begins as no markup of a thought does. */
static int begins_plainly(Text text) {
    return begins_with_ink(text) && !memchr("<&[#*", *text.at, 5) &&
           (*text.at < 0xE3 || (*text.at >= 0xE4 && *text.at <= 0xE9));
}

static int read_output(Text *line) {
    static const char empty[] = "<think>\\n\\n</think>\\n\\n", open[] = "<think>\\n", close[] = "</think>\\n\\n";
    int is_empty = skip(line, empty), is_open = !is_empty && skip(line, open);
    Inside inside = {0, 0, 0, NULL};
    Text body;
    if (!read_string(line, &body, &inside) || inside.opened || (inside.seen & MARKUP)) return OTHER;
    if (!is_open) {
        if (inside.closed || (inside.seen & ENDS_A_TAG) || !begins_plainly(body)) return OTHER;
        return is_empty ? EMPTY_THOUGHT : UNTAGGED;
    }
    if (inside.closed != 1 || inside.close - body.at < 2 || memcmp(inside.close - 2, "\\n", 2)) return OTHER;
    Text thought = {body.at, inside.close - 2}, answer = {inside.close, body.end};
    /* A backslash before it would be the end of an escaped one. */
    if (thought.at == thought.end || thought.end[-1] == '\\' || !skip(&answer, close)) return OTHER;
    return begins_with_ink(thought) && ends_with_ink(thought) && begins_with_ink(answer) ? WITH_THOUGHT : OTHER;
}

/* Step over a history, `[["q","a"],…]`, of texts that nothing is wrong with. */
static int read_history(Text *line) {
    Inside inside = {0, 0, 0, NULL};
    Text question, answer;
    if (!skip(line, "[")) return 0;
    if (skip(line, "]")) return 1;
    do {
        if (!skip(line, "[\"") || !read_string(line, &question, &inside)) return 0;
        if (!skip(line, ",\"") || !read_string(line, &answer, &inside) || !skip(line, "]")) return 0;
        if (!begins_with_ink(question) || !begins_with_ink(answer)) return 0;
    } while (skip(line, ","));
    return !(inside.seen & (MARKUP | OPENS | CLOSES)) && skip(line, "]");
}

/* Judge a line and step over it and its end. */
static int judge(Text *line) {
    Inside asked = {0, 0, 0, NULL}, other = asked;
    Text instruction, unused;
    if (!skip(line, "{\"instruction\":\"") || !read_string(line, &instruction, &asked)) return OTHER;
    if (!skip(line, ",\"input\":\"") || !read_string(line, &unused, &asked)) return OTHER;
    if (!begins_with_ink(instruction) || (asked.seen & (MARKUP | MEDIA | SWITCH))) return OTHER;
    if (!skip(line, ",\"output\":\"")) return OTHER;
    int kind = read_output(line);
    if (!kind || !skip(line, ",\"system\":\"") || !read_string(line, &unused, &other)) return OTHER;
    if ((other.seen & MARKUP) || !skip(line, ",\"history\":") || !read_history(line)) return OTHER;
    if (!skip(line, ",\"origin\":\"") || !read_string(line, &unused, &other)) return OTHER;
    return skip(line, "}\n") ? kind : OTHER;
}

static PyObject *sort_lines(PyObject *module, PyObject *arguments) {
    (void)module;
    Py_buffer data, output;
    if (!PyArg_ParseTuple(arguments, "y*w*:sort_lines", &data, &output)) return NULL;
    Text rest = {data.buf, (const byte *)data.buf + data.len};
    byte *out = output.buf;
    Py_ssize_t lines = 0;
    Py_BEGIN_ALLOW_THREADS
    for (; rest.at < rest.end && lines < output.len; lines++) {
        Text line = rest;
        out[lines] = (byte)judge(&line);
        const byte *end = out[lines] ? line.at : memchr(rest.at, '\n', (size_t)(rest.end - rest.at));
        rest.at = !end ? rest.end : out[lines] ? end : end + 1;
    }
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&data);
    PyBuffer_Release(&output);
    return PyLong_FromSsize_t(lines);
}

/* ---- the module ---- */

static PyMethodDef methods[] = {
    {"sort_lines", sort_lines, METH_VARARGS, "Say of each line what it is, until the output is full; return how many."},
    {NULL, NULL, 0, NULL},
};

static int prepare(PyObject *module) {
    (void)module;
    sort_bytes();
    return 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, prepare}, {0, NULL}};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_sound", "Lines that are plainly sound.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__sound(void) {
    return PyModuleDef_Init(&definition);
}
