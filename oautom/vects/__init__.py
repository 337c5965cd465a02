"""Internal. The runs of flows: what a user holds, and what the engine keeps of each."""
