"""From a dataset too large to download to blocks of tokens: the same tokens in the same order, wherever it runs.

How data flows through this room: `source` turns what the user named into files; `manifest` freezes them, `survey` looks
at all of them; `shards` opens them (`parquet`, `jsonl`, `foreign`) and knows their row groups; `order` says, in
integers alone, which rows each lane reads and when; `documents` reads them, large ones through `spill`; `feed` chooses
(`filters`, `duplicates`, `heldout`) and encodes (`tokenizer`) a window of rows; `windows` reads those of a lane ahead;
`lane` cuts the tokens of its documents into samples and knows its cursor; `mixture` chooses the source of each; `steps`
gives a rank its samples, `batches` places them into micro-batches, `packing` marks where documents begin. `plan` names
everything that decides the order; `ledger` records what was trained; `retry` outlasts faults. No torch here:
validation runs without it.
"""
