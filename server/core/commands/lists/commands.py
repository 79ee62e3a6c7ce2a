"""The table of the list commands."""

from __future__ import annotations

from functools import partial

from server.core.commands.key_specs import KeySpec
from server.core.commands.lists.edits import linsert, lpop, lpush, lpushx, lrem, lset, ltrim, rpop, rpush, rpushx
from server.core.commands.lists.items import is_near_end
from server.core.commands.lists.queries import lindex, llen, lpos, lrange
from server.core.commands.lists.several import lmove, lmpop, rpoplpush
from server.core.commands.shared_drafts import if_few, if_one
from server.core.commands.spec import EXCLUSIVE, READ, CommandSpec
from server.core.commands.typed import always, reading, updating
from server.core.records.kinds import LIST

_PUSHED = "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments."
_POPPED = "O(N) where N is the number of elements returned"
_MOVED = (KeySpec("RW access delete", 1), KeySpec("RW insert", 2))

_query = partial(CommandSpec, group="list", overlap=READ, flags="readonly", keys=(1, 1, 1), access="RO access")
_change = partial(CommandSpec, group="list", overlap=EXCLUSIVE, keys=(1, 1, 1))
_pushing = partial(updating, LIST, shares=if_few)
_push = partial(
    _change,
    flags="write denyoom fast",
    access="RW insert",
    complexity=_PUSHED,
    arguments="key element [element ...]",
    once=lambda args: True,
)
_pop = partial(
    _change,
    flags="write fast",
    access="RW access delete",
    complexity=_POPPED,
    arguments="key [count]",
    once=lambda args: True,
)
_move = partial(
    CommandSpec, group="list", overlap=EXCLUSIVE, flags="write denyoom", key_specs=_MOVED, once=lambda args: True
)


def _is_of_first(args: list[bytes]) -> bool:
    """Whether LRANGE reads among the first items only."""
    return all(is_near_end(word) and word[:1] != b"-" for word in args[2:4])


COMMANDS: tuple[CommandSpec, ...] = (
    _push(
        "lpush",
        -3,
        handler=_pushing(lpush),
        summary="Puts elements before the first one of a list.",
    ),
    _push(
        "rpush",
        -3,
        handler=_pushing(rpush),
        summary="Puts elements behind the last one of a list.",
    ),
    _push(
        "lpushx",
        -3,
        handler=_pushing(lpushx),
        summary="As LPUSH, if the list exists.",
        since="2.2.0",
    ),
    _push(
        "rpushx",
        -3,
        handler=_pushing(rpushx),
        summary="As RPUSH, if the list exists.",
        since="2.2.0",
    ),
    _pop(
        "lpop",
        -2,
        handler=updating(LIST, lpop, deletes=True, shares=if_one),
        summary="Removes and returns the first elements of a list.",
    ),
    _pop(
        "rpop",
        -2,
        handler=updating(LIST, rpop, deletes=True, shares=if_one),
        summary="Removes and returns the last elements of a list.",
    ),
    _query(
        "llen",
        2,
        handler=reading(LIST, llen, sees_changes=always),
        summary="Returns the number of elements in a list.",
        flags="readonly fast",
        access="RO",
        arguments="key",
    ),
    _query(
        "lindex",
        3,
        handler=reading(LIST, lindex, sees_changes=lambda args: is_near_end(args[2])),
        summary="Returns the element at an index of a list; a negative index counts from the end.",
        complexity="O(N) where N is the number of elements to traverse to get to the element at index. This makes asking "
        "for the first or the last element of the list O(1).",
        arguments="key index",
    ),
    _query(
        "lrange",
        4,
        handler=reading(LIST, lrange, sees_changes=_is_of_first),
        summary="Returns the elements between two indexes of a list, both included.",
        complexity="O(S+N) where S is the distance of start offset from HEAD for small lists, from nearest end (HEAD or "
        "TAIL) for large lists; and N is the number of elements in the specified range.",
        arguments="key start stop",
    ),
    _query(
        "lpos",
        -3,
        handler=reading(LIST, lpos),
        summary="Returns at which indexes an element stands in a list.",
        since="6.0.6",
        complexity="O(N) where N is the number of elements in the list, for the average case. When searching for elements "
        "near the head or the tail of the list, or when the MAXLEN option is provided, the command may run in constant "
        "time.",
        arguments="key element [RANK rank] [COUNT num-matches] [MAXLEN len]",
    ),
    _change(
        "lset",
        4,
        handler=updating(LIST, lset, checks_type_first=True, shares=lambda args: is_near_end(args[2])),
        summary="Changes the element at an index of a list.",
        flags="write denyoom",
        access="RW update",
        complexity="O(N) where N is the length of the list. Setting either the first or the last element of the list is "
        "O(1).",
        arguments="key index element",
        once=lambda args: True,
    ),
    _change(
        "linsert",
        5,
        handler=updating(LIST, linsert),
        summary="Puts an element before or behind another one in a list.",
        flags="write denyoom",
        access="RW insert",
        since="2.2.0",
        complexity="O(N) where N is the number of elements to traverse before seeing the value pivot. This means that "
        "inserting somewhere on the left end on the list (head) can be considered O(1) and inserting somewhere on the "
        "right end (tail) is O(N).",
        arguments="key (BEFORE|AFTER) pivot element",
        once=lambda args: True,
    ),
    _change(
        "lrem",
        4,
        handler=updating(LIST, lrem, deletes=True),
        summary="Removes elements that equal a value from a list.",
        flags="write",
        access="RW delete",
        complexity="O(N+M) where N is the length of the list and M is the number of elements removed.",
        arguments="key count element",
        once=lambda args: True,
    ),
    _change(
        "ltrim",
        4,
        handler=updating(LIST, ltrim, deletes=True),
        summary="Removes all elements of a list but those between two indexes.",
        flags="write",
        access="RW delete",
        complexity="O(N) where N is the number of elements to be removed by the operation.",
        arguments="key start stop",
        once=lambda args: True,
    ),
    _move(
        "lmove",
        5,
        handler=lmove,
        summary="Moves an element from an end of one list to an end of another: adds it there, then removes it here.",
        since="6.2.0",
        arguments="source destination (LEFT|RIGHT) (LEFT|RIGHT)",
    ),
    _move(
        "rpoplpush",
        3,
        handler=rpoplpush,
        summary="Moves the last element of a list to the beginning of another one.",
        since="1.2.0",
        deprecated=("6.2.0", "`LMOVE` with the `RIGHT` and `LEFT` arguments"),
        arguments="source destination",
    ),
    CommandSpec(
        "lmpop",
        -4,
        EXCLUSIVE,
        lmpop,
        "Removes and returns elements of the first list that has any.",
        "list",
        "write",
        key_specs=(KeySpec("RW access delete", 1, counted=True),),
        since="7.0.0",
        complexity="O(N+M) where N is the number of provided keys and M is the number of elements returned.",
        arguments="numkeys key [key ...] (LEFT|RIGHT) [COUNT count]",
        once=lambda args: True,
    ),
)

_push_of_move = partial(
    CommandSpec, arity=3, overlap=EXCLUSIVE, group="dyn", flags="write denyoom", keys=(1, 1, 1), once=lambda args: True
)
UNLISTED: tuple[CommandSpec, ...] = (
    _push_of_move("dyn.lpush", handler=updating(LIST, lpush, waits=False), summary="As LPUSH, for LMOVE."),
    _push_of_move("dyn.rpush", handler=updating(LIST, rpush, waits=False), summary="As RPUSH, for LMOVE."),
)
