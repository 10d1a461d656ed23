/*
 * Objects of JSON, one a line or in an array → rows. Values that are not used are judged as strictly as those that
 * are: what is no JSON, names a key twice or is rare (long numbers, deep nesting, odd escapes in keys) is not plain.
 */

#include "text.h"

/* A longer row is looked at by Python, which weighs what it would become. */
enum { MAX_ROW_BYTES = 4 << 20, MAX_DEPTH = 16, MAX_KEYS = 32, MAX_DIGITS = 18, MAX_TURN_KEYS = 8 };

typedef struct {
    const byte *at, *end;
} Input;

static inline void skip_white(Input *in) {
    while (in->at < in->end && (*in->at == ' ' || *in->at == '\n' || *in->at == '\r' || *in->at == '\t')) in->at++;
}

static inline int take(Input *in, byte wanted) {
    if (in->at == in->end || *in->at != wanted) return 0;
    in->at++;
    return 1;
}

/* Step over white space, a byte and white space. */
static inline int take_sign(Input *in, byte wanted) {
    skip_white(in);
    if (!take(in, wanted)) return 0;
    skip_white(in);
    return 1;
}

static int take_piece(Input *in, Piece piece) {
    if ((size_t)(in->end - in->at) < piece.size || memcmp(in->at, piece.at, piece.size)) return 0;
    in->at += piece.size;
    return 1;
}

/* ---- values that are not used ---- */

/* Step over an escape, whose backslash stands here; 0 when JSON has none such, or half of a surrogate pair. */
static int skip_escape(Input *in) {
    if (in->end - in->at < 2) return 0;
    byte letter = in->at[1];
    in->at += 2;
    if (letter != 'u') return letter && strchr("\"\\/nrtbf", letter) != NULL;
    int code = read_hex(in->at, in->end);
    if (code < 0) return 0;
    in->at += 4;
    if (code < 0xD800 || code > 0xDFFF) return 1;
    if (code > 0xDBFF || in->end - in->at < 6 || in->at[0] != '\\' || in->at[1] != 'u') return 0;
    int low = read_hex(in->at + 2, in->end);
    in->at += 6;
    return low >= 0xDC00 && low <= 0xDFFF;
}

/* Step over ASCII without quotes, backslashes and control characters, as far as many bytes at once show it. */
static inline void skip_ordinary(Input *in) {
#ifdef __SSE2__
    while (in->end - in->at >= 16) {
        __m128i word = _mm_loadu_si128((const __m128i *)in->at);
        __m128i special = _mm_cmplt_epi8(word, _mm_set1_epi8(' '));
        special = _mm_or_si128(special, _mm_cmpeq_epi8(word, _mm_set1_epi8('"')));
        special = _mm_or_si128(special, _mm_cmpeq_epi8(word, _mm_set1_epi8('\\')));
        int found = _mm_movemask_epi8(special);
        in->at += found ? __builtin_ctz((unsigned)found) : 16;
        if (found) return;
    }
#else
    (void)in;
#endif
}

/* Step over the rest of a string and its end; 0 when it is not valid. */
static int skip_string(Input *in) {
    while (in->at < in->end) {
        skip_ordinary(in);
        if (in->at == in->end) return 0;
        byte value = *in->at;
        if (value == '"') return in->at++, 1;
        if (value == '\\') {
            if (!skip_escape(in)) return 0;
        } else if (value < 0x20) {
            return 0;
        } else {
            size_t size = measure_utf8(in->at, in->end);
            if (!size) return 0;
            in->at += size;
        }
    }
    return 0;
}

static size_t skip_digits(Input *in) {
    const byte *begin = in->at;
    while (in->at < in->end && is_inside(*in->at, '0', '9')) in->at++;
    return (size_t)(in->at - begin);
}

static int skip_number(Input *in) {
    take(in, '-');
    const byte *first = in->at;
    size_t digits = skip_digits(in);
    if (!digits || digits > MAX_DIGITS || (*first == '0' && digits > 1)) return 0;
    if (take(in, '.') && !skip_digits(in)) return 0;
    if (in->at < in->end && (*in->at | 0x20) == 'e') {
        in->at++;
        if (!take(in, '-')) take(in, '+');
        digits = skip_digits(in);
        if (!digits || digits > 2) return 0;
    }
    return 1;
}

static int skip_word(Input *in) {
    static const char *const words[] = {"null", "true", "false"};
    for (size_t word = 0; word < 3; word++)
        if (starts_with(in->at, in->end, words[word])) return in->at += strlen(words[word]), 1;
    return 0;
}

/* Step over a key without escapes, and give what stands between its quotes. */
static int take_key(Input *in, Piece *key) {
    if (!take(in, '"')) return 0;
    const byte *begin = in->at;
    if (!skip_string(in)) return 0;
    *key = (Piece){begin, (size_t)(in->at - 1 - begin)};
    return !memchr(begin, '\\', key->size);
}

/* Take note of a key; 0 when it was there before, or there are too many to say. */
static int note_key(Piece *keys, size_t *count, size_t most, Piece key) {
    for (size_t place = 0; place < *count; place++)
        if (keys[place].size == key.size && !memcmp(keys[place].at, key.at, key.size)) return 0;
    if (*count == most) return 0;
    keys[(*count)++] = key;
    return 1;
}

static int skip_value(Input *in, int depth);

static int skip_object(Input *in, int depth) {
    Piece keys[MAX_KEYS], key;
    size_t count = 0;
    skip_white(in);
    if (take(in, '}')) return 1;
    do {
        skip_white(in);
        if (!take_key(in, &key) || !note_key(keys, &count, MAX_KEYS, key) || !take_sign(in, ':')) return 0;
        if (!skip_value(in, depth)) return 0;
        skip_white(in);
    } while (take(in, ','));
    return take(in, '}');
}

static int skip_list(Input *in, int depth) {
    skip_white(in);
    if (take(in, ']')) return 1;
    do {
        skip_white(in);
        if (!skip_value(in, depth)) return 0;
        skip_white(in);
    } while (take(in, ','));
    return take(in, ']');
}

static int skip_value(Input *in, int depth) {
    if (in->at == in->end || depth == MAX_DEPTH) return 0;
    if (take(in, '"')) return skip_string(in);
    if (take(in, '{')) return skip_object(in, depth + 1);
    if (take(in, '[')) return skip_list(in, depth + 1);
    return *in->at == '-' || is_inside(*in->at, '0', '9') ? skip_number(in) : skip_word(in);
}

/* ---- values that are used ---- */

/* Step over the rest of a string and its end, and give the text, which is judged when it is copied. */
static int take_text(Input *in, Text *text) {
    const byte *begin = in->at;
    for (const byte *at = begin; at < in->end; at++) {
        at = memchr(at, '"', (size_t)(in->end - at));
        if (!at) return 0;
        const byte *slash = at;
        while (slash > begin && slash[-1] == '\\') slash--;
        if ((at - slash) % 2) continue;
        *text = (Text){begin, (size_t)(at - begin), JSON};
        in->at = at + 1;
        return 1;
    }
    return 0;
}

/* Step over a value that must hold nothing, or only no text. */
static int skip_nothing(Input *in, int may_be_list) {
    if (starts_with(in->at, in->end, "null")) return in->at += 4, 1;
    if (starts_with(in->at, in->end, "\"\"")) return in->at += 2, 1;
    if (!may_be_list) return 0;
    if (take(in, '[')) return skip_white(in), take(in, ']');
    if (take(in, '{')) return skip_white(in), take(in, '}');
    return 0;
}

static int is_named(const Piece *names, uint64_t count, Piece name) {
    for (uint64_t place = 0; place < count; place++)
        if (names[place].size == name.size && !memcmp(names[place].at, name.at, name.size)) return 1;
    return 0;
}

/* Step over the rest of a turn, an object with a role and a text and nothing beside them that is not null. */
static int take_turn(const Job *job, Input *in, uint64_t *role, Text *text) {
    Piece keys[MAX_TURN_KEYS], key;
    size_t count = 0;
    *role = 0;
    *text = (Text){NULL, 0, JSON};
    do {
        skip_white(in);
        if (!take_key(in, &key) || !note_key(keys, &count, MAX_TURN_KEYS, key) || !take_sign(in, ':')) return 0;
        if (starts_with(in->at, in->end, "null")) {
            in->at += 4;
        } else if (!*role && is_named(job->role_fields, job->role_field_count, key)) {
            Text name;
            if (!take(in, '"') || !take_text(in, &name)) return 0;
            if (!(*role = lfc_read_role(job, (Piece){name.at, name.size}))) return 0;
        } else if (!text->at && is_named(job->text_fields, job->text_field_count, key)) {
            if (!take(in, '"') || !take_text(in, text)) return 0;
        } else {
            return 0;
        }
        skip_white(in);
    } while (take(in, ','));
    return take(in, '}') && *role && text->at;
}

/* Step over the rest of a list of turns: a question and an answer in turn, after a system prompt or none. */
static int take_turns(const Job *job, Input *in, Row *row, Text *system) {
    do {
        uint64_t role;
        Text text;
        skip_white(in);
        if (!take(in, '{') || !take_turn(job, in, &role, &text)) return 0;
        skip_white(in);
        if (role == SYSTEM && !row->count && !system->at) {
            *system = text;
        } else {
            if (row->count == MAX_TURNS || role != (row->count % 2 ? ASSISTANT : USER)) return 0;
            row->texts[row->count++] = text;
        }
    } while (take(in, ','));
    return take(in, ']');
}

/* Step over a text that may be null, unless there must be one. */
static int take_optional(Input *in, Text *text, int is_needed) {
    if (take(in, '"')) return take_text(in, text);
    if (is_needed || !starts_with(in->at, in->end, "null")) return 0;
    in->at += 4;
    return 1;
}

/* ---- rows ---- */

typedef struct {
    Row row;
    Text system_turn;
    Piece judged[MAX_COLUMNS];
    uint64_t columns;
} Object;

static int take_value(const Job *job, Input *in, byte use, Object *object) {
    Row *row = &object->row;
    switch (use) {
    case QUESTION: return take_optional(in, &row->texts[0], 1);
    case ANSWER: return take_optional(in, &row->texts[1], 1);
    case THOUGHT: return take_optional(in, &row->thought, 0);
    case SYSTEM_PROMPT: return take_optional(in, &row->system, 0);
    case INPUT: return take_optional(in, &row->input, 0);
    case TURNS: return take(in, '[') && take_turns(job, in, row, &object->system_turn);
    case BLANK: return skip_nothing(in, 0);
    case EMPTY: return skip_nothing(in, 1);
    default: return skip_value(in, 0);
    }
}

/* Step over a key, and say which column it is: mostly the one after the last. MAX_COLUMNS when nobody knows it. */
static uint64_t take_column(const Objects *objects, Input *in, uint64_t likely) {
    if (likely < objects->columns && take_piece(in, objects->names[likely])) return likely;
    for (uint64_t column = 0; column < objects->columns; column++)
        if (take_piece(in, objects->names[column])) return column;
    return MAX_COLUMNS;
}

/* Step over an object, read as a form says; 0 when it is not plain. */
static int take_object(const Job *job, const Objects *objects, const Form *form, Input *in, Object *object) {
    Row *row = &object->row;
    row->count = 0;
    row->system = row->input = row->thought = row->texts[0] = row->texts[1] = object->system_turn = (Text){NULL, 0, JSON};
    object->columns = 0;
    for (uint64_t place = 0; place < objects->judged_count; place++) object->judged[place] = (Piece){NULL, 0};
    uint64_t column = MAX_COLUMNS;
    if (!take(in, '{')) return 0;
    do {
        skip_white(in);
        column = take_column(objects, in, column == MAX_COLUMNS ? 0 : column + 1);
        if (column == MAX_COLUMNS || object->columns >> column & 1 || !take_sign(in, ':')) return 0;
        object->columns |= UINT64_C(1) << column;
        const byte *begin = in->at;
        if (!take_value(job, in, form->uses[column], object)) return 0;
        for (uint64_t place = 0; place < objects->judged_count; place++)
            if (objects->judged[place] == column) object->judged[place] = (Piece){begin, (size_t)(in->at - begin)};
        skip_white(in);
    } while (take(in, ','));
    return take(in, '}');
}

/* Make one row of what an object held; 0 when that leaves a choice. */
static int settle(Object *object) {
    Row *row = &object->row;
    if (row->texts[0].at && row->texts[1].at && !row->count) row->count = 2;
    if (object->system_turn.at) {
        if (row->system.at && row->system.size) return 0;
        row->system = object->system_turn;
    }
    return row->count > 0;
}

static const Form *find_form(const Objects *objects, uint64_t columns) {
    for (uint64_t form = 0; form < objects->form_count; form++)
        if (objects->forms[form].columns == columns) return &objects->forms[form];
    return NULL;
}

/* Step over an object of any form; the form it has is the one that is tried first next time. */
static int take_any(const Job *job, const Objects *objects, const Form **form, Input *in, Object *object) {
    const byte *begin = in->at;
    if (!take_object(job, objects, *form, in, object)) return 0;
    if (object->columns != (*form)->columns) {
        const Form *other = find_form(objects, object->columns);
        if (!other) return 0;
        *form = other;
        in->at = begin;
        if (!take_object(job, objects, other, in, object)) return 0;
    }
    return settle(object);
}

/* Say where a row of the data begins and what it may not go beyond; 0 when there is none. */
static int open_row(const byte *at, const byte *end, int is_array, Input *in) {
    *in = (Input){at, end};
    if (is_array) {
        skip_white(in);
    } else {
        const byte *line_end = memchr(at, '\n', (size_t)(end - at));
        if (line_end) in->end = line_end;
    }
    return in->at < in->end;
}

/* Step over what stands behind a row; 0 when that is something else. */
static int close_row(Input *in, const byte *end, int is_array) {
    skip_white(in);
    if (is_array) return in->at < in->end && (*in->at == ']' || take(in, ','));
    if (in->at < in->end) return 0;
    if (in->at < end) in->at++;
    return 1;
}

static int is_sound(const Objects *objects) {
    if (!objects->names || !objects->forms || !objects->form_count || objects->form_count > MAX_FORMS) return 0;
    if (objects->columns > MAX_COLUMNS || objects->judged_count > MAX_COLUMNS) return 0;
    return !objects->judged_count || (objects->judged && objects->judge);
}

static int judge(const Objects *objects, const Object *object) {
    for (uint64_t place = 0; place < objects->judged_count; place++)
        if (!object->judged[place].at) return -1;
    return objects->judged_count ? objects->judge(objects->context, object->judged) : 1;
}

void lfc_convert_objects(const Job *job, const Objects *objects, int is_array, const byte *data, size_t size, uint64_t row,
                         byte *out, size_t out_size, Done *done) {
    Writer writer;
    Object object;
    memset(done, 0, sizeof *done);
    if (!data || !is_sound(objects) || !lfc_open_writer(&writer, out, out_size)) return;
    const byte *at = data, *end = data + size;
    const Form *form = objects->forms;
    Input in;
    while (at < end && open_row(at, end, is_array, &in)) {
        const byte *begin = in.at;
        if (!take_any(job, objects, &form, &in, &object) || in.at - begin > MAX_ROW_BYTES || !close_row(&in, end, is_array)) break;
        int verdict = judge(objects, &object);
        if (verdict < 0) break;
        if (!verdict) {
            /* Nobody copies its texts, but they must be sound for it to be a row. */
            Input again = {begin, in.end};
            if (!skip_value(&again, 0)) break;
            done->rows++;
            done->filtered++;
        } else if (!lfc_put_row(job, &object.row, row + done->rows, &writer, done)) {
            break;
        } else {
            done->forms |= UINT64_C(1) << (form - objects->forms);
        }
        at = in.at;
        if (is_array && at < end && *at == ']') break;
    }
    done->bytes_read = (uint64_t)(at - data);
    done->bytes_written = (uint64_t)(writer.at - out);
}
