"""One process of the search:   python -m scripts.fuzzing.child SEED EXAMPLES FOLDER

It prints a line of JSON for every network, and says in FOLDER/current what it is at, since it may crash.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from pathlib import Path

import onnx
from hypothesis import HealthCheck, Phase, given, seed, settings

from scripts.fuzzing.cases import cases
from scripts.fuzzing.finding import Finding
from scripts.fuzzing.properties import Case, check_network
from scripts.fuzzing.random_network import networks
from tvm_rsq.errors import Error


def main() -> int:
    """0: nothing was found."""
    # Whatever else prints, compilers among them, does so elsewhere: this output is read by the parent.
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    number, examples, current = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]) / "current"
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    # Each example from its seed alone: no database, no deadline; what is found is made small.
    options = settings(max_examples=examples, deadline=None, database=None, phases=(Phase.generate, Phase.shrink), print_blob=False)

    failed = False  # from then on the example is only made smaller, and nothing more is tried

    @seed(number)
    @settings(options, suppress_health_check=list(HealthCheck))
    @given(networks(), cases())
    def search(model: onnx.ModelProto, case: Case) -> None:
        nonlocal failed
        Finding(model=model, case=case).save(current)
        refused = ""
        try:
            check_network(model, case)
        except Error as error:  # refused by name: as it should be, and shown, as it may be a refusal too many
            refused = str(error)
        except Exception:
            failed = True
            raise
        if not failed:
            print(json.dumps({"tried": 1, "refused": refused}), file=output, flush=True)

    try:
        search()
    except Exception as error:
        reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
        found = Finding.load(current)
        Finding(model=found.model, case=found.case, reason=reason).save(current)
        print(json.dumps({"found": reason}), file=output, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
