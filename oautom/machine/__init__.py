"""Internal. The pure heart: tables of states, events, what follows from them."""
