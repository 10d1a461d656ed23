/*
 * Odd inputs for the files that convert rows, built with the address and undefined-behaviour sanitizers: `kernel_fuzz INPUTS SEED`.
 *
 * Every buffer is as large as it says and no larger, so that one byte beyond it is seen. Columns are for anything,
 * offsets are sound or anything at all.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../prep/convert/kernel.h"

static uint64_t state;
static uint64_t rows_converted[3];

static uint32_t draw(uint32_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return below ? (uint32_t)((state >> 20) % below) : 0;
}

static int one_in(uint32_t times) {
    return draw(times) == 0;
}

/* Memory of just this size; a copy of what stands at a place, unless that is NULL. */
static void *copy_exactly(const void *at, size_t size) {
    void *copy = malloc(size ? size : 1);
    if (!copy) abort();
    if (size && at) memcpy(copy, at, size);
    return copy;
}

/* ---- texts ---- */

static const char *const PARTS[] = {
    "a", "word ", "\"", "\\", "\\\"", "\\\\", "\\n", "\\u0061", "\\u4e2d", "\\ud83d\\ude00", "\\ud83d", "\\u00", "\\u003c",
    "<", "<|im_end|>", "<think>", "</think>", "<|", "</thi", "\\/", "中", "中文字中文字中文字", "é", "😀", "\xff", "\xe4\xb8",
    "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc2\xa0", "\xe3\x80\x80", "\xe2\x80\xa8", " ", "\t", "\n", "\r", "\x01", "\v", "\x1c",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "{", "}", ",", ":", "[", "\x7f", "\xc2\x85", "\"\""};
/* What may stand in any text of JSON. */
static const uint32_t TAME[] = {0, 1, 5, 6, 7, 8, 9, 19, 20, 21, 22, 23, 31, 38};
static const char *const THOUGHTS[] = {"<think>", "</think>", "<think>a</think>b", "<think> </think>b", "x"};

typedef struct {
    byte at[1 << 13];
    size_t size;
} Made;

static void add(Made *text, const void *at, size_t size) {
    if (size > sizeof text->at - text->size) return;
    memcpy(text->at + text->size, at, size);
    text->size += size;
}

static void add_words(Made *text, const char *words) {
    add(text, words, strlen(words));
}

static void add_parts(Made *text, uint32_t most, int is_tame) {
    if (one_in(12)) add_words(text, THOUGHTS[is_tame ? 2 : draw(5)]);
    for (uint32_t count = draw(most + 1); count; count--)
        add_words(text, PARTS[is_tame ? TAME[draw(sizeof TAME / sizeof *TAME)] : draw(sizeof PARTS / sizeof *PARTS)]);
}

static Piece copy_words(const char *words) {
    return (Piece){copy_exactly(words, strlen(words)), strlen(words)};
}

static Piece make_piece(uint32_t most) {
    Made text = {.size = 0};
    add_parts(&text, most, 0);
    return (Piece){copy_exactly(text.at, text.size), text.size};
}

/* A buffer of output: often far too small, now and then with room for all. */
static byte *make_output(size_t *size) {
    *size = one_in(2) ? 1 << 15 : draw(one_in(2) ? 64 : 700);
    return copy_exactly(NULL, *size);
}

static void spoil(Made *text) {
    for (uint32_t times = one_in(4) ? draw(4) : 0; times && text->size; times--) text->at[draw((uint32_t)text->size)] = (byte)draw(256);
    if (one_in(9)) text->size = draw((uint32_t)text->size + 1);
}

/* ---- jobs ---- */

enum { ROLE_NAMES = 3, FIELD_NAMES = 2, JOB_PIECES = 10 };

typedef struct {
    Job job;
    Piece pieces[JOB_PIECES], role_names[ROLE_NAMES], role_fields[FIELD_NAMES], text_fields[FIELD_NAMES];
    uint64_t codes[ROLE_NAMES];
} Given;

static void give_job(Given *given) {
    static const char *const roles[] = {"human", "gpt", "system"};
    memset(given, 0, sizeof *given);
    for (int piece = 0; piece < JOB_PIECES; piece++) given->pieces[piece] = make_piece(2);
    for (int role = 0; role < ROLE_NAMES; role++) {
        given->role_names[role] = copy_words(roles[role]);
        given->codes[role] = (const uint64_t[]){USER, ASSISTANT, SYSTEM}[role];
    }
    given->role_fields[0] = copy_words("from");
    given->role_fields[1] = copy_words("role");
    given->text_fields[0] = copy_words("value");
    given->text_fields[1] = copy_words("content");
    const Piece *p = given->pieces;
    given->job = (Job){p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], draw(4), draw(3), given->role_names,
                       given->codes, ROLE_NAMES, given->role_fields, given->text_fields, FIELD_NAMES, FIELD_NAMES};
}

static void drop(const Piece *pieces, size_t count) {
    for (size_t piece = 0; piece < count; piece++) free((void *)pieces[piece].at);
}

static void drop_job(Given *given) {
    drop(given->pieces, JOB_PIECES);
    drop(given->role_names, ROLE_NAMES);
    drop(given->role_fields, FIELD_NAMES);
    drop(given->text_fields, FIELD_NAMES);
}

static void check(const Done *done, size_t size, size_t out_size, int shape) {
    if (done->bytes_written > out_size || done->bytes_read > size || done->filtered > done->rows) abort();
    rows_converted[shape] += done->rows;
}

/* ---- objects ---- */

static void add_string(Made *text, int is_tame) {
    add_words(text, "\"");
    add_parts(text, 6, is_tame);
    add_words(text, one_in(90) ? "x" : "x\"");
}

static void add_value(Made *text, int depth) {
    static const char *const scalars[] = {"null", "true", "false", "0", "-1", "1.5", "2e-3", "\"\"", "[]", "{ }", "01", "1.",
                                          "9999999999999999999", "-", "1e999"};
    uint32_t kind = draw(depth > 20 ? 8 : 12);
    if (kind < 7) add_words(text, scalars[draw(one_in(60) ? 15 : 10)]);
    else if (kind == 7) add_string(text, !one_in(30));
    else {
        int is_list = kind < 10;
        add_words(text, is_list ? "[" : "{");
        for (uint32_t count = draw(4), place = 0; place < count; place++) {
            if (place) add_words(text, one_in(90) ? "" : ",");
            if (!is_list) {
                char key[16];
                snprintf(key, sizeof key, "\"%u\":", one_in(60) ? 0 : place);
                add_words(text, key);
            }
            add_value(text, depth + (one_in(40) ? 30 : 1));
        }
        add_words(text, is_list ? "]" : "}");
    }
}

static void add_turns(Made *text, int is_tame) {
    static const char *const roles[] = {"human", "gpt", "system", "tool"};
    add_words(text, "[");
    uint32_t has_system = one_in(4), wanted = 2 * draw(3) + (one_in(9) ? 1 : 2);
    for (uint32_t turn = 0; turn < wanted + has_system; turn++) {
        uint32_t role = one_in(90) ? draw(4) : turn < has_system ? 2 : (turn - has_system) % 2;
        if (turn) add_words(text, ",");
        add_words(text, one_in(2) ? "{\"from\":\"" : "{ \"role\": \"");
        add_words(text, roles[role]);
        add_words(text, one_in(2) ? "\",\"value\":" : "\" , \"content\" : ");
        add_string(text, is_tame);
        if (one_in(9)) add_words(text, one_in(2) ? ",\"weight\":null" : ",\"from\":null");
        add_words(text, "}");
    }
    add_words(text, "]");
}

static void add_use(Made *text, byte use, int is_tame) {
    if (use == TURNS) add_turns(text, is_tame);
    else if (use == BLANK || use == EMPTY) add_words(text, one_in(30) ? "[]" : one_in(2) ? "null" : "\"\"");
    else if (use == UNUSED || one_in(60)) add_value(text, 0);
    else add_string(text, is_tame);
}

static void draw_uses(byte *uses, uint64_t columns) {
    for (uint64_t column = 0; column < columns; column++) uses[column] = (byte)draw(one_in(50) ? 256 : USES);
    if (columns > 2 && !one_in(9)) {
        uint64_t first = draw((uint32_t)columns);
        for (uint64_t column = 0; column < columns; column++)
            if (uses[column] >= QUESTION) uses[column] = UNUSED;
        uses[first] = one_in(2) ? TURNS : QUESTION;
        if (uses[first] == QUESTION) uses[(first + 1) % columns] = ANSWER;
        if (one_in(2)) uses[(first + 2) % columns] = (byte)(one_in(2) ? SYSTEM_PROMPT : THOUGHT);
    }
}

static int judge(void *context, const Piece *values) {
    (void)context;
    /* Reads what it is given. */
    byte last = values[0].size ? values[0].at[values[0].size - 1] : 0;
    return (int)(last % 4) - 1 ? 1 : (int)draw(3) - 1;
}

static void fuzz_objects(const Job *job, byte *out, size_t out_size) {
    uint64_t columns = one_in(200) ? draw(MAX_COLUMNS + 2) : draw(5) + 2, form_count = one_in(99) ? draw(MAX_FORMS + 2) : 2;
    Piece names[MAX_COLUMNS + 2];
    Form forms[MAX_FORMS + 2];
    uint64_t judged[2] = {draw(one_in(20) ? 99 : (uint32_t)columns + 1), 0};
    for (uint64_t column = 0; column < columns; column++) {
        char name[24];
        snprintf(name, sizeof name, "\"%c%d\"", "qta"[draw(3)], (int)column);
        names[column] = copy_words(name);
    }
    for (uint64_t form = 0; form < form_count; form++) {
        forms[form].columns = columns < 64 ? (UINT64_C(1) << columns) - 1 : UINT64_MAX;
        if (form) forms[form].columns &= state;
        memset(forms[form].uses, 0, sizeof forms[form].uses);
        draw_uses(forms[form].uses, columns < MAX_COLUMNS ? columns : MAX_COLUMNS);
    }
    Objects objects = {names, columns, copy_exactly(forms, form_count * sizeof *forms), form_count, judged, one_in(4), judge, NULL};
    int is_array = one_in(2), is_tame = !one_in(4);
    Made text = {.size = 0};
    for (uint32_t count = draw(5) + 1; count; count--) {
        const Form *form = &forms[form_count && one_in(3) ? draw((uint32_t)form_count) : 0];
        uint32_t turned = one_in(6) && columns ? draw((uint32_t)columns) : 0, written = 0;
        add_words(&text, "{");
        for (uint64_t place = 0; place < columns; place++) {
            uint64_t column = (place + turned) % columns;
            if (column >= MAX_COLUMNS || !(form->columns >> column & 1)) continue;
            if (written++) add_words(&text, one_in(9) ? " ,\t" : ",");
            add(&text, names[column].at, names[column].size);
            add_words(&text, one_in(9) ? " : " : ":");
            add_use(&text, form->uses[column], is_tame);
        }
        add_words(&text, "}");
        if (one_in(90)) add_parts(&text, 2, 0);
        add_words(&text, is_array ? (count == 1 ? "]" : one_in(9) ? " ,\n" : ",") : one_in(20) ? "\r\n" : "\n");
    }
    spoil(&text);
    byte *data = copy_exactly(text.at, text.size);
    Done done;
    lfc_convert_objects(job, &objects, is_array, data, text.size, draw(1 << 30), out, out_size, &done);
    check(&done, text.size, out_size, 0);
    free(data);
    free((void *)objects.forms);
    drop(names, columns);
}

/* ---- fields ---- */

static void fuzz_fields(const Job *job, byte *out, size_t out_size) {
    uint64_t columns = one_in(200) ? draw(MAX_COLUMNS + 2) : draw(5) + 2;
    byte uses[MAX_COLUMNS + 2] = {0};
    draw_uses(uses, columns);
    for (uint64_t column = 0; column < columns; column++)
        if (uses[column] == TURNS && !one_in(30)) uses[column] = UNUSED;
    byte *own_uses = copy_exactly(uses, columns);
    uint64_t judged[1] = {draw(one_in(20) ? 99 : (uint32_t)columns)};
    Made text = {.size = 0};
    for (uint32_t count = draw(5) + 1; count; count--) {
        for (uint64_t column = 0; column < columns; column++) {
            if (column) add_words(&text, ",");
            int is_quoted = one_in(2), has_text = uses[column] != BLANK && uses[column] != EMPTY;
            if (is_quoted) add_words(&text, "\"");
            if (has_text) add_words(&text, is_quoted && one_in(4) ? "x\"\"y\n" : "x");
            if (has_text && !one_in(3)) add_parts(&text, 4, !one_in(4));
            if (is_quoted && !one_in(60)) add_words(&text, "\"");
        }
        add_words(&text, one_in(9) ? "\r\n" : "\n");
    }
    spoil(&text);
    byte *data = copy_exactly(text.at, text.size);
    Done done;
    Fields fields = {own_uses, columns, ',', judged, one_in(4), judge, NULL};
    lfc_convert_fields(job, &fields, (int)draw(2), data, text.size, draw(1 << 30), out, out_size, &done);
    check(&done, text.size, out_size, 1);
    free(data);
    free(own_uses);
}

/* ---- Arrow ---- */

enum { MOST_ITEMS = 64 };

/* Offsets of four or eight bytes in memory of just their size. */
static byte *pack_offsets(const int64_t *offsets, size_t count, uint64_t width) {
    byte *packed = copy_exactly(NULL, count * width);
    for (size_t place = 0; place < count; place++) {
        int32_t narrow = (int32_t)offsets[place];
        memcpy(packed + place * width, width == 4 ? (const void *)&narrow : (const void *)&offsets[place], width);
    }
    return packed;
}

static void spoil_offsets(int64_t *offsets, size_t count) {
    static const int64_t odd[] = {-1, INT32_MIN, INT32_MAX, INT64_MAX, INT64_MIN, 0, 1, 1 << 30};
    for (uint32_t times = draw(3) + 1; times; times--)
        offsets[draw((uint32_t)count)] = one_in(2) ? odd[draw(8)] : (int64_t)draw(4096) - 64;
}

/* A column of `count` items from `first` on, whose offsets lead into the text, or into `size` items without one. */
static Column make_column(int64_t *offsets, uint64_t first, uint64_t count, const Made *text) {
    if (one_in(6)) spoil_offsets(offsets, first + count + 1);
    uint64_t width = one_in(2) ? 4 : 8, bits = first + count;
    byte *valid = one_in(2) ? NULL : copy_exactly(NULL, (bits + 7) / 8);
    if (valid) memset(valid, one_in(3) ? (int)draw(256) : 0xFF, (bits + 7) / 8);
    return (Column){pack_offsets(offsets, bits + 1, width), valid,
                    text ? copy_exactly(text->at, text->size) : NULL, first, count, width, text ? text->size : 0};
}

static Column make_texts(uint64_t first, uint64_t count, const char *const *usual, uint32_t choices) {
    Made text = {.size = 0};
    int64_t offsets[2 * MOST_ITEMS + 1] = {0};
    for (uint64_t item = 0; item < first + count; item++) {
        if (usual) add_words(&text, usual[one_in(60) ? draw(choices) : item % 2]);
        else {
            if (!one_in(60)) add_words(&text, "x");
            add_parts(&text, 4, !one_in(20));
        }
        offsets[item + 1] = (int64_t)text.size;
    }
    return make_column(offsets, first, count, &text);
}

static void drop_column(const Column *column) {
    free((void *)column->offsets);
    free((void *)column->valid);
    free((void *)column->data);
}

static void fuzz_table(const Job *job, byte *out, size_t out_size) {
    static const char *const roles[] = {"human", "gpt", "system", "tool", ""};
    static const byte text_uses[] = {QUESTION, ANSWER, THOUGHT, SYSTEM_PROMPT, INPUT, EMPTY, BLANK, TURNS, UNUSED};
    uint64_t rows = draw(4) + 1, count = draw(5), turns = draw(MOST_ITEMS), first = one_in(2) ? 0 : draw(9);
    Column columns[5], lists[3];
    byte uses[5], skips[8];
    for (uint64_t column = 0; column < count; column++) {
        uses[column] = one_in(4) ? text_uses[draw(9)] : text_uses[column];
        columns[column] = make_texts(draw(9), one_in(50) ? draw(9) : rows, NULL, 0);
    }
    for (uint64_t row = 0; row < rows; row++) skips[row] = (byte)(one_in(8) ? draw(256) : 0);
    int64_t offsets[MOST_ITEMS] = {0};
    for (uint64_t row = 0; row < first + rows; row++) offsets[row + 1] = offsets[row] + 2 * (int64_t)draw((uint32_t)(turns / 2 / (first + rows)) + 1);
    lists[0] = make_column(offsets, first, rows, NULL);
    lists[1] = make_texts(0, turns, roles, 5);
    lists[2] = make_texts(0, turns, NULL, 0);
    int has_turns = one_in(2);
    byte *own_skips = one_in(2) ? NULL : copy_exactly(skips, rows);
    Table table = {copy_exactly(columns, count * sizeof *columns), copy_exactly(uses, count), own_skips, count, rows,
                   has_turns ? &lists[0] : NULL, &lists[1], &lists[2]};
    if (has_turns && !one_in(3)) {
        free((void *)table.uses);
        free((void *)table.columns);
        table.uses = NULL;
        table.columns = NULL;
        table.column_count = 0;
    }
    Done done;
    uint64_t begin = one_in(5) ? draw(6) : 0, last = one_in(5) ? state : rows;
    lfc_convert_table(job, &table, begin, last, draw(1 << 30), out, out_size, &done);
    check(&done, 0, out_size, 2);
    free(own_skips);
    free((void *)table.columns);
    free((void *)table.uses);
    for (uint64_t column = 0; column < count; column++) drop_column(&columns[column]);
    for (int list = 0; list < 3; list++) drop_column(&lists[list]);
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    uint64_t wanted = strtoull(arguments[1], NULL, 10);
    state = strtoull(arguments[2], NULL, 10) * UINT64_C(0x9E3779B97F4A7C15) + 1;
    for (uint64_t input = 0; input < wanted; input++) {
        Given given;
        size_t out_size;
        give_job(&given);
        byte *out = make_output(&out_size);
        uint32_t shape = draw(3);
        if (shape == 0) fuzz_objects(&given.job, out, out_size);
        else if (shape == 1) fuzz_fields(&given.job, out, out_size);
        else fuzz_table(&given.job, out, out_size);
        free(out);
        drop_job(&given);
    }
    printf("%llu inputs, rows converted: %llu objects, %llu fields, %llu tables\n", (unsigned long long)wanted,
           (unsigned long long)rows_converted[0], (unsigned long long)rows_converted[1], (unsigned long long)rows_converted[2]);
    return 0;
}
