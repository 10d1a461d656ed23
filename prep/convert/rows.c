/*
 * Plain rows to lines of Alpaca JSONL: the hot loop of `lfc prep convert`, without Python objects.
 *
 * A row is plain when its texts are valid UTF-8 without chat markup and with think tags, if any, as Qwen3 writes them,
 * and nothing else in it is out of the ordinary. Every function that converts rows stops before the first that is
 * not; Python converts that one and goes on, so that every fault is told of in one place. A plain row's lines are
 * the very bytes that Python would have written.
 *
 * Nothing here and in json.c, csv.c and arrow.c allocates or knows Python (that is `_kernelmodule.c`). It is safe by
 * itself, whatever the caller asks for: every write is checked against the end of the buffer that it was given, every
 * offset against what it leads into. Sizes are compared with what is left, never added up, so that no check can wrap.
 */

#include "text.h"

enum { NUMBER_BYTES = 20 };

static const char OPEN_TAG[] = "<think>", CLOSE_TAG[] = "</think>";

/* ---- writing ---- */

int lfc_open_writer(Writer *out, byte *at, size_t size) {
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

static inline void put_words(Writer *out, const char *words) {
    put(out, (const byte *)words, strlen(words));
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

/* Write a text without white space at its ends, and say what was written, which may be nothing; 0 when it is not
 * plain, or may begin a thought where that is asked. Without room it is plain as far as anyone knows. */
static int put_text(Writer *out, Text text, int is_answer, Piece *written) {
    *written = (Piece){out->at, 0};
    const byte *begin = text.at, *end = text.at + text.size;
    if (text.kind == JSON) {
        if (!has_room(out, text.size, 1)) return 1;
        begin = out->at;
        if (!(end = copy_json(text.at, end, out->at))) return 0;
        strip(&begin, &end, 1);
        if (is_answer && may_begin_thought(begin, end)) return 0;
        if (begin != out->at) memmove(out->at, begin, (size_t)(end - begin));
        written->size = (size_t)(end - begin);
    } else {
        strip(&begin, &end, 0);
        if (is_answer && may_begin_thought(begin, end)) return 0;
        if (!has_room(out, (size_t)(end - begin), 6)) return 1;
        byte *after = escape_text(begin, end, text.kind == DOUBLED, out->at);
        if (!after) return 0;
        written->size = (size_t)(after - out->at);
    }
    out->at += written->size;
    return 1;
}

/* ---- rows ---- */

uint64_t lfc_read_role(const Job *job, Piece name) {
    for (uint64_t role = 0; role < job->role_count; role++)
        if (name.size && job->role_names[role].size == name.size && !memcmp(job->role_names[role].at, name.at, name.size))
            return job->role_codes[role];
    return 0;
}

static const byte *find_words(const byte *at, const byte *end, const char *words) {
    for (; at < end; at++) {
        at = memchr(at, words[0], (size_t)(end - at));
        if (!at) return NULL;
        if (starts_with(at, end, words)) return at;
    }
    return NULL;
}

/* Take the thought out of an answer that begins with one; 0 when its tags are not one of each. */
static int part_answer(Text *answer, Text *thought) {
    *thought = (Text){NULL, 0, answer->kind};
    const byte *begin = answer->at, *end = answer->at + answer->size;
    strip(&begin, &end, answer->kind == JSON);
    if (!starts_with(begin, end, OPEN_TAG)) return 1;
    begin += strlen(OPEN_TAG);
    const byte *closed = find_words(begin, end, CLOSE_TAG);
    if (!closed) return 0;
    *thought = (Text){begin, (size_t)(closed - begin), answer->kind};
    closed += strlen(CLOSE_TAG);
    *answer = (Text){closed, (size_t)(end - closed), answer->kind};
    return 1;
}

/* Whether a question may be a chat as text, up to the mark of who is to answer: read_open_chat takes it apart. */
static int may_be_chat(Piece question) {
    if (!question.size) return 0;
    const byte *last = question.at + question.size - 1;
    int ends_open = *last == ':' || (question.size > 2 && !memcmp(last - 2, "\xEF\xBC\x9A", 3));
    return *question.at == '<' || *question.at == '[' || (ends_open && (*question.at > 'z' || !!strchr("#ABHTU", *question.at)));
}

/* Write a turn, of which something must be left; 0 when it is not plain. */
static int put_turn(Row *row, size_t place, Writer *out) {
    Piece *written = &row->written[place];
    if (written->at) {
        put_piece(out, *written);
        return 1;
    }
    Piece now;
    if (!put_text(out, row->texts[place], place % 2 != 0, &now) || (!now.size && !out->full)) return 0;
    if (place % 2 == 0 && may_be_chat(now)) return 0;
    if (!out->full) *written = now;
    return 1;
}

/* Write an answer behind its thought; 0 when one of them is not plain, or there are two thoughts. */
static int put_answer(const Job *job, Row *row, size_t place, Writer *out, Done *done) {
    byte *begin = out->at;
    Piece thought = {NULL, 0};
    put_piece(out, job->before_thought);
    if (row->thought.at && place == 1 && !put_text(out, row->thought, 1, &thought)) return 0;
    Text own = row->thoughts[place / 2];
    if (own.at && thought.size) return 0;
    if (own.at && !put_text(out, own, 0, &thought)) return 0;
    if (job->policy == STRIP || (job->policy == MASKED && !thought.size)) out->at = begin;
    else put_piece(out, job->after_thought);
    done->reasoning += thought.size && job->policy != STRIP;
    return put_turn(row, place, out);
}

static int put_system(const Job *job, Row *row, Writer *out, Done *done) {
    Piece written = {NULL, 0};
    if (row->system.at && !put_text(out, row->system, 0, &written)) return 0;
    if (!written.size) put_piece(out, job->system);
    done->with_system += written.size || job->system.size;
    return 1;
}

static int put_record(const Job *job, Row *row, size_t question, size_t history, uint64_t number, uint64_t answer,
                      Writer *out, Done *done) {
    Piece unused;
    put_piece(out, job->before_question);
    if (!put_turn(row, question, out)) return 0;
    put_piece(out, job->before_input);
    if (row->input.at && !put_text(out, row->input, 0, &unused)) return 0;
    put_piece(out, job->before_answer);
    if (!put_answer(job, row, question + 1, out, done)) return 0;
    put_piece(out, job->before_system);
    if (!put_system(job, row, out, done)) return 0;
    put_piece(out, job->before_history);
    for (size_t place = history; place < question; place += 2) {
        put_words(out, place == history ? "[\"" : ",[\"");
        if (!put_turn(row, place, out)) return 0;
        put_words(out, "\",\"");
        if (!put_turn(row, place + 1, out)) return 0;
        put_words(out, "\"]");
    }
    put_piece(out, job->before_origin);
    put_number(out, number);
    if (answer) {
        put_words(out, "#");
        put_number(out, answer);
    }
    put_piece(out, job->line_end);
    done->records++;
    done->with_history += history < question;
    return 1;
}

/* Whether the texts that are not written are plain as well. */
static int are_others_plain(Row *row, size_t answer, Writer *out) {
    byte *begin = out->at;
    Piece unused;
    for (size_t place = 0; place < row->count; place++) {
        Text thought = row->thoughts[place / 2];
        if (place % 2 && place != answer && thought.at && !put_text(out, thought, 0, &unused)) return 0;
        out->at = begin;
        if (!row->written[place].at && !put_turn(row, place, out)) return 0;
        out->at = begin;
    }
    return 1;
}

static int put_records(const Job *job, Row *row, uint64_t number, Writer *out, Done *done) {
    if (!row->count || row->count % 2 || row->count > MAX_TURNS) return 0;
    for (size_t place = 0; place < row->count; place++) row->written[place] = (Piece){NULL, 0};
    for (size_t place = 1; place < row->count; place += 2)
        if (!part_answer(&row->texts[place], &row->thoughts[place / 2])) return 0;
    if (job->turns == EXPAND) {
        uint64_t answers = row->count / 2;
        for (uint64_t answer = 1; answer <= answers; answer++)
            if (!put_record(job, row, 2 * (answer - 1), 0, number, answers > 1 ? answer : 0, out, done)) return 0;
        return 1;
    }
    size_t question = job->turns == FIRST ? 0 : row->count - 2;
    return put_record(job, row, question, job->turns == ALL ? 0 : question, number, 0, out, done) &&
           are_others_plain(row, question + 1, out);
}

int lfc_put_row(const Job *job, Row *row, uint64_t number, Writer *out, Done *done) {
    Done before = *done;
    byte *begin = out->at;
    int was_full = out->full;
    if (put_records(job, row, number, out, done) && !out->full) {
        done->rows++;
        return 1;
    }
    out->at = begin;
    out->full = was_full;
    *done = before;
    return 0;
}
