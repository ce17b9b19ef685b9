"""Step 1: whether a run would fail, starve or waste money, told on a CPU before a GPU is paid for.

How data flows through this room: `sample` chooses row groups and rows from the whole stream; `scan` reads them
(`damage` says where that fails) and hands each row group as a `seen.Seen` to what is measured: tokens (`counting`),
personal data (`private`), overlap with the held-out slice (`overlap`), other `columns`, differences between files
(`profile`); `signs` knows what damaged text looks like. `estimates` and `forecast` make numbers of it about the whole
dataset and about speed; `checks` turns facts into `findings`, and those into a verdict; `report` and `summary` word
it, and `catalogue` lists all that they may say. `step` runs all this and leaves the report, the manifest and the
held-out slice. No torch, no transformers.
"""
