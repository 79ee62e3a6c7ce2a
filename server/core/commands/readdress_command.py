"""DYN.CLUSTER READDRESS: an operator names addresses at which members may be found now.

Theory. A node trusts only a member itself about the member's address: it asks at the given addresses who is there, and
puts what the members answer into the layout (core/membership/addresses.py). So a wrong address does no harm, and it is
enough to ask one node: the layout spreads to all that it reaches.
"""

from __future__ import annotations

from protocol import resp
from server.core.base.errors import CommandError
from server.core.base.sinks import Sink
from server.core.commands.operator import layout_of
from server.core.commands.shapes import show
from server.core.commands.spec import ALONE, CommandSpec
from server.core.operators import documents
from server.core.ring.layout_faults import is_address
from server.core.services.services import Services
from server.core.work.procedures import Steps


def _named_address(word: bytes) -> tuple[str, str]:
    """The name and the address in `[NAME=]HOST:PORT`. Raises CommandError."""
    name, _, address = word.decode("utf-8", "replace").rpartition("=")
    if not is_address(address):
        raise CommandError(f"ERR {show(word)} is not [NAME=]HOST:PORT")
    return name, address


def _readdress(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    layout = layout_of(services)
    named = [_named_address(word) for word in args[2:]]
    for name, _ in named:
        if name and all(member.name != name for member in layout.members):
            names = ", ".join(member.name for member in documents.by_name(layout))
            raise CommandError(f"ERR there is no node {show(name.encode())}: the members are {names}")

    def steps() -> Steps:
        addresses = list(dict.fromkeys(address for _, address in named))
        found = yield lambda procedure: services.addresses.search(addresses, procedure.resume)
        for name, address in named:
            for outcome in found:
                if name and outcome["asked"] == address and outcome["node"] not in ("", name) and not outcome["error"]:
                    outcome["error"] = f"node {outcome['node']} answers there, not {name}"
        return resp.bulk(documents.encode({"nodes": found}))

    services.run_steps(steps(), sink, number)


READDRESS: CommandSpec = CommandSpec(
    "dyn.cluster|readdress", -3, ALONE, _readdress, "Asks at addresses which members are there now: the layout gets the "
    "address that each tells of itself.", "dyn", "write", arguments="address [address ...]",
)  # fmt: skip
