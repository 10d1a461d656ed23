/* Lines of fields with a delimiter, as spreadsheets write them → rows. */

#include "text.h"

typedef struct {
    const byte *at, *end;
    int is_last;
} Input;

/* Step over a field in quotes, up to what stands behind the last of them; 0 when that is not in sight. */
static int take_quoted(Input *in, Text *text) {
    const byte *begin = ++in->at;
    text->kind = RAW;
    for (;;) {
        const byte *quote = memchr(in->at, '"', (size_t)(in->end - in->at));
        if (!quote) return 0;
        if (in->end - quote > 1 && quote[1] == '"') {
            text->kind = DOUBLED;
            in->at = quote + 2;
            continue;
        }
        text->at = begin;
        text->size = (size_t)(quote - begin);
        in->at = quote + 1;
        /* At the end of what is there, it may be the first of two. */
        return in->at < in->end || in->is_last;
    }
}

static int take_bare(Input *in, byte delimiter, Text *text) {
    const byte *begin = in->at;
    while (in->at < in->end && *in->at != delimiter && *in->at != '\n' && *in->at != '\r' && *in->at) in->at++;
    *text = (Text){begin, (size_t)(in->at - begin), RAW};
    return in->at < in->end || in->is_last;
}

static uint64_t count_line_ends(const Text *text) {
    uint64_t count = 0;
    const byte *end = text->at + text->size;
    for (const byte *at = text->at; (at = memchr(at, '\n', (size_t)(end - at))); at++) count++;
    return count;
}

/* Whether a text has line ends of other systems or zeros, by which Python counts lines or stops. */
static int has_odd_bytes(const Text *text) {
    const byte *end = text->at + text->size;
    if (memchr(text->at, 0, text->size)) return 1;
    for (const byte *at = text->at; (at = memchr(at, '\r', (size_t)(end - at))); at++)
        if (end - at < 2 || at[1] != '\n') return 1;
    return 0;
}

/* Step over a line's end; 0 when there is none. */
static int take_line_end(Input *in) {
    if (in->at == in->end) return in->is_last;
    if (*in->at == '\r' && in->end - in->at > 1 && in->at[1] == '\n') in->at++;
    if (*in->at != '\n') return 0;
    in->at++;
    return 1;
}

/* Step over a line of as many fields as there are columns; 0 when it is not plain, not whole or has no text. */
static int take_fields(const Fields *fields, Input *in, Row *row, Piece *judged, uint64_t *line_ends) {
    int has_text = 0;
    *line_ends = 1;
    row->count = 0;
    row->system = row->input = row->thought = row->texts[0] = row->texts[1] = (Text){NULL, 0, RAW};
    for (uint64_t column = 0; column < fields->columns; column++) {
        Text text;
        if (column && (in->at == in->end || *in->at++ != fields->delimiter)) return 0;
        const byte *begin = in->at;
        int is_quoted = in->at < in->end && *in->at == '"';
        if (!(is_quoted ? take_quoted(in, &text) : take_bare(in, fields->delimiter, &text))) return 0;
        if (is_quoted && has_odd_bytes(&text)) return 0;
        if (is_quoted) *line_ends += count_line_ends(&text);
        has_text |= text.size > 0;
        for (uint64_t place = 0; place < fields->judged_count; place++)
            if (fields->judged[place] == column) judged[place] = (Piece){begin, (size_t)(in->at - begin)};
        switch (fields->uses[column]) {
        case QUESTION: row->texts[0] = text; break;
        case ANSWER: row->texts[1] = text; break;
        case THOUGHT: row->thought = text; break;
        case SYSTEM_PROMPT: row->system = text; break;
        case INPUT: row->input = text; break;
        case BLANK: case EMPTY: if (text.size) return 0; break;
        case TURNS: return 0;
        default: break;
        }
    }
    if (row->texts[0].at && row->texts[1].at) row->count = 2;
    return has_text && row->count && take_line_end(in);
}

static int is_sound(const Fields *fields) {
    if (!fields->uses || !fields->columns || fields->columns > MAX_COLUMNS || fields->judged_count > MAX_COLUMNS) return 0;
    for (uint64_t place = 0; place < fields->judged_count; place++)
        if (!fields->judged || !fields->judge || fields->judged[place] >= fields->columns) return 0;
    return 1;
}

void lfc_convert_fields(const Job *job, const Fields *fields, int is_last, const byte *data, size_t size, uint64_t row,
                        byte *out, size_t out_size, Done *done) {
    Writer writer;
    Row texts;
    Piece judged[MAX_COLUMNS];
    memset(done, 0, sizeof *done);
    if (!data || !is_sound(fields) || !lfc_open_writer(&writer, out, out_size)) return;
    Input in = {data, data + size, is_last};
    const byte *at = data;
    uint64_t line_ends;
    while (in.at < in.end && take_fields(fields, &in, &texts, judged, &line_ends)) {
        int verdict = fields->judged_count ? fields->judge(fields->context, judged) : 1;
        if (verdict < 0) break;
        if (!verdict) {
            done->rows++;
            done->filtered++;
        } else if (!lfc_put_row(job, &texts, row + done->rows, &writer, done)) {
            break;
        }
        at = in.at;
        done->line_ends += line_ends;
    }
    done->bytes_read = (uint64_t)(at - data);
    done->bytes_written = (uint64_t)(writer.at - out);
}
