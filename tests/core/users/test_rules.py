"""A user's rules: what each of them changes, and that a user is described by rules that make it again."""

from __future__ import annotations

import random

import pytest

from server.core.users.rules import (
    COMMAND,
    CONTAINER,
    DEFAULT,
    SUBCOMMAND,
    UNKNOWN,
    RuleError,
    User,
    changed,
    hashed,
)

NAMES = {b"get": COMMAND, b"set": COMMAND, b"select": COMMAND, b"config": CONTAINER, b"config|get": SUBCOMMAND}


def _kind(name: bytes) -> int:
    return NAMES.get(name, UNKNOWN)


def _after(*rules: bytes, user: User | None = None) -> bytes:
    return b" ".join(changed(user or User(), rules, _kind).rules())


@pytest.mark.parametrize(
    ("rules", "described"),
    [
        ([], b"off resetchannels -@all"),
        ([b"ON", b"NoPass"], b"on nopass resetchannels -@all"),
        ([b"+get", b"-@read", b"+GET"], b"off resetchannels -@all -@read +get"),
        ([b"+config|get", b"+config"], b"off resetchannels -@all +config"),
        ([b"+config", b"-config|get"], b"off resetchannels -@all +config -config|get"),
        ([b"+select|0", b"+select|1"], b"off resetchannels -@all +select|0 +select|1"),
        ([b"+select|0", b"-select"], b"off resetchannels -@all -select"),
        ([b"+get", b"allcommands", b"-@dangerous"], b"off resetchannels +@all -@dangerous"),
        ([b"%R~a", b"%W~a", b"%rw~b", b"%W~c"], b"off ~a ~b %W~c resetchannels -@all"),
        ([b"~a", b"allkeys"], b"off ~* resetchannels -@all"),
        ([b"&a", b"&a", b"&b"], b"off resetchannels &a &b -@all"),
        ([b"(", b"+get", b"~a*)", b"on"], b"on resetchannels -@all (~a* resetchannels -@all +get)"),
        ([b"(+get)", b"clearselectors"], b"off resetchannels -@all"),
        ([b"on", b">x", b"+get", b"~a", b"reset"], b"off sanitize-payload resetchannels -@all"),
    ],
)
def test_rules_describe_what_they_have_made(rules: list[bytes], described: bytes) -> None:
    assert _after(*rules) == described


def test_passwords_are_kept_hashed_and_are_taken_away() -> None:
    digest = hashed(b"secret")
    assert digest == b"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
    user = changed(DEFAULT, [b">secret", b"#" + digest], _kind)
    assert user.passwords == (digest,) and not user.no_password
    assert changed(user, [b"<secret"], _kind).passwords == ()
    assert changed(user, [b"!" + digest], _kind).passwords == ()
    assert changed(user, [b"nopass"], _kind).passwords == ()
    assert b"secret" not in b"".join(user.rules())


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        (b"+foo", "Unknown command or category name in ACL"),
        (b"+@foo", "Unknown command or category name in ACL"),
        (b"-select|0", "Unknown command or category name in ACL"),
        (b"+config|foo", "Unknown command or category name in ACL"),
        (b"+config|get|x", "Allowing first-arg of a subcommand is not supported"),
        (b"+select|", "Syntax error"),
        (b"what", "Syntax error"),
        (b"~a b", "Syntax error"),
        (b"%X~a", "Syntax error"),
        (b"(on)", "Syntax error"),
        (b"<none", "The password you are trying to remove from the user does not exist"),
        (b"#ABC", "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"),
    ],
)
def test_a_wrong_rule_is_an_error_in_the_words_of_redis(rule: bytes, error: str) -> None:
    with pytest.raises(RuleError) as caught:
        changed(User(), [b"+get", rule], _kind)
    assert str(caught.value) == f"Error in ACL SETUSER modifier '{rule.decode()}': {error}"


def test_a_pattern_after_all_patterns_is_an_error() -> None:
    for rules in ([b"allkeys", b"~a"], [b"&*", b"&a"]):
        with pytest.raises(RuleError, match="is not valid and does not have any effect"):
            changed(User(), rules, _kind)


def test_names_that_only_later_versions_know_are_kept_where_nobody_is_asked() -> None:
    rules = [b"+frobnicate", b"-@new", b"+frob|nicate", b"+get"]
    with pytest.raises(RuleError):
        changed(User(), rules, _kind)
    assert changed(User(), rules, None).root.commands == tuple(rules)


def test_a_user_is_made_again_from_its_description() -> None:
    """For random rules; what is described is a fixed point."""
    rng = random.Random(4)
    words = [
        b"on", b"off", b"nopass", b">a", b">b", b"resetpass", b"+get", b"-get", b"+@read", b"-@dangerous", b"+select|A",
        b"+config", b"-config|get", b"allcommands", b"nocommands", b"~a*", b"%R~b", b"%W~b", b"%W~c", b"resetkeys",
        b"&x", b"resetchannels", b"allchannels", b"(+get ~a* &b)", b"(allcommands allkeys)", b"clearselectors", b"reset",
        b"skip-sanitize-payload",
    ]  # fmt: skip
    for _ in range(2000):
        user = User()
        for rule in rng.choices(words, k=rng.randrange(12)):
            try:
                user = changed(user, [rule], _kind)
            except RuleError:
                continue
        again = changed(User(), user.rules(), _kind)
        assert again == user and again.rules() == user.rules()
