"""Internal. How a flow is declared."""
