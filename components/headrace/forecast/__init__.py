"""`headrace plan`: what a training will take, worked out before a GPU is paid for, and how wrong that was afterwards.

validate's report and the flags of training come in. `architecture` reads the model's shape out of its config.json,
`hardware` knows what accelerators can do, `division` spreads a step over ranks, and `memory`, `pace` and `commits`
compute; `make` puts it together as `plan.json`, `show` sets it for people, `score` compares it with a run.
All of it is arithmetic without torch, but for models whose architecture has no formula here (`counted`).
"""
