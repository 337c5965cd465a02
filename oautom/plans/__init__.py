"""Internal. Plans, which start flows by the clock, and their schedules."""
