"""A training process. Torch takes seconds to load: who started this may be killed before it is."""

import sys

from imil_backend.learning.contract.supervision import die_with_supervisors

if __name__ == "__main__":
    die_with_supervisors()
    from imil_backend.learning.child.training_process import main

    sys.exit(main())
