"""What a user asks for: one set of flags that every step reads.

`groups` holds the options as frozen dataclasses; `parse` turns a command line, a YAML or JSON file and defaults into
them; `training` knows every `TrainingArguments` name without importing transformers. All steps accept all flags, so
that one command line or one file serves the whole pipeline; each step uses the groups it needs.
"""

from headrace.options.groups import (
    DatasetOptions,
    EvaluateOptions,
    ModelOptions,
    Options,
    PlanOptions,
    TrackingOptions,
    TrainOptions,
    ValidateOptions,
)
from headrace.options.parse import parse_arguments, parse_mapping
from headrace.options.training import training_value

__all__ = [
    "DatasetOptions",
    "EvaluateOptions",
    "ModelOptions",
    "Options",
    "PlanOptions",
    "TrackingOptions",
    "TrainOptions",
    "ValidateOptions",
    "parse_arguments",
    "parse_mapping",
    "training_value",
]
