"""Which encoding a text is in: found when it is certain, asked for when it is not, never guessed."""

import codecs
from typing import BinaryIO, NamedTuple

from prep.errors import InputError, UserError

_CHUNK_BYTES = 1 << 20
_JUDGED_BYTES = 4 << 20
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Every Chinese text is full of these; nonsense that other encodings become is not.
_FREQUENT = frozenset(
    "的一是了我不人在他有这个上们来到时大地为子中你说生国年着就那和要她出也得里后自以会家可下而过天去能对小多然于心学么之都好看起发当没成"
    "只如事把还用第样道想作种开美总从无情己面最女但现前些所同日手又行意动方期它头经长儿回位分爱老因很给名法间斯知世什两次使身者被高已亲其"
    "进此话常与活正感见明问力理点文几定本公特做外孩相西果走将月十实向声车全信重三机工物气每并别真打太新比才便夫再书部水像眼等体却加电主"
    "界门利海受听表德少克代员许先口由死安写性马光白或住难望教命花结乐色更拉东神记处让母父应直字场平报友关放至张认接告入笑内英军候民岁往"
    "何度山觉路带万男边风解叫任金快原吃妈变通师立象数四失满战远格士音轻目条呢请谢您查单货退款钱发票答客户服务商品订"
)
# GB2312's first level, its punctuation and full-width forms: what nearly all of a Chinese text is.
_COMMON_LEADS = range(0xB0, 0xD8)
_SIGN_LEADS = (0xA1, 0xA3)
_KANA = (0x3040, 0x30FF)
_LEAST_COMMON, _LEAST_FREQUENT, _MOST_KANA = 0.9, 0.12, 0.02
_LEAST_ZEROS = 0.3
_HINT = "--encoding NAME says it (gb18030, big5, shift_jis, euc_kr, cp1252 …); in Excel, save it as CSV UTF-8"


class Encoding(NamedTuple):
    """An encoding that Python knows, and a note of how it was found; "" for plain UTF-8."""

    name: str
    note: str


def find_encoding(name: str, stream: BinaryIO, wanted: str) -> Encoding:
    """Return how to decode a stream, which is read to its end; `name` is the file's, for messages.

    Raises: InputError when it is in no encoding that is certain; UserError for an unknown one.
    """
    if wanted:
        return Encoding(_look_up(wanted), "")
    head = stream.read(_CHUNK_BYTES)
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return Encoding(encoding, "" if encoding == "utf-8-sig" else f"read as {encoding.upper()}")
    if bare := _find_bare_utf16(head):
        return Encoding(bare, f"read as {bare.upper()}")
    decoder = codecs.getincrementaldecoder("utf-8")()
    judged, data = bytearray(), head
    is_utf8, has_zero = True, False
    while data:
        # What is ASCII need not become a text to be judged, unless a character is cut in two before it.
        if is_utf8 and not (data.isascii() and not decoder.getstate()[0]):
            try:
                decoder.decode(data)
            except UnicodeDecodeError:
                is_utf8 = False
        has_zero = has_zero or b"\0" in data
        judged += data[: max(_JUDGED_BYTES - len(judged), 0)]
        data = stream.read(_CHUNK_BYTES)
        if not is_utf8 and len(judged) >= _JUDGED_BYTES:
            break
    if is_utf8 and not _ends_amid(decoder):
        return Encoding("utf-8", "")
    if not has_zero and _is_chinese(bytes(judged)):
        return Encoding("gb18030", "read as GB18030 (GBK)")
    raise InputError(f"{name} is not in UTF-8, and in no encoding that is certain", hint=_HINT)


def _look_up(wanted: str) -> str:
    try:
        return codecs.lookup(wanted).name
    except (LookupError, ValueError) as error:
        raise UserError(f"--encoding {wanted} is not known", hint="utf-8, gb18030, utf-16, big5 …") from error


def _ends_amid(decoder: codecs.IncrementalDecoder) -> bool:
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return True
    return False


def _find_bare_utf16(head: bytes) -> str | None:
    """Tell UTF-16 without its mark: commas, digits and line ends leave a zero at every other byte."""
    sample = head[:4096]
    if len(sample) < 2:
        return None
    zeros = [sample[start::2].count(0) / (len(sample) // 2) for start in (0, 1)]
    if zeros[0] > _LEAST_ZEROS and not zeros[1]:
        return "utf-16-be"
    return "utf-16-le" if zeros[1] > _LEAST_ZEROS and not zeros[0] else None


def _is_chinese(data: bytes) -> bool:
    """Whether bytes are GB18030 beyond doubt: they decode, to the characters that Chinese texts are made of."""
    try:
        text = codecs.getincrementaldecoder("gb18030")().decode(data)
    except UnicodeDecodeError:
        return False
    wide = [character for character in text if ord(character) > 0x7F]
    common = sum(map(_is_common, wide))
    frequent = sum(character in _FREQUENT for character in wide)
    kana = sum(_KANA[0] <= ord(character) <= _KANA[1] for character in wide)
    enough = len(wide) or 1
    return (
        common >= _LEAST_COMMON * enough
        and frequent >= max(_LEAST_FREQUENT * enough, 1)
        and kana <= _MOST_KANA * enough
    )


def _is_common(character: str) -> bool:
    packed = character.encode("gb18030")
    return len(packed) == 2 and (packed[0] in _COMMON_LEADS or packed[0] in _SIGN_LEADS) and packed[1] > 0xA0
