r"""Text of files and strangers as it may be shown: on a terminal, in a log, in a page.

A file's name, a page's digest or a model's card may hold escape sequences that draw over what a
terminal shows, line breaks that forge lines, letters that turn the direction of writing, and
surrogates, which no UTF-8 holds. Here they are written out: "\x1b", "\n", "\u202e", "\ud800".
"""

import re

# What a spreadsheet takes for the beginning of a formula: OWASP, CSV injection. In Japanese and
# Chinese settings the wide letters, too.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")

_LONGEST_NAME = 255  # letters; file systems take as many bytes


def shown_name(name: str) -> str:
    r"""Return a name as one line of text that shows what it hides.

    Bytes that are no UTF-8 (as os.fsdecode stands for them) and letters that are not seen, such as
    those that turn the direction of writing, are written out.

    >>> shown_name("caf\udce9\n.mp4"), shown_name("clip\u202e4pm.exe"), shown_name("\ud800")
    ('caf\\xe9\\n.mp4', 'clip\\u202e4pm.exe', '\\ud800')
    """
    if name.isprintable():
        return name
    return "".join(letter if letter.isprintable() else _written_out(letter) for letter in name)


def shown_text(text: str) -> str:
    r"""Return text that keeps its lines and tabs, and shows what else it hides, as shown_name does.

    >>> shown_text("two\nlines\x1b[2J\r")
    'two\nlines\\x1b[2J\\r'
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else _written_out(letter)
        for letter in text
    )


def shown_message(text: str) -> str:
    r"""Return a message of several lines in which no name can begin a line of its own.

    Lines after the first are kept where they are indented, as our messages write them; the end of a
    line before any other text is written out.

    >>> shown_message("found:\n  a.mp4\nreport  matches")
    'found:\n  a.mp4\\nreport  matches'
    """
    first, *others = shown_text(text).split("\n")
    return first + "".join(
        f"\n{line}" if line.startswith(("  ", "\t")) or not line else f"\\n{line}"
        for line in others
    )


def clean_name(name: str) -> str:
    r"""Return the name of a file that somebody sends, as it may be kept, shown and sent on.

    It is one line of at most 255 letters that UTF-8 can hold. A name that is longer keeps its
    beginning and its end.

    >>> clean_name("a\ud800.mp4"), len(clean_name("a" * 1000 + ".mp4"))
    ('a\\ud800.mp4', 255)
    """
    text = shown_name(_shortened(name))  # which may be longer once more
    return _shortened(text)


def plain_cell(text: str) -> str:
    r"""Return text for a CSV that people open: a spreadsheet must not take it for a formula.

    Such text gets an apostrophe before it, by which spreadsheets know text; cell_text takes that
    away again.

    >>> plain_cell("=1+1"), plain_cell("'=x"), plain_cell("clip.mp4"), plain_cell("'a'")
    ("'=1+1", "''=x", 'clip.mp4', "'a'")
    """
    return f"'{text}" if _FORMULA.match(text) else text


def cell_text(cell: str) -> str:
    """Return the text that plain_cell made a cell of.

    >>> [cell_text(plain_cell(text)) for text in ("=1+1", "'=x", "clip.mp4", "'a'")]
    ['=1+1', "'=x", 'clip.mp4', "'a'"]
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST_NAME:
        return text
    half = _LONGEST_NAME // 2
    return f"{text[:half]}…{text[-half:]}"


def _written_out(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode's stand-in for a byte
        return f"\\x{code - 0xDC00:02x}"
    if 0xD800 <= code <= 0xDFFF:  # no codec but surrogatepass encodes these
        return f"\\u{code:04x}"
    return letter.encode("unicode_escape").decode()
