"""`dyn import` and `dyn export`: data of other Redis servers and of RDB files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dynamo_cli.failures import ExitStatus
from dynamo_cli.options import JSON
from dynamo_cli.output import as_json, as_shown, counted, note, write_json, write_line
from dynamo_cli.progress import progress
from dynamo_cli.target import target_of

_LIMITS = ("record_bytes_max", "value_bytes_max", "request_bytes_max")
_RAISE = (
    "raise the limit that the error names, on all nodes (dyn config set for record_bytes_max, which is at most a quarter "
    "of frame_bytes_max; for the others the settings file and a restart, man dyn.toml), and run the import again"
)
_Source = Annotated[
    str, typer.Argument(metavar="SOURCE", help="An RDB file, or redis://HOST:PORT.", show_default=False)
]
_File = Annotated[Path, typer.Argument(metavar="FILE", help="The RDB file to write.", show_default=False)]
_Rate = Annotated[int, typer.Option("--rate", metavar="N", min=0, help="Keys a second at most.", show_default="any")]
_ProgressFile = Annotated[
    Path | None,
    typer.Option(
        "--progress-file",
        metavar="FILE",
        help="Where to note how far the import has come.",
        show_default="FILE.dyn-import beside the source, or dyn-import-HOST-PORT",
    ),
]
_Follow = Annotated[bool, typer.Option("--follow", help="Copy what is written at the source, until Ctrl-C.")]
_NoVerify = Annotated[bool, typer.Option("--no-verify", help="Do not compare the keys at the end.")]
_Databases = Annotated[
    list[int] | None,
    typer.Option("--db", metavar="N", min=0, max=15, help="This database; may be repeated.", show_default="all"),
]


def import_(
    context: typer.Context,
    source: _Source,
    rate: _Rate = 0,
    progress_file: _ProgressFile = None,
    follow: _Follow = False,
    no_verify: _NoVerify = False,
    as_document: JSON = False,
) -> None:
    """Import all keys of an RDB file, or of a running Redis server, into the databases that they are of.

    A key replaces what the cluster has under its name, with its expiry. Files are of versions 6 to 12 (Redis 3.2 to 7.4)
    and 80 (Valkey 9.0), with a checksum that is right. Of a server, redis://USER:PASSWORD@HOST:PORT/N is one database.
    Left out and counted: values of modules, functions, databases above 15; consumer groups, streams without entries.
    An import that ends early, for whatever reason, goes on where it was when the same command is run again.

    With --follow keys that are written at the server while it is copied, and afterwards, are copied again, by its keyspace
    notifications, which the command turns on meanwhile. To change over: stop the writers, wait until nothing is behind, end
    the command with Ctrl-C. FLUSHALL and FLUSHDB at the server are not followed.

    At the end all keys of a server are compared with the cluster's: type, expiry, and every item. Keys larger than
    record_bytes_max (32 MiB by default) are refused, and all others imported. The exit status is 1 if a key was refused or
    differs.

    With --json: {"keys", "expired", "refused", "left_out", "refusals"}, of a server without "expired" and with "followed"
    and "different", which is null with --no-verify. left_out has counts by type; refusals are the first 1,000.
    """
    target = target_of(context)
    with progress("import", "MiB" if _is_file(source) else "keys", as_document) as shown:
        if _is_file(source):
            from dynamo_cli.moving.file_import import FileImport

            if follow:
                raise typer.BadParameter("--follow is for a server")
            result = FileImport(Path(source), target, rate, progress_file).run(shown)
        else:
            from dynamo_cli.moving.redis_import import RedisImport

            result = RedisImport(source, target, rate, progress_file).run(shown, follow, not no_verify)
    _show_import(result, as_document)


def _is_file(source: str) -> bool:
    return not source.startswith(("redis://", "rediss://"))


def _show_import(result: dict[str, Any], as_document: bool) -> None:
    for refusal in result["refusals"]:
        note(f"refused in database {refusal.database}: {as_shown(refusal.key)}: {refusal.error}")
    if any(each in refusal.error for refusal in result["refusals"] for each in _LIMITS):
        note(_RAISE)
    for what, count in result["left_out"].items():
        note(_of_streams(what, count) or f"left out: {count} of {what}")
    found = result["refusals"]
    if as_document:
        refusals = [{"database": each.database, "key": as_json(each.key), "error": each.error} for each in found]
        write_json(result | {"refusals": refusals})
    else:
        words = [f"imported: {counted(result['keys'], 'key')}"]
        words += [
            f"{result[name]} {name}" for name in ("expired", "refused", "followed", "different") if result.get(name)
        ]
        write_line(", ".join(words))
    if result["refused"] or result.get("different"):
        raise typer.Exit(ExitStatus.FAILED)


def _of_streams(what: str, count: int) -> str:
    """The line that tells what streams have lost; none if it is about something else."""
    from dynamo_cli.moving.rdb_values import EMPTY_STREAMS, GROUPS, LAST_IDS

    streams = counted(count, "stream")
    return {
        GROUPS: f"of {streams} the consumer groups were left out",
        LAST_IDS: f"of {streams} the id of a deleted last entry was left out",
        EMPTY_STREAMS: f"left out: {streams} without entries",
    }.get(what, "")


def export(context: typer.Context, file: _File, databases: _Databases = None, as_document: JSON = False) -> None:
    """Write all keys of the cluster, or those of some databases, to an RDB file that redis-server loads.

    The file is of version 10, which Redis 7.0 and later load, or of version 12 if fields of hashes expire (Redis 7.4). It
    gets its name when it is whole. Keys that are written meanwhile are in it as they were before or after that. Of several
    siblings the file has what plain commands show.

    With --json: {"keys", "bytes"}.
    """
    from dynamo_cli.moving import file_export

    with progress("export", "keys", as_document) as shown:
        result = file_export.export(file, target_of(context), databases, shown)
    if as_document:
        write_json(result)
    else:
        write_line(f"exported: {counted(result['keys'], 'key')}, {counted(result['bytes'], 'byte')}")
