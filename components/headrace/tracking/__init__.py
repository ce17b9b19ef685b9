"""Weights & Biases: a run's metrics go to it through a process of their own, which may fail as it likes.

A step writes what it has to say to `tracking/journal.jsonl` in its output folder, and never talks to a server. The
process beside it, `python -m headrace.tracking FOLDER`, reads the journal and sends what the server does not have yet:
it can be killed, and started again, at any time. Training and evaluation write to one run.
"""
