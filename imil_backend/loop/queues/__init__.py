"""The queues of workflows, and the engine that runs them."""
