"""A client of a cluster in a process of its own, for tests that end it. Its argument is a pickle in hex."""

import pickle
import sys
from pathlib import Path

from builder.backends.cluster.runners import ClusterOrder
from builder.backends.local_store import LocalStore
from tests.integration.test_cluster import build_on, waiting_step


def main(order: bytes) -> None:
    address, shared, store, out, mark, root = pickle.loads(order)  # noqa: S301 - from the test
    logs = {leg: Path(out) / leg for leg in "ab"}
    try:
        build_on(
            ClusterOrder(address, shared, LocalStore(Path(store)), logs, cold=False, patience=60.0),
            (waiting_step(mark),),
            root,
            legs="a",
        )
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main(bytes.fromhex(sys.argv[1]))
