"""Looking into the order: what a step trains, and whether a run trained it.

`open` finds the plan of a run folder, or makes it from flags; `peek` shows the samples of any step; `verify` replays
a run from its source and compares every step with its ledger.
"""
