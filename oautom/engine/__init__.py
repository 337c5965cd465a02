"""Internal. The one thread that reacts to events and releases what depends on them."""
