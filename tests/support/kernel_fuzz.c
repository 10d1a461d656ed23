/*
 * Odd inputs for prep/convert/kernel.c, built with the address and undefined-behaviour sanitizers: `kernel_fuzz INPUTS SEED`.
 *
 * Every buffer is as large as it says and no larger, so that one byte beyond it is seen. A third of the inputs are
 * lines and two thirds conversations; jobs map any column to any text, offsets are sound or anything at all.
 */

#include <stdio.h>
#include <stdlib.h>

#include "../../prep/convert/kernel.c"

static uint64_t state;
static uint64_t rows_converted;

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
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "{", "}", ",", ":", "[", "\x7f", "\xc2\x85"};

typedef struct {
    byte at[1 << 13];
    size_t size;
} Text;

static void add(Text *text, const void *at, size_t size) {
    if (size > sizeof text->at - text->size) return;
    memcpy(text->at + text->size, at, size);
    text->size += size;
}

static void add_words(Text *text, const char *words) {
    add(text, words, strlen(words));
}

static void add_parts(Text *text, uint32_t most, int is_tame) {
    static const uint32_t tame[] = {0, 1, 5, 6, 7, 8, 9, 19, 20, 21, 22, 23, 31, 38};
    for (uint32_t count = draw(most + 1); count; count--) {
        uint32_t part = is_tame ? tame[draw(sizeof tame / sizeof *tame)] : draw(sizeof PARTS / sizeof *PARTS);
        add_words(text, PARTS[part]);
    }
}

static Piece make_piece(uint32_t most) {
    Text text = {.size = 0};
    add_parts(&text, most, 0);
    return (Piece){copy_exactly(text.at, text.size), text.size};
}

static void drop_piece(Piece piece) {
    free((void *)piece.at);
}

/* A buffer of output: often far too small, now and then with room for all. */
static byte *make_output(size_t *size) {
    *size = one_in(3) ? 1 << 14 : draw(one_in(2) ? 64 : 700);
    return copy_exactly(NULL, *size);
}

/* ---- lines ---- */

static void add_value(Text *text, int is_tame) {
    static const char *const scalars[] = {"null", "true", "false", "0", "-1", "01", "1.5", "[1]", "9999999999999999999", "-"};
    if (one_in(4)) {
        add_words(text, scalars[draw(is_tame ? 5 : 10)]);
        return;
    }
    add_words(text, "\"");
    add_words(text, is_tame ? "x" : "");
    add_parts(text, 6, is_tame);
    add_words(text, one_in(40) ? "" : "\"");
}

static void add_line(Text *text, const Piece *names, uint64_t columns, const uint64_t *places) {
    int is_tame = !one_in(3);
    add_words(text, "{");
    for (uint64_t column = 0; column < columns; column++) {
        int is_text = column == places[0] || column == places[1] || column == places[2];
        if (column) add_words(text, one_in(9) ? " ,\t" : ",");
        add(text, names[column].at, names[column].size);
        add_words(text, one_in(9) ? " : " : ":");
        if (is_text && is_tame) {
            add_words(text, "\"x");
            add_parts(text, 8, 1);
            add_words(text, "\"");
        } else {
            add_value(text, is_tame);
        }
    }
    add_words(text, "}");
    if (one_in(50)) add_parts(text, 2, 0);
}

static void spoil(Text *text) {
    for (uint32_t times = one_in(4) ? draw(4) : 0; times && text->size; times--) text->at[draw((uint32_t)text->size)] = (byte)draw(256);
    if (one_in(9)) text->size = draw((uint32_t)text->size + 1);
}

static void fuzz_lines(uint64_t columns, const uint64_t *places) {
    Piece names[MAX_COLUMNS + 2];
    for (uint64_t column = 0; column < columns; column++) {
        char name[24];
        int size = snprintf(name, sizeof name, "\"%c%d\"", "qta"[draw(3)], (int)column);
        names[column] = (Piece){copy_exactly(name, (size_t)size), (size_t)size};
    }
    LinesJob job = {.names = names, .columns = columns, .writes_thought = draw(2)};
    memcpy(job.places, places, sizeof job.places);
    job.before_question = make_piece(2);
    job.before_thought = make_piece(2);
    job.before_answer = make_piece(2);
    job.after_answer = make_piece(3);
    Text text = {.size = 0};
    for (uint32_t count = draw(5) + 1; count; count--) {
        add_line(&text, names, columns, places);
        add_words(&text, one_in(20) ? "\r\n" : "\n");
    }
    spoil(&text);
    byte *data = copy_exactly(text.at, text.size);
    size_t out_size;
    byte *out = make_output(&out_size);
    Done done;
    lfc_convert_lines(&job, data, text.size, draw(1 << 30), out, out_size, &done);
    if (done.bytes_written > out_size || done.bytes_read > text.size || done.rows != done.records) abort();
    rows_converted += done.rows;
    free(out);
    free(data);
    for (uint64_t column = 0; column < columns; column++) drop_piece(names[column]);
    drop_piece(job.before_question);
    drop_piece(job.before_thought);
    drop_piece(job.before_answer);
    drop_piece(job.after_answer);
}

static void fuzz_any_lines(void) {
    uint64_t columns = one_in(200) ? draw(MAX_COLUMNS + 2) : draw(7), places[TEXTS];
    for (int text = 0; text < TEXTS; text++) places[text] = one_in(30) ? state : draw((uint32_t)columns + 1);
    if (columns >= 3 && !one_in(3)) {
        places[0] = draw((uint32_t)columns);
        places[1] = (places[0] + 1) % columns;
        places[2] = (places[0] + 2) % columns;
    }
    fuzz_lines(columns, places);
}

/* ---- conversations ---- */

enum { MOST_TURNS = 12 };

static void spoil_offsets(int32_t *offsets, size_t count) {
    static const int32_t odd[] = {-1, INT32_MIN, INT32_MAX, 0, 1, 1 << 30};
    for (uint32_t times = draw(3) + 1; times; times--)
        offsets[draw((uint32_t)count)] = one_in(2) ? odd[draw(6)] : (int32_t)draw(4096) - 64;
}

static void fuzz_turns(void) {
    static const char *const roles[] = {"human", "gpt", "system", "tool", ""};
    static const uint64_t codes[] = {USER, ASSISTANT, SYSTEM};
    Text texts = {.size = 0}, names = {.size = 0};
    int32_t text_offsets[4 * MOST_TURNS + 1] = {0}, role_offsets[4 * MOST_TURNS + 1] = {0}, offsets[5] = {0};
    uint64_t rows = draw(4) + 1, turns = 0;
    for (uint64_t row = 0; row < rows; row++) {
        uint32_t wanted = draw(MOST_TURNS), has_system = one_in(3);
        for (uint32_t turn = 0; turn < wanted; turn++, turns++) {
            uint32_t role = turn < has_system ? 2 : (turn - has_system) % 2;
            add_words(&names, roles[one_in(60) ? draw(5) : role]);
            if (!one_in(60)) add_words(&texts, "x");
            add_parts(&texts, 6, !one_in(20));
            role_offsets[turns + 1] = (int32_t)names.size;
            text_offsets[turns + 1] = (int32_t)texts.size;
        }
        offsets[row + 1] = (int32_t)turns;
    }
    if (one_in(3)) spoil_offsets(offsets, rows + 1);
    if (one_in(3)) spoil_offsets(text_offsets, turns + 1);
    if (one_in(3)) spoil_offsets(role_offsets, turns + 1);
    Piece role_names[3];
    for (int role = 0; role < 3; role++) role_names[role] = (Piece){(const byte *)roles[role], strlen(roles[role])};
    TurnsJob job = {
        .offsets = copy_exactly(offsets, (rows + 1) * sizeof *offsets),
        .text_offsets = copy_exactly(text_offsets, (turns + 1) * sizeof *text_offsets),
        .role_offsets = copy_exactly(role_offsets, (turns + 1) * sizeof *role_offsets),
        .texts = one_in(99) ? NULL : copy_exactly(texts.at, texts.size),
        .roles = one_in(99) ? NULL : copy_exactly(names.at, names.size),
        .rows = rows,
        .all_turns = turns,
        .texts_size = texts.size,
        .roles_size = names.size,
        .role_names = role_names,
        .role_codes = codes,
        .role_count = 3,
        .turns = draw(4),
        .system = make_piece(2),
        .before_question = make_piece(2),
        .before_answer = make_piece(2),
        .before_system = make_piece(2),
        .before_history = make_piece(2),
        .before_origin = make_piece(2),
        .line_end = make_piece(1),
    };
    size_t out_size;
    byte *out = make_output(&out_size);
    Done done;
    uint64_t first = one_in(5) ? draw(6) : 0, last = one_in(5) ? state : rows;
    lfc_convert_turns(&job, first, last, draw(1 << 30), out, out_size, &done);
    if (done.bytes_written > out_size || done.rows > rows) abort();
    rows_converted += done.rows;
    free(out);
    const Piece made[] = {job.system, job.before_question, job.before_answer, job.before_system, job.before_history, job.before_origin, job.line_end};
    for (size_t piece = 0; piece < sizeof made / sizeof *made; piece++) drop_piece(made[piece]);
    const byte *const buffers[] = {job.offsets, job.text_offsets, job.role_offsets, job.texts, job.roles};
    for (size_t buffer = 0; buffer < sizeof buffers / sizeof *buffers; buffer++) free((void *)buffers[buffer]);
}

/* Every mapping of three texts to up to six columns, and to one that is not there. */
static uint64_t fuzz_every_mapping(void) {
    uint64_t inputs = 0, places[TEXTS];
    for (uint64_t columns = 0; columns <= 6; columns++)
        for (places[0] = 0; places[0] <= columns; places[0]++)
            for (places[1] = 0; places[1] <= columns; places[1]++)
                for (places[2] = 0; places[2] <= columns; places[2]++, inputs++) fuzz_lines(columns, places);
    return inputs;
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    uint64_t wanted = strtoull(arguments[1], NULL, 10);
    state = strtoull(arguments[2], NULL, 10) * UINT64_C(0x9E3779B97F4A7C15) + 1;
    uint64_t inputs = fuzz_every_mapping();
    for (; inputs < wanted; inputs++) {
        if (draw(3)) fuzz_turns();
        else fuzz_any_lines();
    }
    printf("%llu inputs, %llu rows converted\n", (unsigned long long)inputs, (unsigned long long)rows_converted);
    return 0;
}
