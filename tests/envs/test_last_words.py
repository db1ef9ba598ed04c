"""Last words: what is said is kept, the end of it quoted, and all of it can be forgotten."""

from __future__ import annotations

import os

from envs.last_words import LastWords


def test_what_is_forgotten_is_gone_and_what_follows_begins_anew() -> None:
    words = LastWords()
    os.write(words.fileno(), b"of the episode before\n")
    assert words.text() == "of the episode before"
    words.forget()
    assert (words.text(), words.size()) == ("", 0)
    assert words.quote() == "SUMO said nothing"
    os.write(words.fileno(), b"new\n")  # by somebody whose place in the file was further on
    assert (words.text(), words.size()) == ("new", 4)
    words.close()
    words.close()


def test_the_last_lines_are_quoted_as_one() -> None:
    words = LastWords()
    os.write(words.fileno(), b"".join(b"line %d\n\n" % number for number in range(1000)))
    assert words.quote() == "SUMO's last words: " + " / ".join(f"line {number}" for number in range(994, 1000))
    assert words.text(10).endswith("line 999")
    words.close()
