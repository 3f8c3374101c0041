"""The vault: sealed bytes open with a key of the ring, in the place that they were sealed for."""

from __future__ import annotations

import os

import pytest

from app.bff.crypto import Unsealable, Vault

OLD, NEW = os.urandom(32), os.urandom(32)
PLACE = "session/alice"


def test_sealed_bytes_open_unchanged():
    vault = Vault([NEW])

    assert vault.open(vault.seal(b"refresh token", place=PLACE), place=PLACE) == b"refresh token"


def test_sealed_bytes_do_not_show_their_content():
    assert b"refresh token" not in Vault([NEW]).seal(b"refresh token", place=PLACE)


def test_the_same_content_is_never_sealed_to_the_same_bytes():
    vault = Vault([NEW])

    assert len({vault.seal(b"same", place=PLACE) for _ in range(100)}) == 100


def test_a_record_swapped_with_another_does_not_open():
    vault = Vault([NEW])
    mallorys = vault.seal(b"mallory's tokens", place="session/mallory")

    with pytest.raises(Unsealable, match="another place"):
        vault.open(mallorys, place="session/alice")


def test_a_new_key_in_front_seals_and_the_old_one_still_opens():
    before, rotated = Vault([OLD]), Vault([NEW, OLD])
    sealed_before = before.seal(b"old", place=PLACE)
    sealed_after = rotated.seal(b"new", place=PLACE)

    assert rotated.open(sealed_before, place=PLACE) == b"old"
    assert Vault([NEW]).open(sealed_after, place=PLACE) == b"new"


def test_a_key_that_was_removed_from_the_ring_opens_nothing():
    sealed = Vault([OLD]).seal(b"old", place=PLACE)

    with pytest.raises(Unsealable, match="not in the ring"):
        Vault([NEW]).open(sealed, place=PLACE)


def test_truncated_bytes_do_not_open():
    vault = Vault([NEW])
    sealed = vault.seal(b"tokens", place=PLACE)

    for length in range(len(sealed)):
        with pytest.raises(Unsealable):
            vault.open(sealed[:length], place=PLACE)


def test_modified_bytes_do_not_open():
    vault = Vault([NEW])
    sealed = vault.seal(b"tokens", place=PLACE)

    for index in range(len(sealed)):
        changed = bytearray(sealed)
        changed[index] ^= 1
        with pytest.raises(Unsealable):
            vault.open(bytes(changed), place=PLACE)


def test_sealed_json_fits_a_cookie_and_opens_unchanged():
    vault = Vault([NEW])
    text = vault.seal_json({"name": "Zoë", "age": 7}, place="cookie")

    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=")
    assert vault.open_json(text, place="cookie") == {"name": "Zoë", "age": 7}


@pytest.mark.parametrize(
    "cookie",
    [
        pytest.param("", id="empty"),
        pytest.param("abc", id="no base64"),
        pytest.param("AAAA", id="too short"),
        pytest.param("A" * 400, id="zeros"),
        pytest.param("ключ", id="other letters"),
        pytest.param("\udce4", id="half a character"),
        pytest.param("{}", id="plain JSON"),
    ],
)
def test_garbage_in_a_cookie_is_unsealable_and_no_other_error(cookie):
    with pytest.raises(Unsealable):
        Vault([NEW]).open_json(cookie, place="cookie")


def test_a_truncated_cookie_does_not_open():
    vault = Vault([NEW])
    text = vault.seal_json({"state": "s"}, place="cookie")

    for length in range(len(text)):
        with pytest.raises(Unsealable):
            vault.open_json(text[:length], place="cookie")


def test_a_cookie_does_not_open_under_another_name():
    vault = Vault([NEW])

    with pytest.raises(Unsealable):
        vault.open_json(vault.seal_json({"state": "s"}, place="bff-login-1"), place="bff-login-2")


def test_equal_values_have_equal_tags_and_others_do_not():
    vault = Vault([NEW])

    assert vault.tag("alice") == Vault([NEW]).tag("alice")
    assert vault.tag("alice") != vault.tag("bob")


def test_a_tag_cannot_be_computed_without_the_key():
    assert Vault([NEW]).tag("alice") != Vault([OLD]).tag("alice")


def test_sealed_bytes_begin_with_the_id_of_their_key():
    [new, old] = Vault([NEW, OLD]).key_ids

    assert Vault([NEW]).seal(b"new", place=PLACE).startswith(new)
    assert Vault([OLD]).seal(b"old", place=PLACE).startswith(old)
    assert new != old


def test_session_ids_have_256_bits_and_depend_on_the_value_and_the_key_alone():
    vault = Vault([bytes(32), b"1" * 32])
    ids = [*vault.ids("one"), *vault.ids("another")]

    assert ids[:2] == Vault([bytes(32), b"1" * 32]).ids("one")
    assert len(set(ids)) == 4
    assert min(map(len, ids)) >= 43  # 256 bits in base64
