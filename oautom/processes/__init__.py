"""Internal. Processes of the system: groups, ends, leftovers, forks."""
