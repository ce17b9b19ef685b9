"""The checks: pure functions from facts to findings.

`files` looks at what the data is stored in, `text` at what it says, `tokens` at what the tokenizer makes of it, and
`run` at how it suits the training that was asked for.
"""
