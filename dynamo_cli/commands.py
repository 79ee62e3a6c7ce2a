"""The Typer app: all commands and the global options.

One place turns a `Failure` into a message on stderr and an exit status, whichever command raised it and however deep: the
`invoke` of the root group. Every command runs through it, in the tests as in the shell.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dynamo_cli import (
    config_commands,
    data_commands,
    doctor_command,
    hints_commands,
    key_commands,
    layout_commands,
    local_commands,
    membership_commands,
    moving_commands,
    plan_commands,
    repair_commands,
    secret_commands,
    siblings_commands,
    task_commands,
    tls_commands,
    trace_commands,
)
from dynamo_cli.client import TIMEOUT_S_DEFAULT
from dynamo_cli.failures import Failure
from dynamo_cli.global_options import App, Group, Listing, Starting
from dynamo_cli.options import Host, PasswordFile, Port, Timeout, UserName
from dynamo_cli.output import report
from dynamo_cli.target import Target
from dynamo_cli.tls_client import Tls
from dynamo_cli.tls_options import CaFile, CertificateFile, Encrypted, Insecure, KeyFile
from dynamo_cli.version import version_text


class Root(Listing):
    """The `dyn` command itself."""

    def invoke(self, context: Any) -> Any:
        """Runs the command; a Failure becomes its message and its exit status."""
        try:
            return super().invoke(context)
        except Failure as failure:
            report(failure)
            raise typer.Exit(failure.status) from None


def _group(help_text: str) -> typer.Typer:
    return App(cls=Group, help=help_text, rich_markup_mode=None, no_args_is_help=True)


app = App(
    name="dyn",
    cls=Root,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # brackets in the help are plain brackets, and plain help takes half the time
)
cluster = _group("Show the cluster, form one from fresh nodes, or change its members.")
ring = _group("Show the owners of partitions and keys.")
node = _group("Run single nodes.")
hints = _group("Show and deliver hints: records kept for owners that could not be reached.")
secret = _group("Make and rotate the secret that the nodes of a cluster prove to each other.")
siblings = _group("Show and decide what concurrent writes have left under a key.")
tls = _group("Make certificates.")
key = _group("Make keys for encryption at rest.")
task = _group("Show, await, abort or pause repairs and transfers.")
config = _group("Show and change the settings of nodes, and check a file of settings.")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version_text())
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    host: Host = None,
    port: Port = None,
    timeout_s: Timeout = TIMEOUT_S_DEFAULT,
    user: UserName = None,
    password_file: PasswordFile = None,
    encrypted: Encrypted = False,
    ca: CaFile = None,
    certificate: CertificateFile = None,
    key: KeyFile = None,
    insecure: Insecure = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and the build, and exit."
        ),
    ] = False,
) -> None:
    """Run, inspect and use a dyn cluster: a replicated key-value store that speaks the Redis protocol.

    Any node answers for the whole cluster. The options --host and --port name the node that a command asks. Without them it
    is the node of the environment variable DYN_URL, such as redis://127.0.0.1:7001, or of several nodes there the first one
    that answers: redis://10.0.0.1:7001,10.0.0.2:7001. With --tls, or one of --cacert, --cert, --key and --insecure, or
    rediss:// in DYN_URL, the connection is encrypted. These options may stand before the command or behind it.

    A cluster with users wants a login: --user names the user, and the password is the first line of --password-file or of
    the file DYN_PASSWORD_FILE, or DYN_PASSWORD, or stands in DYN_URL=redis://USER:PASSWORD@HOST:PORT. Without these it is
    asked for on a terminal. On a node's machine the user dyn.local may do everything; the node writes its password to
    DIR/operator at each start, which only the owner of DIR can read.
    """
    wants_tls = encrypted or insecure or any(file is not None for file in (ca, certificate, key))
    tls_files = Tls(ca, certificate, key, insecure) if wants_tls else None
    context.obj = Target(host, port, timeout_s, tls_files, user, password_file)


app.command("up", help=local_commands.UP, cls=Starting)(local_commands.up)
app.command("down")(local_commands.down)
app.command("get")(data_commands.get)
app.command("set")(data_commands.set_)
app.command("del")(data_commands.del_)
app.command("trace", help=trace_commands.TRACE)(trace_commands.trace)
app.command("import")(moving_commands.import_)
app.command("export")(moving_commands.export)
cluster.command("init")(layout_commands.cluster_init)
cluster.command("status")(layout_commands.cluster_status)
cluster.command("join")(membership_commands.cluster_join)
cluster.command("leave")(membership_commands.cluster_leave)
cluster.command("remove")(membership_commands.cluster_remove)
cluster.command("replace")(membership_commands.cluster_replace)
cluster.command("weight")(membership_commands.cluster_weight)
cluster.command("zone")(membership_commands.cluster_zone)
cluster.command("readdress")(membership_commands.cluster_readdress)
cluster.command("plan")(plan_commands.cluster_plan)
cluster.command("commit")(plan_commands.cluster_commit)
cluster.command("abort")(plan_commands.cluster_abort)
app.command("doctor")(doctor_command.doctor)
app.command("repair")(repair_commands.repair)
ring.command("show")(layout_commands.ring_show)
ring.command("locate")(layout_commands.ring_locate)
node.command("start", help=local_commands.NODE_START, cls=Starting)(local_commands.node_start)
hints.command("list")(hints_commands.hints_list)
hints.command("replay")(hints_commands.hints_replay)
siblings.command("list")(siblings_commands.siblings_list)
siblings.command("show")(siblings_commands.siblings_show)
siblings.command("resolve")(siblings_commands.siblings_resolve)
task.command("list")(task_commands.task_list)
task.command("show")(task_commands.task_show)
task.command("wait")(task_commands.task_wait)
task.command("abort")(task_commands.task_abort)
task.command("pause")(task_commands.task_pause)
task.command("resume")(task_commands.task_resume)
tls.command("make")(tls_commands.tls_make)
tls.command("revoke")(tls_commands.tls_revoke)
key.command("make")(key_commands.key_make)
config.command("show")(config_commands.config_show)
config.command("set", context_settings={"ignore_unknown_options": True})(config_commands.config_set)  # -1 is a value
config.command("check")(config_commands.config_check)
app.add_typer(cluster, name="cluster")
app.add_typer(ring, name="ring")
app.add_typer(hints, name="hints")
secret.command("make")(secret_commands.secret_make)
secret.command("add")(secret_commands.secret_add)
secret.command("use")(secret_commands.secret_use)
secret.command("drop")(secret_commands.secret_drop)
app.add_typer(siblings, name="siblings")
app.add_typer(task, name="task")
app.add_typer(secret, name="secret")
app.add_typer(node, name="node")
app.add_typer(tls, name="tls")
app.add_typer(key, name="key")
app.add_typer(config, name="config")
