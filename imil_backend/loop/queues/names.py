"""The names under which workflows are kept. Never change one: stored workflows are found by it."""

TRAIN_WORKFLOW = "train_round"
PUSH_WORKFLOW = "push_round"
SYNC_WORKFLOW = "sync_annotation"
RECONCILE_WORKFLOW = "reconcile_project"
RECONCILE_ALL_WORKFLOW = "reconcile_all"
CLOSE_WORKFLOW = "close_due_rounds"
CLEAN_UP_WORKFLOW = "clean_up"
