"""The clusters of the wire tests."""

from tests.wire.conftest import cluster as cluster
from tests.wire.conftest import make_cluster as make_cluster
from tests.wire.conftest import shared_cluster as shared_cluster
