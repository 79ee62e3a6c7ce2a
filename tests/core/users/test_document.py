"""The document of users: merging it loses no change, whatever the order, and brings back no deleted user."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace

from server.core.messages.users import document_in
from server.core.shared.document import DELETED_MAX, merged
from server.core.users.document import Document, UserEntry
from server.core.users.rules import RuleError, User, changed

NAMES = [b"ann", b"bob", b"\xffcy", b"default"]


def _user(*rules: bytes) -> User:
    return changed(User(), rules, None)


def _entry(counter: int, node: str = "n1", *rules: bytes) -> UserEntry:
    return UserEntry(counter, node, counter, _user(*rules))


def _random_document(rng: random.Random) -> Document:
    document = Document()
    for name in NAMES:
        if rng.random() < 0.7:
            counter, node = rng.randrange(1, 6), rng.choice(["n1", "n2"])
            user = None if rng.random() < 0.3 else _user(b"+get", b">%d%s" % (counter, node.encode()))
            document = document.with_entry(name, UserEntry(counter, node, counter, user))
    return document


def test_a_merge_does_not_depend_on_order() -> None:
    rng = random.Random(1)
    for _ in range(2000):
        a, b, c = (_random_document(rng) for _ in range(3))
        assert merged(a, b) == merged(b, a)
        assert merged(merged(a, b), c) == merged(a, merged(b, c))
        assert merged(a, a) == a
        assert merged(merged(a, b), b) == merged(a, b)


def test_changes_of_different_users_on_two_sides_are_both_kept() -> None:
    common = Document().with_entry(b"ann", _entry(1)).with_entry(b"bob", _entry(2))
    one = common.with_entry(b"ann", _entry(5, "n1", b"+get"))
    other = common.with_entry(b"bob", UserEntry(4, "n2", 2, None)).with_entry(b"cid", _entry(3, "n2"))
    both = merged(one, other)
    assert both.entries[b"ann"].user == _user(b"+get")
    assert both.names() == [b"ann", b"cid"]


def test_of_two_changes_of_one_user_the_later_wins_and_the_node_decides_between_equals() -> None:
    early, late = Document({b"ann": _entry(5, "n9")}), Document({b"ann": _entry(6, "n1", b"+get")})
    assert merged(early, late) == merged(late, early) == late
    one, other = Document({b"ann": _entry(5, "n1")}), Document({b"ann": _entry(5, "n2", b"+get")})
    assert merged(one, other) == merged(other, one) == other


def test_a_deleted_user_is_not_brought_back_by_a_node_that_was_away() -> None:
    away = Document().with_entry(b"ann", _entry(1))
    here = away.with_entry(b"ann", UserEntry(2, "n1", 1, None))
    assert merged(here, away).names() == merged(away, here).names() == []


def test_forgotten_deletions_bring_nobody_back_either() -> None:
    away = Document().with_entry(b"u0", _entry(1)).with_entry(b"kept", _entry(2))
    here = away.with_entry(b"u0", UserEntry(3, "n1", 1, None))
    for number in range(1, DELETED_MAX + 1):
        here = Document({**here.entries, b"u%d" % number: UserEntry(3 + number, "n1", 3, None)}, here.floor)
    here = here.with_entry(b"x", _entry(10_000_000))
    assert here.floor == 3 and b"u0" not in here.entries
    assert merged(here, away) == merged(away, here) == here
    fresh = away.with_entry(b"new", _entry(11_000_000))
    assert merged(here, fresh).names() == merged(fresh, here).names() == [b"kept", b"new", b"x"]


def test_a_part_takes_nothing_away() -> None:
    whole = Document().with_entry(b"ann", _entry(1)).with_entry(b"bob", _entry(2))
    part = whole.with_entry(b"bob", _entry(7, "n2", b"on")).part([b"bob"])
    assert merged(whole, part).names() == [b"ann", b"bob"]
    assert merged(replace(whole, floor=1), part).names() == [b"ann", b"bob"]


def test_a_document_is_decoded_as_it_was_encoded() -> None:
    rng = random.Random(2)
    for _ in range(200):
        document = _random_document(rng)
        assert document_in(document.encode()) == document
        assert document_in(document.encode()).digest() == document.digest()
    odd = Document().with_entry(b"\xff", UserEntry(9, "n1", 8, _user(b"on", b'~a"b', b"(%R~\xfe +get)", b"&\x80")))
    assert document_in(odd.encode()) == odd


def test_any_user_is_decoded_as_it_was_encoded() -> None:
    """The pattern `*` for reading and writing is not the right to all keys: behind that no other pattern may stand."""
    rng = random.Random(3)
    rules = [
        b"~*", b"%RW~*", b"%R~*", b"%W~*", b"~a*", b"%R~b", b"resetkeys", b"allkeys", b"&*", b"&x", b"resetchannels",
        b"+get", b"-@all", b"+@all", b"(~* +get)", b"(%RW~* ~a)", b"(%R~* %W~* ~a)", b"on", b"nopass", b">pw",
    ]  # fmt: skip
    for _ in range(2000):
        user = User()
        for rule in rng.choices(rules, k=rng.randrange(9)):
            with suppress(RuleError):
                user = changed(user, [rule], None)
        document = Document().with_entry(b"bob", UserEntry(1, "n1", 1, user))
        assert document_in(document.encode()) == document, user


def test_the_document_of_a_version_that_wrote_any_pattern_as_all_keys_is_read() -> None:
    text = (
        b'{"floor":"0","users":{"bob":["1","n1","1",["off","~b","~*","~a","&*","-@all"],[["~*","~c","&*","-@all"]]]}}'
    )
    user = document_in(text).entries[b"bob"].user
    assert user is not None
    assert [each.pattern for each in user.root.keys] == [b"b", b"*", b"a"] and not user.root.all_keys
    assert [each.pattern for each in user.selectors[0].keys] == [b"*", b"c"]
