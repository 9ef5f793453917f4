"""A cluster of Ray with two nodes of one CPU, held by a process of its own: a line in does something, a line out says
what there is: ``kill`` ends the second node, ``add`` starts another one."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path


def main(folder: str) -> None:
    from ray.cluster_utils import Cluster

    Path(tempfile.gettempdir(), "ray").mkdir(exist_ok=True)  # Ray notes the address there, whatever its own folder is
    own = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**own, "include_dashboard": False, "temp_dir": folder})
    second = cluster.add_node(**own)
    try:
        print(json.dumps([cluster.address, second.node_id]), flush=True)
        for line in sys.stdin:
            if line.strip() == "kill":
                cluster.remove_node(second, allow_graceful=False)
            else:
                second = cluster.add_node(**own)
            print(json.dumps([cluster.address, second.node_id]), flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
