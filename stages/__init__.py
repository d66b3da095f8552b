"""One module for each stage of dvc.yaml: read params, call pipeline/, write outputs."""

from pipeline.runtime.settings import (
    compute_the_same_everywhere,
    limit_spinning,
    limit_threads,
    write_what_the_terminal_can_show,
)

# Here, as every stage imports this module before torch and NumPy.
compute_the_same_everywhere()
limit_spinning()
limit_threads()
write_what_the_terminal_can_show()
