"""Reads the settings of a node from all places that give some: the strongest wins.

| source | what | strength |
|---|---|---|
| option | `--set NAME=VALUE`, `--fsync`, `--engine`, ... of this start | beats all others |
| environment | `DYN_NAME`, such as DYN_SIBLINGS_MAX=50 | |
| file | the TOML file of `--config`, or of the one that the directory remembers | |
| directory | `--fsync` and `--engine` of an earlier start (node.json) | |
| default | `Config`; the sizes of the caches are computed from the machine's memory (caches.py) | |

Where a directory remembers something and a stronger source says otherwise, the log says so, and the directory forgets it.
An environment variable DYN_... that is no setting is ignored, because other programs make such names (Kubernetes gives
DYN_PORT to the pods beside a service `dyn`); if it is nearly the name of a setting, the log says so. And so is one that has
the name of a setting which is a number, and has an address as its value: DYN_TLS_PORT beside a service `dyn-tls`.

A setting that an earlier version had (`RETIRED`) is ignored, and the log says so when the node starts: an upgrade must not
keep a node from starting.

While a node runs, `SettingsFile` reads the file again on SIGHUP, and CONFIG REWRITE writes to it.
"""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from server.core.base.config import DEFAULTS, LIVE, RETIRED, Config, ConfigError, value_faults, value_of
from server.core.services.live_settings import change, values
from server.core.services.process import SettingsSources
from server.core.services.services import Services
from server.shell.caches import memory_bytes, with_caches
from server.shell.settings_text import lines_of, with_settings, write_file

log = logging.getLogger("dyn")
PREFIX = "DYN_"
OPTION, ENVIRONMENT, FILE, DIRECTORY, MACHINE = "option", "environment", "file", "directory", "machine"
Settings = Mapping[str, object]
_FOLLOWED = LIVE - {"requirepass", "notify_keyspace_events"}  # settings that a running node takes from its file


@dataclass(frozen=True, slots=True)
class Given:
    """What each source gives; the strongest one last."""

    directory: Settings
    file: Settings
    environment: Settings
    option: Settings
    path: Path | None = None  # of the file

    def sources(self) -> dict[str, str]:
        """By setting the source that counts."""
        rows = ((DIRECTORY, self.directory), (FILE, self.file), (ENVIRONMENT, self.environment), (OPTION, self.option))
        return {name: source for source, settings in rows for name in settings}

    def values(self) -> dict[str, object]:
        """By setting the value that counts."""
        return {**self.directory, **self.file, **self.environment, **self.option}

    def place(self, name: str) -> str:
        """Where a setting is given, for a message."""
        source = self.sources().get(name)
        if source == FILE and self.path is not None:
            return place_in(self.path, name)
        words = {ENVIRONMENT: f"environment variable {PREFIX}{name.upper()}", OPTION: "an option of this start",
                 DIRECTORY: "node.json"}  # fmt: skip
        return words.get(str(source), "")


def place_in(path: Path, name: str) -> str:
    """The file and the line that give a setting."""
    number = lines_of(path.read_text()).get(name)
    return f"line {number} of {path}" if number else str(path)


def read_file(path: Path) -> dict[str, object]:
    """The settings of a TOML file, not checked. Raises ConfigError, OSError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def without_retired(found: Settings) -> dict[str, object]:
    """These settings, but for those that only an earlier version had."""
    return {name: value for name, value in found.items() if name not in RETIRED}


def read_environment(environment: Mapping[str, str]) -> dict[str, object]:
    """The settings of the variables DYN_NAME. Raises ConfigError."""
    found = {}
    variables = {f"{PREFIX}{name.upper()}": name for name in DEFAULTS}
    for variable, text in environment.items():
        name = variables.get(variable, "")
        if name and "://" in text and isinstance(DEFAULTS[name], int):
            log.warning(
                "environment variable %s is an address, which %s cannot be: it is ignored, as Kubernetes makes such names",
                variable,
                name,
            )
        elif name:
            try:
                found[name] = value_of(name, text)
            except ConfigError as error:
                raise ConfigError(f"environment variable {variable}: {error}, and is {text!r}") from error
        elif variable.startswith(PREFIX) and (near := get_close_matches(variable, variables, 1, 0.9)):
            log.warning(
                "environment variable %s is no setting and is ignored: is it meant to be %s?", variable, near[0]
            )
    return found


def read_given(
    path: Path | None,
    options: Settings,
    directory: Settings,
    environment: Mapping[str, str],
    is_remembered: bool = False,
) -> Given:
    """What all sources give. `is_remembered`: the directory has told the path. Raises ConfigError."""
    try:
        file = read_file(path) if path is not None else {}
    except OSError as error:
        remembered = ", which this directory remembers of an earlier --config" if is_remembered else ""
        raise ConfigError(
            f"cannot read the file of settings {path}{remembered}: {error.strerror}; restore it, or name another with "
            "--config (/dev/null for none)"
        ) from error
    for name in RETIRED:
        if name in file or name in options or f"{PREFIX}{name.upper()}" in environment:
            log.warning("%s is given and is ignored: it is no setting any more, and %s", name, RETIRED[name])
    return Given(directory, without_retired(file), read_environment(environment), without_retired(options), path)


def resolve(given: Given) -> tuple[Config, SettingsSources]:
    """The config of a node, and where each of its settings comes from. Raises ConfigError, which says where."""
    counted = given.values()
    for name, fault in value_faults(counted):
        raise ConfigError(f"{fault} ({given.place(name)})")
    config = Config.of(counted)
    fitted = with_caches(config, counted, memory_bytes())
    known = SettingsSources()
    known.sources = given.sources()
    known.sources |= {name: MACHINE for name, value in values(fitted).items() if value != getattr(config, name)}
    known.file = str(given.path) if given.path is not None else ""
    return fitted, known


def forget_overruled(given: Given) -> dict[str, object]:
    """What the directory goes on to remember: not what a file or the environment gives now. Logs what it forgets."""
    kept = dict(given.directory)
    sources, counted = given.sources(), given.values()
    for name, value in given.directory.items():
        if sources[name] in (FILE, ENVIRONMENT):
            del kept[name]
            if counted[name] != value:
                log.warning(
                    "%s is %s by %s: %s of an earlier start counts no more",
                    name,
                    counted[name],
                    given.place(name),
                    value,
                )
    return kept


class SettingsFile:
    """The file of a running node: read again on SIGHUP, written by CONFIG REWRITE."""

    def __init__(self, given: Given, known: SettingsSources) -> None:
        self._given = given
        self._known = known
        self._read = dict(given.file)  # as the file was when it was read last
        self._services: Services | None = None

    def attach(self, services: Services) -> None:
        """Serves the node of this run of the process."""
        self._services = services
        services.process.settings = self._known
        self._known.read_again = self.read_again
        if self._given.path is not None:
            self._known.write = self.write

    def read_again(self) -> None:
        """Applies what has changed in the file since it was read last, where no stronger source gives the setting."""
        path, services = self._given.path, self._services
        if path is None or services is None:
            return
        try:
            found = without_retired(read_file(path))
            for name, fault in value_faults(found):
                raise ConfigError(f"{fault} ({place_in(path, name)})")
            gone = {name: DEFAULTS[name] for name in self._read if name not in found}
            changed = {name: value for name, value in {**gone, **found}.items() if value != self._read.get(name)}
            stronger = {**self._given.environment, **self._given.option}
            live = {name: value for name, value in changed.items() if name in _FOLLOWED and name not in stronger}
            if "clients_max" in live:  # as at the start: as many as the open files allow
                live["clients_max"] = services.process.room_for_clients(int(str(live["clients_max"])))
            change(services, live, FILE)
        except (ConfigError, OSError) as error:
            log.warning("the settings stay as they were: %s", error)
            return
        self._read = found
        for name in gone:
            if (
                name in _FOLLOWED and self._known.sources.get(name) == FILE
            ):  # else its value stays, and so does its source
                del self._known.sources[name]
        self._tell(live, [name for name in changed if name not in live and name not in stronger])

    def _tell(self, live: Settings, others: list[str]) -> None:
        path = self._given.path
        if live:
            words = ", ".join(f"{name}={value}" for name, value in live.items())
            log.info("settings that have changed in %s are in force: %s", path, words)
        if others:
            log.warning("settings that have changed in %s and need a restart of the node: %s", path, ", ".join(others))

    def write(self, changes: Settings) -> None:
        """Writes these settings to the file, which keeps its comments. Raises OSError, ValueError."""
        path = self._given.path
        assert path is not None, "there is a file, or nobody gets this function"
        if path.exists() and not path.is_file():  # a rename over /dev/null would replace it
            raise ValueError("it is no regular file: start the node with one")
        text = with_settings(path.read_text(encoding="utf-8"), changes)
        write_file(path, text)
        self._read = without_retired(tomllib.loads(text))
        stronger = {**self._given.environment, **self._given.option}
        for name in changes:
            self._known.sources[name] = FILE
            if name in stronger:
                log.warning(
                    "%s is in %s now, but at the next start %s counts, if it is still given", name, path,
                    self._given.place(name),
                )  # fmt: skip
