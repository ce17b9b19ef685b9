"""Step 3: score a model on held-out documents and publish it with what it is made of.

`step` runs it: `subject` brings the model here and says which one it is, `heldout` the documents; scoring itself is in
`headrace.scoring`. `lineage` collects where everything came from, `card` writes the model's README, `publish` puts
the model and its papers where others find them, `tracking` records the run with Weights & Biases. torch is imported
after everything a user may have got wrong has been looked at.
"""
