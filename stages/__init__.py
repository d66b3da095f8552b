"""One module a stage of dvc.yaml: read params, call pipeline/, write outputs."""

import os

# Before torch is imported. OpenMP's threads turn round and round while they wait for one another, and so take the
# processors from whoever else works, such as a second training. With so few rounds a training that is alone loses next
# to nothing (benchmarks/sharing.py).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
