"""Jobs in the background: the queues and the engine that works them off."""
