"""Celery: broker and result backend in the cluster."""

from __future__ import annotations

from typing import Any

from celery import Celery

from tests.stacks.workers import tasks

app: Any = Celery("stacks", broker=tasks.URL, backend=tasks.URL)
record = app.task(name="record")(tasks.record)
