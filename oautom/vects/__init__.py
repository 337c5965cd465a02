"""Internal. The runs of flows: the `Vect` of the user, and the `Run` of the engine."""
