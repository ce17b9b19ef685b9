"""From a dataset too large to download to blocks of tokens: the same tokens in the same order, wherever it runs.

How data flows through this room: `source` turns what the user named into files; `manifest` freezes them with their
row groups; `order` says, in integers alone, which rows each lane reads and when; `documents` reads them; `tokenizer`
encodes; `lane` cuts the tokens of its documents into samples and knows its cursor; `batches` places samples into the
micro-batches of one rank; `packing` marks where documents begin. `plan` names everything that decides the order, and
`heldout` keeps a slice of documents out of training. No torch here: validation and tests run without it.
"""
