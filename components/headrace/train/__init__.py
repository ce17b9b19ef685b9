"""Step 2: train a model on the stream, and leave checkpoints that the same command goes on from.

`step` runs it: `check` refuses what cannot work, `arguments` makes `TrainingArguments`, `ranks` lets rank 0 decide for
all, `data` makes the plan, `checkpoints` finds the newest committed state, `model` brings the weights here. `trainer`
is HF `Trainer` over `batches` of the stream. `committer` hashes and uploads checkpoints beside the training,
`preemption` notes signals, `health` judges losses and tells where time goes, `isolation` tries that documents in one
block stay apart. `finish` writes the results, the final model and `record`'s headrace.json. `attendant` runs all of it
in a child, for parents that know neither signals nor codes.

Only `check`, `data`, `checkpoints`, `committer`, `preemption`, `attendant` and `record` do without torch.
"""
