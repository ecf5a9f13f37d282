"""Numbers from texts, against the SHA-256 that FIPS 180-4 publishes for "abc"."""

from __future__ import annotations

from tonemill.pipelines.hashing import number_of


def test_a_number_is_the_beginning_of_the_published_digest() -> None:
    assert number_of("abc") == 0xBA7816BF8F01CFEA
    assert number_of("abc", 6) == 0xBA7816BF8F01


def test_a_name_that_is_no_text_has_a_number() -> None:
    assert number_of("caf\udce9.wav") == number_of("caf\\udce9.wav")
