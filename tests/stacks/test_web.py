"""Caches and sessions of web frameworks, from their own packages: Django, django-redis, Flask, cachelib."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.stacks.stack import Stack, work_in_calm, work_under_faults
from tests.wire.cluster import WireCluster


class DjangoCache(Stack):
    """django.core.cache with its Redis backend."""

    packages = ("django",)

    def __init__(self, port: int) -> None:
        self.cache = _django_cache(port)

    def round(self, thread: int, number: int) -> None:
        """A page is looked up, made, kept, counted and dropped."""
        cache, key = self.cache, f"page:{thread}:{number}"
        assert cache.get(key) is None
        cache.set(key, {"title": "café", "number": number}, timeout=60)
        assert cache.get(key) == {"title": "café", "number": number}
        assert cache.add(key, "other") is False
        assert cache.get_or_set(f"{key}:made", lambda: [1, 2, 3], 60) == [1, 2, 3]
        assert cache.get_many([key, f"{key}:made", f"{key}:none"]).keys() == {key, f"{key}:made"}
        cache.set_many({f"{key}:one": 1, f"{key}:two": 2}, timeout=60)
        assert cache.get_many([f"{key}:one", f"{key}:two"]) == {f"{key}:one": 1, f"{key}:two": 2}
        cache.set(f"{key}:hits", 1)
        assert cache.incr(f"{key}:hits", 4) == 5
        assert cache.decr(f"{key}:hits") == 4
        assert cache.touch(key, 100)
        assert cache.has_key(key)
        self.told(cache.delete(key), 1)
        assert cache.get(key) is None
        cache.delete_many([f"{key}:made", f"{key}:hits", f"{key}:one", f"{key}:two"])


class DjangoRedis(DjangoCache):
    """The package django-redis, in database 1 as its documentation has it."""

    packages = ("django-redis",)

    def __init__(self, port: int) -> None:
        pytest.importorskip("django_redis")
        self.cache = _django_cache(port, "django_redis.cache.RedisCache", "/1")

    def round(self, thread: int, number: int) -> None:
        """As any cache of Django, and what it has beside that: patterns, locks, the time that is left."""
        super().round(thread, number)
        cache, key = self.cache, f"own:{thread}:{number}"
        cache.set_many({f"{key}:{part}": part for part in range(3)}, timeout=60)
        assert sorted(cache.iter_keys(f"{key}:*")) == [f"{key}:{part}" for part in range(3)]
        assert 0 < cache.ttl(f"{key}:0") <= 60
        assert cache.persist(f"{key}:0") and cache.ttl(f"{key}:0") is None
        assert cache.expire(f"{key}:0", 50)
        with cache.lock(f"{key}:lock", timeout=30):
            assert not cache.lock(f"{key}:lock", timeout=30).acquire(blocking=False)
        self.told(cache.delete_pattern(f"{key}:*"), 3)


class DjangoSessions(Stack):
    """django.contrib.sessions on that cache."""

    packages = ("django",)

    def __init__(self, port: int) -> None:
        _django_cache(port)

    def round(self, thread: int, number: int) -> None:
        """A user logs in, comes back twice, and logs out."""
        from django.contrib.sessions.backends.cache import SessionStore

        session = SessionStore()
        session["user"] = f"{thread}:{number}"
        session.save()
        again = SessionStore(session.session_key)
        assert again["user"] == f"{thread}:{number}"
        again["cart"] = [number]
        again.cycle_key()
        again.save()
        assert dict(SessionStore(again.session_key).items()) == {"user": f"{thread}:{number}", "cart": [number]}
        assert not SessionStore().exists(session.session_key), "its key was changed"
        again.flush()
        assert not SessionStore().exists(again.session_key or "")


class FlaskSessions(Stack):
    """Flask-Session, through whole requests."""

    packages = (
        "flask-session",
        "flask",
    )

    def __init__(self, port: int) -> None:
        flask = pytest.importorskip("flask")
        sessions = pytest.importorskip("flask_session")
        redis = pytest.importorskip("redis")
        app = flask.Flask("stack")
        app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis.Redis(port=port), SECRET_KEY="k")
        sessions.Session(app)

        @app.get("/visit")
        def visit() -> str:
            flask.session["visits"] = flask.session.get("visits", 0) + 1
            return str(flask.session["visits"])

        @app.get("/leave")
        def leave() -> str:
            flask.session.clear()
            return "gone"

        self._app = app

    def round(self, thread: int, number: int) -> None:
        """A browser comes three times, leaves, and comes again."""
        browser = self._app.test_client()
        replies = [browser.get(path) for path in ("/visit", "/visit", "/visit", "/leave", "/visit")]
        assert [reply.text for reply in replies] == ["1", "2", "3", "gone", "1"]


class Cachelib(Stack):
    """cachelib's RedisCache."""

    packages = ("cachelib",)

    def __init__(self, port: int) -> None:
        self.cache: Any = pytest.importorskip("cachelib").RedisCache(port=port)

    def round(self, thread: int, number: int) -> None:
        """What its own documentation shows."""
        cache, key = self.cache, f"cachelib:{thread}:{number}"
        assert cache.set(key, {"a": number}, timeout=60)
        assert cache.get(key) == {"a": number}
        assert not cache.add(key, 1)
        assert sorted(cache.set_many({f"{key}:1": 1, f"{key}:2": 2})) == [f"{key}:1", f"{key}:2"]
        assert cache.get_many(f"{key}:1", f"{key}:2", f"{key}:3") == [1, 2, None]
        assert cache.inc(f"{key}:1", 2) == 3
        assert cache.has(key)
        self.told(len(cache.delete_many(f"{key}:1", f"{key}:2")), 2)
        self.told(cache.delete(key), 1)
        assert cache.get(key) is None


def _django_cache(port: int, backend: str = "django.core.cache.backends.redis.RedisCache", database: str = "") -> Any:
    pytest.importorskip("django")
    from django.conf import settings
    from django.core.cache import caches
    from django.test.utils import override_settings

    options = {"BACKEND": backend, "LOCATION": f"redis://127.0.0.1:{port}{database}"}
    if not settings.configured:
        settings.configure(SECRET_KEY="k", SESSION_ENGINE="django.contrib.sessions.backends.cache")
    override_settings(CACHES={"default": options}).enable()
    return caches["default"]


KINDS = [DjangoCache, DjangoRedis, DjangoSessions, FlaskSessions, Cachelib]


@pytest.mark.parametrize("kind", KINDS)
def test_it_works(cluster: WireCluster, kind: type[Stack]) -> None:
    work_in_calm(kind(cluster.ports[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_it_works_while_nodes_fail(make_cluster: Callable[..., WireCluster], kind: type[Stack]) -> None:
    cluster = make_cluster()
    work_under_faults(cluster, kind(cluster.ports[0]))


@pytest.mark.parametrize("kind", [DjangoCache, DjangoRedis, Cachelib])
def test_a_cache_is_cleared(make_cluster: Callable[..., WireCluster], kind: type[Any]) -> None:
    stack = kind(make_cluster().ports[0])
    assert stack.cache.set("a", 1) in (None, True)
    assert stack.cache.get("a") == 1
    stack.cache.clear()
    assert stack.cache.get("a") is None
