"""Step 3: score a model on held-out documents and publish it with what it is made of.

`step` runs it: `subject` brings the model here and says which one it is, `heldout` the documents, `sources` what source
each is from; scoring itself is in `headrace.scoring`. `gate` holds what came of it against thresholds, and `compare`
against the model that is current. `lineage` collects where everything came from, `card` writes the model's README.
`promote` judges, has `publish` stage the model and its papers, and moves the pointer, which `shelf` keeps; `models` is
the command that shows it. `tracking` records the run with Weights & Biases. torch is imported after everything a user
may have got wrong has been looked at.
"""
