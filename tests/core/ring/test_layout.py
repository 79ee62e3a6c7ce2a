"""The layout document: round trip, refusals, which of two layouts wins, and functions of the layout."""

import itertools
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_hexdigest

from protocol.bounds import EPOCH_MAX
from protocol.slots import SLOTS
from server.core.ring.assignment import assign
from server.core.ring.layout import Layout, LayoutError, Member

Fields = dict[str, Any]


def make_layout(zones: str = "abc", partitions: int = 8, n: int = 3, epoch: int = 1, weights: str = "") -> Layout:
    """Returns a layout with one member for each letter of `zones`."""
    members = tuple(
        Member(f"m{i:02}", f"n{i + 1}", f"127.0.0.1:{7001 + i}", zone, int(weights[i]) if weights else 1)
        for i, zone in enumerate(zones)
    )
    quorum = n // 2 + 1
    return Layout("c1", epoch, partitions, n, quorum, quorum, members, assign(members, partitions, n))


def canonical(fields: Fields) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def seal(fields: Fields) -> bytes:
    """Returns a document with these fields, valid or not, and a right checksum."""
    body = {name: value for name, value in fields.items() if name != "checksum"}
    return canonical(body | {"checksum": xxh3_64_hexdigest(canonical(body))})


LAYOUTS = st.builds(
    make_layout,
    zones=st.text("abc", min_size=1, max_size=6),
    partitions=st.integers(0, 6).map(lambda bits: 1 << bits),
    n=st.integers(1, 4),
    epoch=st.integers(0, EPOCH_MAX),
)


# --- the document


def test_the_document_is_readable() -> None:
    layout = make_layout("a", partitions=1, n=1)
    body = (
        b'"cluster":"c1","epoch":1,"members":[{"address":"127.0.0.1:7001","id":"m00","name":"n1","weight":1,"zone":"a"}],'
        b'"n":1,"owners":[["m00"]],"partitions":1,"r":1,"w":1}'
    )
    checksum = xxh3_64_hexdigest(b"{" + body).encode()
    assert layout.encode() == b'{"checksum":"' + checksum + b'",' + body


@given(LAYOUTS)
@settings(max_examples=50)
def test_round_trip(layout: Layout) -> None:
    decoded = Layout.decode(layout.encode())
    assert decoded == layout
    assert decoded.encode() == layout.encode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.text().map("x-".__add__), JSON, max_size=3), st.dictionaries(st.just("x"), JSON))
@settings(max_examples=50)
def test_unknown_fields_are_kept(of_layout: Fields, of_member: Fields) -> None:
    fields = json.loads(make_layout().encode()) | of_layout
    fields["members"][1] |= of_member
    document = seal(fields)
    layout = Layout.decode(document)
    assert layout.encode() == document
    next_one = json.loads(replace(layout, epoch=2).encode())  # and outlive a change
    assert of_layout.items() <= next_one.items()
    assert next_one["members"] == fields["members"]


@given(st.data())
def test_any_damaged_byte_is_noticed(data: st.DataObject) -> None:
    document = bytearray(make_layout().encode())
    position = data.draw(st.integers(0, len(document) - 1))
    document[position] = data.draw(st.integers(0, 255).filter(lambda byte: byte != document[position]))
    with pytest.raises(LayoutError):
        Layout.decode(bytes(document))


@given(st.data())
def test_any_cut_is_noticed(data: st.DataObject) -> None:
    document = make_layout().encode()
    with pytest.raises(LayoutError):
        Layout.decode(document[: data.draw(st.integers(0, len(document) - 1))])


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe\xfd", "not JSON"),
        (b'{"epoch":NaN}', "not JSON"),
        (b'{"epoch":' + b"9" * 5000 + b"}", "not JSON"),
        (b"[" * 100_000, "nested deeper"),
        (b"[]", "not a JSON object"),
        (b"{}", "checksum is None"),
        (make_layout().encode().replace(b'"epoch":1', b'"epoch":2'), "damaged: its checksum is"),
        (make_layout().encode().replace(b",", b", "), "canonical form"),
        (make_layout().encode() + b"\n", "canonical form"),
        (make_layout().encode().replace(b'"epoch":1', b'"epoch":7,"epoch":1'), "canonical form"),
    ],
)
def test_what_is_no_document_is_refused(document: bytes, sentence: str) -> None:
    with pytest.raises(LayoutError, match=sentence):
        Layout.decode(document)


def put(name: str, value: object) -> Callable[[Fields], None]:
    return lambda fields: fields.__setitem__(name, value)


def put_member(place: int, **values: object) -> Callable[[Fields], None]:
    return lambda fields: fields["members"][place].update(values)


def put_owners(*owners: object) -> Callable[[Fields], None]:
    return lambda fields: fields["owners"].__setitem__(5, list(owners))


FAULTS: list[tuple[Callable[[Fields], object], str]] = [
    (lambda fields: fields.pop("epoch"), "has no field 'epoch'"),
    (lambda fields: fields["members"][0].pop("zone"), "member has no field 'zone'"),
    (put("cluster", ""), "cluster's id '' is not a printable word"),
    (put("cluster", 7), "field 'cluster' is of type int, not str"),
    (put("epoch", -1), "epoch -1 is not from 0 to"),
    (put("epoch", True), "field 'epoch' is of type bool, not int"),
    (put("epoch", 1.0), "field 'epoch' is of type float, not int"),
    (put("partitions", 6), "6 is not a power of two"),
    (put("partitions", 0), "0 is not a power of two"),
    (put("partitions", -8), "-8 is not a power of two"),
    (put("partitions", 2 * SLOTS), "not a power of two from 1 to 16384"),
    (put("partitions", 16), "owners for 8 partitions, not for 16"),
    (put("n", 0), "n is 0"),
    (put("n", 4), "partition 0 has 3 owners, not 4"),
    (put("r", 0), "r is 0, not from 1 to n, which is 3"),
    (put("r", 4), "r is 4, not from 1 to n"),
    (put("w", 0), "w is 0, not from 1 to n"),
    (put("w", 4), "w is 4, not from 1 to n"),
    (put("members", []), "has no members"),
    (put("members", ["m00"]), "a member of the layout is not a JSON object"),
    (put_member(1, id="m00"), "two members have the id 'm00'"),
    (put_member(1, name="n1"), "two members have the name 'n1'"),
    (put_member(1, address="127.0.0.1:7001"), "two members have the address '127.0.0.1:7001'"),
    (put_member(1, id=""), "the id '' of a member"),
    (put_member(1, name="n 1"), "the name 'n 1' of a member"),
    (put_member(1, name="n\x1b[2J"), "is not a printable word"),
    (put_member(1, name="\ud800"), "is not a printable word"),
    (put_member(1, zone="a b"), "the zone 'a b' of member n2"),
    (put_member(1, weight=0), "the weight 0 of member n2 is not positive"),
    (put_member(1, weight="1"), "field 'weight' is of type str, not int"),
    (put_member(1, address="nowhere"), "the address 'nowhere' of member n2 is not host:port"),
    (lambda fields: fields["members"].reverse(), "the members are not sorted by id"),
    (put("owners", {}), "field 'owners' is of type dict, not list"),
    (put_owners("m00", "m01"), "partition 5 has 2 owners, not 3"),
    (put_owners("m00", "m01", "m01"), "partition 5 names an owner twice"),
    (put_owners("m00", "m01", "m09"), "partition 5 is owned by 'm09', who is no member"),
    (put_owners("m00", "m01", 2), "not a list of member ids"),
]


@pytest.mark.parametrize(("spoil", "sentence"), FAULTS)
def test_an_invalid_layout_is_refused(spoil: Callable[[Fields], object], sentence: str) -> None:
    fields = json.loads(make_layout("aabb").encode())
    assert Layout.decode(seal(fields)) == make_layout("aabb")
    spoil(fields)
    with pytest.raises(LayoutError, match=sentence.replace("(", r"\(")):
        Layout.decode(seal(fields))


@pytest.mark.parametrize("address", ["localhost:1", "10.0.0.1:65535", "[::1]:7001", "node-3.rack_2.example:6379"])
def test_good_addresses(address: str) -> None:
    layout = make_layout("a")
    member = replace(layout.members[0], address=address)
    assert Layout.decode(replace(layout, members=(member,)).encode()).members[0].address == address


@pytest.mark.parametrize(
    "address",
    [
        *("", ":", ":7001", "a:", "a:0", "a:65536", "a:07001", "a:+1", "a:1 ", "a:" + "1" * 5000, "a:\u0663"),
        *("a b:1", "::1:7001", "[::g]:1", "[]:1"),
    ],
)
def test_bad_addresses(address: str) -> None:
    layout = make_layout("a")
    with pytest.raises(LayoutError, match="is not host:port"):
        replace(layout, members=(replace(layout.members[0], address=address),))


def test_a_layout_cannot_change() -> None:
    layout = make_layout()
    with pytest.raises(FrozenInstanceError):
        layout.epoch = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        layout.members[0].weight = 2  # type: ignore[misc]


# --- precedence


def test_the_higher_epoch_rules() -> None:
    old, new = make_layout(epoch=9), make_layout(epoch=10)
    assert new.wins_over(old)
    assert not old.wins_over(new)


@given(LAYOUTS, LAYOUTS)
@settings(max_examples=50)
def test_of_two_layouts_both_sides_pick_the_same(one: Layout, other: Layout) -> None:
    same_epoch = replace(other, epoch=one.epoch)
    for rival in (other, same_epoch):
        assert one.wins_over(rival) + rival.wins_over(one) == (one != rival)


def test_a_layout_of_another_cluster_never_rules() -> None:
    one = make_layout(epoch=1)
    other = replace(one, cluster="c2", epoch=2)
    assert not other.wins_over(one)
    assert not one.wins_over(other)


# --- what follows from a layout


@pytest.mark.parametrize("bits", range(15))
def test_slot_ranges_tile_the_slots(bits: int) -> None:
    layout = replace(make_layout("a"), partitions=1 << bits, owners=(("m00",),) * (1 << bits))
    width = SLOTS >> bits
    assert layout.slot_range(0) == (0, width - 1)
    assert layout.slot_range(layout.partitions - 1) == (SLOTS - width, SLOTS - 1)
    for partition in range(0, layout.partitions, max(1, layout.partitions // 64)):
        first, last = layout.slot_range(partition)
        assert last - first + 1 == width
        assert layout.partition_of(first) == layout.partition_of(last) == partition
        assert layout.partition_of((last + 1) % SLOTS) == (partition + 1) % layout.partitions


def test_quorums_are_cut_to_the_members() -> None:
    layout = replace(make_layout("a", n=3), r=2, w=3)
    assert (layout.effective_n, layout.effective_r, layout.effective_w) == (1, 1, 1)
    layout = replace(make_layout("abcd", n=3), r=2, w=3)
    assert (layout.effective_n, layout.effective_r, layout.effective_w) == (3, 2, 3)


@given(LAYOUTS)
@settings(max_examples=50)
def test_preference_lists_name_every_member_owners_first(layout: Layout) -> None:
    ids = [member.id for member in layout.members]
    for partition, owners in enumerate(layout.owners):
        preference = layout.preference_list(partition)
        assert preference[: len(owners)] == owners
        assert sorted(preference) == ids


@given(LAYOUTS)
@settings(max_examples=50)
def test_fallbacks_come_from_the_zones_used_least(layout: Layout) -> None:
    zone_of = {member.id: member.zone for member in layout.members}
    for preference in map(layout.preference_list, range(layout.partitions)):
        for place in range(layout.effective_n, len(preference)):
            used = Counter(zone_of[member] for member in preference[:place])
            assert used[zone_of[preference[place]]] == min(used[zone_of[member]] for member in preference[place:])


def test_the_order_of_the_fallbacks_is_computed_once() -> None:
    layout = make_layout()
    assert layout.fallbacks is layout.fallbacks


@pytest.mark.parametrize(("partitions", "nodes"), [(128, nodes) for nodes in range(4, 10)] + [(1024, 20)])
def test_the_partitions_of_a_failed_node_fall_back_on_all_others(partitions: int, nodes: int) -> None:
    layout = make_layout("a" * nodes, partitions)
    stands_in = Counter(
        (owner, lst[3]) for lst in map(layout.preference_list, range(layout.partitions)) for owner in lst[:3]
    )
    even = stands_in.total() / (nodes * (nodes - 1))
    for pair in itertools.permutations([member.id for member in layout.members], 2):
        assert abs(stands_in[pair] - even) <= max(2.0, even / 5)


def test_heavier_members_stand_in_more() -> None:
    layout = make_layout("aaaaa", 64, n=1, weights="11114")
    stands_in = Counter(
        preference[1] for preference in map(layout.preference_list, range(layout.partitions)) if preference[0] == "m00"
    )
    assert stands_in["m04"] == max(stands_in.values()) > stands_in["m01"]


def test_balance() -> None:
    assert make_layout("aaaa", 8, n=2).balance() == 1.0
    assert make_layout("aaa", 8, n=2, weights="121").balance() == 1.0
    members = make_layout("aa", 4, n=1).members
    uneven = Layout("c1", 1, 4, 1, 1, 1, members, (("m00",), ("m00",), ("m00",), ("m01",)))
    assert uneven.owned() == {"m00": 3, "m01": 1}
    assert uneven.balance() == pytest.approx(2 / 3)
