"""How good a model is: the room that training and evaluation share.

`windows` cuts held-out documents so that every token is a target exactly once; `score` runs a model over the
windows, on all ranks, and `scores` holds what came of each document and sums it up with intervals. `metrics` loads
`evaluate` metrics that users name, without the network; `models` brings a model here and loads it; `generation`
continues a prompt. Only `score` and `generation` import torch when they are imported.
"""
