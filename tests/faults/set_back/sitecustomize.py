"""Sets the wall clock of a process back by IMIL_TEST_HOURS_BACK; the monotonic one stays. For tests alone.

libfaketime cannot be used: with it Python's `time.sleep` fails, or the monotonic clock is set back as well.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

if hours := os.environ.get("IMIL_TEST_HOURS_BACK"):
    import time_machine

    time_machine.travel(datetime.now(timezone.utc) - timedelta(hours=float(hours)), tick=True).start()
