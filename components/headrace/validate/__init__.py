"""Step 1: whether a run would fail, starve or waste money, told on a CPU before a GPU is paid for.

How data flows through this room: `scan` chooses rows from the whole stream and measures them (`signs` knows what
damaged text looks like, the encoder what it costs in tokens); `estimates` makes numbers about the whole dataset of
them; `checks` turns the facts into `findings`, and those into a verdict; `summary` words it. `step` runs all this and
leaves the report, the manifest and the held-out slice. No torch, no transformers.
"""
