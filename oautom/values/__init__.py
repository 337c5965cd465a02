"""Internal. What flows between steps: values as JSON, conversions, annotations, references."""
