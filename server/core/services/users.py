"""The users of the cluster as this node knows them, and who is logged in on which session.

Theory. All nodes keep the document of all users (users/document.py, services/sharing.py). A change is made here, and is in
force for the sessions of this node at once.

Passwords are compared where a client connects, and so are its rights. What another node relays is trusted.

A session keeps its user's name. After each change the sessions get their rights anew, and those of deleted users end, as in
Redis. A user that was switched off, or has another password, keeps its sessions, as in Redis.

The user `default` always exists. Until somebody changes it, it may do everything, with the password of the setting
`requirepass`, or without one. If the stored document is damaged, nobody knows who may do what: then `default` is off until
another node sends its document.

`dyn.local` is the operator on this machine: its password is a secret of this process, in a file that only the owner of the
node's directory can read (shell/local_operator.py). It may do everything. `dyn.node` is another node that has proven who it
is, and asks something before it has a link (`admit_node`). Neither stands in the document.

A node of an earlier version is not sent the document: it lets everybody do everything, as it always did. `without_users`
names these nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from hmac import compare_digest

from server.core.base.errors import CommandError
from server.core.base.sinks import Access, Session
from server.core.base.state import State
from server.core.base.subscriber import KINDS, PATTERN
from server.core.messages import users as messages
from server.core.messages.stored import stored
from server.core.services.clients import ClientSessions
from server.core.services.guesses import Guesses
from server.core.services.security_log import SecurityLog, shown
from server.core.services.sharing import Sharing
from server.core.users.document import Document, UserEntry
from server.core.users.rules import DEFAULT, Kind, RuleError, User, changed, hashed

DEFAULT_NAME, LOCAL_NAME, NODE_NAME = b"default", b"dyn.local", b"dyn.node"
_RESERVED = (LOCAL_NAME, NODE_NAME)
_NODE = changed(User(), [b"+dyn.cluster|myself", b"+dyn.cluster|join", b"+dyn.cluster|readdress"], None)
_DOCUMENT = b"users"
# Stands for a damaged document. Its version is lower than all others, so it vanishes when another document is merged.
_LOCKED = Document({DEFAULT_NAME: UserEntry(0, "", 0, replace(DEFAULT, enabled=False))})
Report = Callable[[Session, str, str], None]
AccessOf = Callable[[User, Report], Access | None]  # computes what a user may do; None: everything


class Users:
    """The document of users, and the rights of all sessions of this node.

    `access_of` computes rights from rules; `logged_out` is what a session may do that has to log in first.
    """

    def __init__(self, state: State, clients: ClientSessions, access_of: AccessOf, logged_out: Access) -> None:
        self._state = state
        self._clients = clients
        self._access_of = access_of
        self._logged_out = logged_out
        self.log = SecurityLog()
        self.guesses = Guesses()
        self.local_password = b""  # hashed; empty: there is no such login
        document = stored(state.records, _DOCUMENT, messages.document_in, Document(), _LOCKED)
        self.sharing = Sharing(state, _DOCUMENT, document, state.knowing_users, messages.encode_users)
        state.users_bytes = self.sharing.size_bytes
        self._computed: dict[bytes, tuple[User, Access | None]] = {}  # by user: the rights that were computed last
        if document is _LOCKED:
            self.log.tell("the stored users are damaged: nobody can log in until another node sends them", True)

    @property
    def _document(self) -> Document:
        return self.sharing.document

    # --- looking

    def find(self, name: bytes) -> User | None:
        """The user of that name."""
        entry = self._document.entries.get(name)
        if entry is not None and entry.user is not None:
            return entry.user
        return self._first_default() if name == DEFAULT_NAME else None

    def default_needs_password(self) -> bool:
        """Whether nobody is the user `default` without a password: it has one, or it is off."""
        user = self.find(DEFAULT_NAME)
        return user is None or not user.enabled or not user.no_password

    def _first_default(self) -> User:
        """The user `default` before anybody has changed it."""
        password = self._state.config.requirepass
        return replace(DEFAULT, no_password=False, passwords=(hashed(password.encode()),)) if password else DEFAULT

    def names(self) -> list[bytes]:
        """The names of all users, in order."""
        return sorted(dict.fromkeys([DEFAULT_NAME, *self._document.names()]))

    def without_users(self) -> list[str]:
        """The names of the members that can be reached and are of a version without users: they let everybody in."""
        state = self._state
        members = state.layout.members if state.layout is not None else ()
        return [each.name for each in members if each.id in state.links and each.id not in state.knowing_users]

    # --- logging in

    def opened(self, session: Session) -> None:
        """A client has connected, or begins anew: it is the user `default`, if that needs no password."""
        default = self.find(DEFAULT_NAME)
        assert default is not None, "it always exists"
        session.has_logged_in = default.enabled and default.no_password
        session.user, session.gave_password = DEFAULT_NAME, False
        self._grant(session)

    def log_in(self, session: Session, name: bytes, password: bytes) -> bool:
        """Logs a session in, if the password is right."""
        given, user = hashed(password), self.find(name)
        if name == LOCAL_NAME:
            is_right = bool(self.local_password) and compare_digest(given, self.local_password)
        else:
            matches = [compare_digest(given, each) for each in (user.passwords if user is not None else ())]
            is_right = user is not None and user.enabled and (user.no_password or any(matches))
        if not is_right:
            self.guesses_failed(session, name)
            return False
        session.user, session.has_logged_in, session.gave_password = name, True, True
        self._grant(session)
        return True

    def admit_node(self, session: Session) -> None:
        """Another node has proven over this session that it has the secret of the cluster: it may ask what nodes ask each
        other before they have links."""
        session.user, session.has_logged_in, session.gave_password = NODE_NAME, True, True
        session.grant(self._access_of(_NODE, self.refused))

    def show_certificate(self, session: Session) -> None:
        """The client has proved to own a certificate: it is the user of its common name, if there is one that is enabled.

        No certificate makes a client the user `default`: the CA that signs for nodes may have given one that name.
        """
        name = session.certificate_name.encode()
        user = self.find(name) if name not in (b"", DEFAULT_NAME) else None
        if user is not None and user.enabled:
            session.user, session.has_logged_in, session.gave_password = name, True, True
            self._grant(session)

    def guesses_failed(self, session: Session, name: bytes) -> None:
        """Counts a refused login."""
        self._state.statistics.logins_refused += 1
        self.log.login_refused(session, name)

    def _grant(self, session: Session) -> None:
        """Gives a session the rights of its user."""
        if not session.has_logged_in:
            session.grant(self._logged_out)
            return
        session.user_born = self._born(session.user)
        session.grant(None if session.user == LOCAL_NAME else self._rights(session.user))

    def _born(self, name: bytes) -> int:
        entry = self._document.entries.get(name)
        return 0 if entry is None else entry.born

    def _rights(self, name: bytes) -> Access | None:
        user = self.find(name)
        assert user is not None, "only users log in"
        known = self._computed.get(name)
        if known is None or known[0] != user:
            known = self._computed[name] = (user, self._access_of(user, self.refused))
        return known[1]

    def access_for(self, name: bytes) -> Access | None:
        """What a user may do, for a script that runs as it; None if that is everything. An unknown one may do nothing."""
        if name == LOCAL_NAME:
            return None
        return self._logged_out if self.find(name) is None else self._rights(name)

    def refused(self, session: Session, reason: str, what: str) -> None:
        """Notes for ACL LOG that a user may not do something."""
        self._state.statistics.commands_refused += 1
        self.log.add(reason, what, session.user, session, self._state.now_ms, self._state.time_ms)

    # --- changing

    def change(self, name: bytes, rules: Sequence[bytes], kind: Kind) -> None:
        """Changes a user, or makes it. Raises CommandError, with Redis' text if a rule is wrong."""
        before = self.find(name)
        if name in _RESERVED:
            raise CommandError(f"ERR the name '{name.decode()}' is reserved: choose another one")
        # Before the work, which grows with the square of their number. Rules of a selector may be one argument.
        self._check_count(sum([1 + rule.count(b" ") for rule in rules]))
        try:
            user = changed(before or User(), rules, kind)
        except RuleError as error:
            raise CommandError(f"ERR {error}") from None
        self._check_count(user.rule_count())
        self._check_limits(name, user)
        document = self._with(self._document, name, user, self._born(name) if before is not None else None)
        self._publish(document, [name])

    def delete(self, names: Sequence[bytes]) -> int:
        """Deletes users, and ends their sessions. Returns how many there were."""
        present = [name for name in dict.fromkeys(names) if name != DEFAULT_NAME and self.find(name) is not None]
        if present:
            self.sharing.check_room()
            document = self._document
            for name in present:
                document = self._with(document, name, None, self._born(name))
            self._publish(document, present)
        return len(present)

    def _check_count(self, count: int) -> None:
        if count > self._state.config.user_rules_max:
            raise CommandError(
                f"ERR {count} rules are more than user_rules_max={self._state.config.user_rules_max}: fewer patterns or "
                "categories say the same"
            )

    def _check_limits(self, name: bytes, user: User) -> None:
        """Raises CommandError if the document would become too large."""
        self.sharing.check_room()
        config, document = self._state.config, self._document
        if self.find(name) is None and len(document.names()) >= config.users_max:
            raise CommandError(f"ERR there are users_max={config.users_max} users: delete some first")
        size = sum([len(entry.text) for entry in document.entries.values()]) + sum(map(len, user.rules()))
        if size > config.users_bytes_max:
            raise CommandError(f"ERR the rules of all users together exceed users_bytes_max={config.users_bytes_max}")

    def _with(self, document: Document, name: bytes, user: User | None, born: int | None) -> Document:
        """The document with an entry under a version later than the one before. Raises CommandError."""
        counter = self.sharing.next_counter(document.entries.get(name))
        return document.with_entry(name, UserEntry(counter, self._state.id, counter if born is None else born, user))

    def _publish(self, document: Document, names: list[bytes]) -> None:
        """Stores the document, brings it into force, and sends what has changed to all nodes that can be reached."""
        self._adopt(document)
        self.sharing.send_part(names)

    def _adopt(self, document: Document) -> None:
        self.sharing.adopt(document)
        self._state.users_bytes = self.sharing.size_bytes
        self._computed = {name: known for name, known in self._computed.items() if self.find(name) == known[0]}
        for session in list(self._clients.sessions.values()):
            if not session.has_logged_in or session.user in _RESERVED:
                continue
            if self.find(session.user) is None or self._born(session.user) != session.user_born:
                self._end(session)
            else:
                self._grant(session)
                if not _may_keep_subscriptions(session):
                    self._end(session)
                elif session.blocked and session.rights is not None:
                    self._clients.review_blocked(session, session.rights)

    def _end(self, session: Session) -> None:
        """Ends the session of a user that is deleted, or that may not have its subscriptions any more."""
        session.has_logged_in = False
        session.grant(self._logged_out)
        session.backlog.clear()
        if not session.closing:
            self._clients.kill(session)

    def _log_out_strangers(self) -> None:
        """This node is about to become a member, and learns who may do what: whoever has come in before without a password
        has to log in, if that needs one now, and loses what it has subscribed to."""
        default = self.find(DEFAULT_NAME)
        if default is not None and not (default.enabled and default.no_password):
            for session in list(self._clients.sessions.values()):
                if not session.gave_password:
                    session.has_logged_in = False
                    self._grant(session)
                    if not _may_keep_subscriptions(session):
                        self._end(session)

    # --- between nodes

    def received(self, peer: str, document: Document) -> None:
        """Merges the document of `peer`, or a part of it."""
        before, following = self._document, self.sharing.merged_with(document)
        if following is not None:
            self._adopt(following)
            if self._state.layout is None:
                self._log_out_strangers()
            names = self.sharing.changed_since(before)
            self.log.tell(f"users changed by another node: {', '.join([shown(name) for name in names[:8]])}")


def _may_keep_subscriptions(session: Session) -> bool:
    """Whether the rights of a session allow all that it has subscribed to."""
    rights, subscriber = session.rights, session.subscriber
    if rights is None or subscriber is None:
        return True
    return all(rights.may_subscribe(name, kind == PATTERN) for kind in KINDS for name in subscriber.names[kind])
