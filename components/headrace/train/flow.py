"""What follows a step: the callbacks before and after `Trainer`'s own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_utils import SaveStrategy

if TYPE_CHECKING:
    from headrace.train.trainer import StreamTrainer


class Flow(TrainerCallback):
    """Takes up what Trainer forgets at the start, and decides which step is the last."""

    def __init__(self, trainer: StreamTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._trainer.begin()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> TrainerControl:
        ended, horizon = self._trainer.end_step(), self._trainer.frozen.horizon
        if horizon.epochs is not None:
            state.max_steps = state.global_step if ended else max(horizon.steps, state.global_step + 1)
        # Trainer counts from the start of this process.
        state.epoch = (horizon.epochs or 1) * state.global_step / horizon.steps
        if state.global_step >= state.max_steps and args.save_strategy == SaveStrategy.STEPS:
            control.should_save = True
        return control


class Overruling(TrainerCallback):
    """Has the last word on what follows a step, after Trainer's own flow."""

    def __init__(self, trainer: StreamTrainer) -> None:
        self._trainer = trainer

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> TrainerControl:
        self._trainer.overrule(control)
        return control
