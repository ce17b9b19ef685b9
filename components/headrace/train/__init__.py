"""Step 2: train a model on the stream, and leave checkpoints that the same command goes on from.

`step` runs it: `check` refuses what cannot work, `arguments` makes `TrainingArguments`, `ranks` lets rank 0 decide for
all, `data` makes the plan, `checkpoints` finds the newest committed state, `model` brings the weights here. `trainer`
is HF `Trainer` over `batches` of the stream; `finish` writes the results, the final model and `record`'s
headrace.json. Only `check`, `data`, `checkpoints` and `record` do without torch.
"""
