"""Internal. The one thread that reacts to events and releases the dependent steps."""
