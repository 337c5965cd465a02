"""How fast oautom is, beside what one would use instead. Run by `python -m benchmarks`.

Clocks differ from machine to machine, ratios hardly: both sides are measured in turn, in one run.
"""
