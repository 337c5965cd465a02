"""Internal. When flows are run: plans and their schedules."""
