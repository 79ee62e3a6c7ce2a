"""Another R or W for a cluster: which changes are safe, and which writes have fewer copies than W says.

The promise. Any R of the N owners and any W of them have an owner in common if R + W > N. So a read meets an owner that
acknowledged the write. Of the numbers in a layout this holds or it does not; a cluster may do without it.

The problem. A commit reaches the nodes one after the other, and what is stored does not change at all. So for a while there
are reads by the former R and by the new one, and there are writes of the former W and of the new one. A write keeps the
copies that it was acknowledged with, until owners have been compared. `written_w` in the layout is the smallest W that a
stored write may have been acknowledged with. (Hints do not change this: where a stand-in acknowledged, the write reaches
the owner with its hint.)

The rule. Let `s` be written_w, or W if that is 0. A change from (R, W) to (R', W') keeps the promise for every mix if

    min(R, R') + min(s, W') > N

    before: R + s > N    after: R' + W' > N    every mix    the change is
    yes                  yes                   yes          made
    yes                  yes                   no           refused, with the steps that lead there
    yes                  no                    no           made; the plan says that reads may miss writes from then on
    no                   any                   any          made: nothing is promised that the change could break; the plan
                                                            says so until older writes are repaired

Two steps always lead there: first raise what is to be raised, which keeps every mix, then lower the rest. Between them all
members must have adopted the first layout: a commit of R or W asks them for that (commands/quorum_command.py), so three
layouts are never mixed. And if W was raised, older writes need more copies: the owners make their partitions equal
(membership/full_repair.py), then a revision of the layout ends `written_w`.

The same `s` tells how many owners a node must fetch a partition from (membership/partition_fetch.py): N - s + 1 owners
include one that acknowledged.

Two operators may change R and W at the same time on two sides of a network partition. Their changes are merged as all
others are, one after the other by the rule above. A change is dropped if it is not safe after the other one, or if reads
would not meet writes with both: no operator has seen a plan that said so. The result keeps the smaller `s` of both sides,
as each side may have written with it.

Another N is another kind of change, and R and W may change with it: replica_change.py.
"""

from __future__ import annotations

from server.core.ring.layout_fields import LayoutFields


def fault_of(present: LayoutFields, r: int, w: int) -> str:
    """Why the present R and W must not become `r` and `w`, with what to do instead; empty if they may."""
    n = present.n
    for name, quorum in (("R", r), ("W", w)):
        if not 1 <= quorum <= n:
            return f"{name} is a number from 1 to N={n}, not {quorum}"
    if not _meets(present, present.r, present.least_w) or not _meets(present, r, w):
        return ""
    if _meets(present, min(present.r, r), min(present.least_w, w)):
        return ""
    if _meets(present, min(present.r, r), min(present.w, w)):
        return (
            f"with R={r} a read may miss writes that were acknowledged with W={present.written_w}: wait until they "
            "have been copied to all owners, which `dyn cluster status` shows and for which all nodes must be up"
        )
    raised, lowered = _steps(present, r, w)
    return (
        f"with R={r} and W={w} at once, a read by {min(present.r, r)} owners may miss a write to "
        f"{min(present.least_w, w)} of N={n}, as nodes change one after the other and older writes keep their copies: "
        f"first stage {raised} and commit that, then {lowered}; `dyn cluster abort` takes back what is staged already"
    )


def gives_up_promise(present: LayoutFields, n: int, r: int, w: int) -> bool:
    """Whether reads meet writes now, and would not with `n`, `r` and `w`."""
    return _meets(present, present.r, present.w) and r + w <= n


def remark_on(present: LayoutFields, following: LayoutFields) -> str:
    """What an operator should know of another R or W before the commit; empty if there is nothing to say."""
    remarks = _remark_on_reads(present, following), _remark_on_writes(present, following)
    return "; ".join([remark for remark in remarks if remark])


def _remark_on_writes(present: LayoutFields, following: LayoutFields) -> str:
    if following.w == present.w or following.w < following.n or following.n == 1:
        return ""
    return (
        f"with W={following.w} of N={following.n}, no write succeeds while an owner is down, and W cannot be lowered again "
        "until all nodes are up"
    )


def _remark_on_reads(present: LayoutFields, following: LayoutFields) -> str:
    if not _meets(following, following.r, following.w):
        return (
            f"R={following.r} and W={following.w} are not more than N={following.n} together: reads may miss acknowledged "
            "writes"
        )
    if not _meets(following, following.r, following.least_w):
        return (
            f"reads by R={following.r} may miss writes that were acknowledged with W={following.least_w}, until these have "
            "been copied to all owners, for which all nodes must be up; `dyn cluster status` shows it"
        )
    if following.written_w and (following.r, following.w) != (present.r, present.w):
        return (
            f"older writes may have W={following.written_w} copies until they have been copied to all owners, for which "
            f"all nodes must be up: until then R must not be less than {following.n - following.written_w + 1}"
        )
    return ""


def written_w_after(before: LayoutFields, w: int) -> int:
    """The `written_w` of the layout that follows with W = `w`."""
    return before.least_w if before.least_w < w else 0


def is_promised(layout: LayoutFields) -> bool:
    """Whether R and W promise that a read finds each write that was acknowledged by this W."""
    return _meets(layout, layout.r, layout.w)


def may_miss_writes(layout: LayoutFields) -> bool:
    """Whether a read by R may miss an older write though R + W > N."""
    return _meets(layout, layout.r, layout.w) and not _meets(layout, layout.r, layout.least_w)


def _meets(layout: LayoutFields, r: int, w: int) -> bool:
    return r + w > layout.n


def _steps(present: LayoutFields, r: int, w: int) -> tuple[str, str]:
    """The two steps: what to raise, then what to lower."""
    each = (("r", present.r, r), ("w", present.w, w))
    raised = [f"`dyn config set {name} {after}`" for name, before, after in each if after > before]
    lowered = [f"`dyn config set {name} {after}`" for name, before, after in each if after < before]
    return " and ".join(raised), " and ".join(lowered)
