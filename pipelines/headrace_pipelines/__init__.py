"""The pipeline: one DAG of the three steps, and the `headrace` command that runs, compiles and submits it.

`pipeline` holds the DAG; `local` runs it on this machine through kfp's own runner; `compiling` and `submit` hand
it to Kubeflow. All of them start from the same flags (`parameters`). `__main__` finds the command.
"""
