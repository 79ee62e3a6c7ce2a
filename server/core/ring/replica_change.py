"""Another N for a cluster: all partitions get a longer or a shorter list of owners, in one change of the layout.

The problem. Every read by R of N owners meets every write to W of them if R + W > N. With another N both the owners and
the numbers change, node by node, while clients read and write. A write keeps the copies that it was acknowledged with. With
more owners, the new ones have none of them. With fewer owners, all copies of a write may be on owners that go.

The idea. Another N is a change as a join is: TRANSFER, HANDOVER, SETTLED (layout.py). Two things are different:

- The document keeps N, R, W and `written_w` of the former owners as `former_numbers`. Each set of owners has numbers of its
  own, so N, R and W change together, in one commit.
- In TRANSFER *all* owners fetch each partition, those that stay, too. An owner counts as one of the former owners that it
  is compared with, if it is one.

    phase       a read needs               a write needs                                 it ends when
    TRANSFER    R of the former owners     W of the former owners and W' of the owners   all owners have all data
    HANDOVER    R' of the owners           W' of the owners and W of the former owners   all members have adopted it
    SETTLED     R' of the owners           W' of the owners

Why it is right. A node that still uses the layout before, or TRANSFER, reads R of the former owners, and every write until
SETTLED has W of these. A node in HANDOVER or SETTLED reads R' of the owners. They have fetched each write from before
TRANSFER from as many former owners as include one that acknowledged it (partition_fetch.py), and each later write has W' of
them. So it is enough that R + W > N and R' + W' > N' hold, each by itself. No mix of old and new numbers is ever asked:
that is why N = 3, R = W = 2 becomes N = 5, R = W = 3 without a time in which every owner must be up.

While N changes all members are waited for, those that are down, too: each of them is an owner or may still read or write by
an earlier layout. One that is gone for good is taken out of the cluster (`dyn cluster remove`), which is a further commit:

    the next commit comes in    its former owners are             its former numbers are
    TRANSFER                    the present former owners         the present former numbers
    HANDOVER                    the owners (they have all data)   none, unless N changes again

In HANDOVER it is refused until all members that stay have adopted HANDOVER (commands/quorum_command.py). Else nodes that
still read from the former owners would miss what the new ones take.

If nodes leave until fewer than N are left, a partition gets fewer owners, too, and R and W are cut to their number. A
write may have all its copies on the owners that go, and reads by the smaller R would not ask these any more. So such a
commit is a change in the same phases, from N, R and W to the same N, R and W, each cut to the number of owners. If members
are only removed, nobody who is left has to fetch: reads by R of those that are left find what these hold.

Two sides of a network partition may each change N. What was committed together with an N is one change and holds as a whole
or not at all. The larger N rules, because copies that a side did not want cost space, and copies that it lacks cost data.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.core.ring.change import NUMBERS, REPLICA_COUNT, Change
from server.core.ring.layout_fields import LayoutFields


def changes_n(present: LayoutFields, n: int) -> bool:
    """Whether a commit with this N is a change of N: it is another one than now, or the present change of N goes on."""
    return n != present.n or present.fetches_for_n


def are_fewer(owners: Sequence[Sequence[str]], holding: Sequence[Sequence[str]]) -> bool:
    """Whether some partition gets fewer owners than it has now. `holding`: its present readers that are still members."""
    return any(len(row) < len(former) for row, former in zip(owners, holding, strict=True))


def fault_of(present: LayoutFields, n: int, r: int, w: int, staying: int) -> str:
    """Why N, R and W must not become these, with what to do instead; empty if they may. `staying`: how many nodes stay."""
    if n != present.n and n > staying:
        return (
            f"N={n} needs {n} nodes, and the cluster would have {staying}: stage the others first (`dyn cluster join`), "
            "then N, and commit all of it together"
        )
    if n < 1:
        return f"N is a number from 1, not {n}"
    if r > n or w > n or (_meets(present.n, present.r, present.w) and not _meets(n, r, w)):
        majority = n // 2 + 1
        reason = (
            f"of N={n} owners, no read or write can wait for more"
            if r > n or w > n
            else f"they are not more than N={n} together, so reads may miss acknowledged writes"
        )
        return (
            f"R={r} and W={w} do not go with N={n}: {reason}; stage all three together, such as `dyn config set n {n} "
            f"--r {majority} --w {majority}`; `dyn cluster abort` takes back what is staged already"
        )
    for name, quorum in (("R", r), ("W", w)):
        if quorum < 1:
            return f"{name} is a number from 1 to N={n}, not {quorum}"
    return ""


def remark_on(following: LayoutFields) -> str:
    """What an operator should know of another N before the commit; empty if N does not change."""
    if not following.changes_n:
        return ""
    n, r, w, _ = following.former_numbers
    remarks = [
        "all owners compare their partitions with the former owners first, and all nodes must be up until it is done; "
        f"reads by R={r} and writes by W={w} of N={n} go on meanwhile",
    ]
    zones = len({member.zone for member in following.staying})
    if 1 < zones < following.n and zones >= n:
        remarks.append(f"there are {zones} zones, so some zones hold more than one of {following.n} copies")
    if not _meets(following.n, following.r, following.w):
        remarks.append(
            f"R={following.r} and W={following.w} are not more than N={following.n} together: reads may miss acknowledged "
            "writes"
        )
    if following.w == following.n > 1:
        remarks.append(f"with W={following.w} of N={following.n}, no write succeeds while an owner is down")
    return "; ".join(remarks)


def with_least_w(layout: LayoutFields, least_w: int) -> dict[str, object]:
    """The fields of a layout that change if stored writes may have been acknowledged with `least_w` only."""
    n, r, w, _ = layout.numbers
    written_w = least_w if least_w < w else 0
    if layout.fetches_for_n:
        return {"former_numbers": (n, r, w, written_w)}
    return {"written_w": written_w}


def grouped(changes: Sequence[Change]) -> list[list[Change]]:
    """Changes as they hold, in order: N, R and W of one commit with an N are one group, every other change is one."""
    epochs = [change.epoch for change in changes if change.kind == REPLICA_COUNT]
    groups: list[list[Change]] = []
    of_epoch: dict[int, list[Change]] = {}
    for change in changes:
        if change.kind not in NUMBERS or change.epoch not in epochs:
            groups.append([change])
        elif change.epoch in of_epoch:
            of_epoch[change.epoch].append(change)
        else:
            of_epoch[change.epoch] = [change]
            groups.append(of_epoch[change.epoch])
    return groups


def copies_of(changes: Sequence[Change]) -> int:
    """The N that these changes set, the last one; 0 if none does."""
    return ([0] + [change.copies for change in changes if change.kind == REPLICA_COUNT])[-1]


def _meets(n: int, r: int, w: int) -> bool:
    return r + w > n
