"""The numbers on the dashboard's pages, worked out anew from the database and the files, without our code.

Of a SQLite installation with one dataset of two classes, whose policy is the default one.
"""

from support.dashboard_numbers.annotators import check_annotators
from support.dashboard_numbers.machine import check_machine
from support.dashboard_numbers.queue import check_queue
from support.dashboard_numbers.reasons import check_reasons
from support.dashboard_numbers.round import check_round
from support.dashboard_numbers.rounds import check_rounds
from support.dashboard_numbers.sample import check_sample
from support.dashboard_numbers.samples import check_samples
from support.dashboard_numbers.start import check_start
from support.dashboard_numbers.versions import check_versions

CHECKS = (
    check_start, check_rounds, check_round, check_samples, check_sample, check_annotators, check_queue,
    check_reasons, check_versions, check_machine,
)  # fmt: skip
