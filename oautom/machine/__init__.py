"""Internal. The pure heart: tables of states, events, and the decisions about them."""
