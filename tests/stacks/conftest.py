"""The clusters of the wire tests."""

from tests.wire.conftest import make_cluster as make_cluster
