"""Internal. Processes as the system has them: groups, ends, leftovers, forks."""
