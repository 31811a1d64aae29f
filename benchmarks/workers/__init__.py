"""Programs that run in a process of their own, so that what they import and hold is counted to them alone. Each writes JSON to stdout."""
