"""The numbers on the dashboard's pages, worked out anew from the database and the files, without our code.

Of a SQLite installation whose policy asks for mispredictions by confidence, as it is by default.
"""

from support.dashboard_numbers.annotators import check_annotators
from support.dashboard_numbers.machine import check_machine
from support.dashboard_numbers.queue import check_queue
from support.dashboard_numbers.reasons import check_reasons
from support.dashboard_numbers.rounds import check_rounds
from support.dashboard_numbers.samples import check_samples
from support.dashboard_numbers.start import check_start

CHECKS = (
    check_start, check_rounds, check_samples, check_annotators, check_queue, check_reasons, check_machine
)  # fmt: skip
