"""Internal. The values that go from step to step: JSON, conversions, annotations, references."""
