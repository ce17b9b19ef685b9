"""HF `Trainer` on the stream: the few places where it is told something else."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerControl,
    TrainerState,
)
from transformers.trainer_utils import SaveStrategy

from headrace.artifacts.files import finite
from headrace.errors import InputError
from headrace.scoring.scores import Scores
from headrace.stream.ledger import FOLDER
from headrace.stream.steps import merge_states
from headrace.train.batches import Batches
from headrace.train.checkpoints import VERSION, Checkpoints, as_json, make_room
from headrace.train.committer import Committer, disk_error
from headrace.train.flow import Flow, Overruling
from headrace.train.frozen import Frozen
from headrace.train.health import (
    FP16_PATIENCE,
    Clock,
    Losses,
    Watch,
    Watchdog,
    flops_per_token,
    memory_mb,
    peak_flops,
)
from headrace.train.keeper import Keeper
from headrace.train.nodes import Nodes
from headrace.train.preemption import Interrupted, Stopping
from headrace.train.ranks import Ranks
from headrace.train.startup import Startup

log = logging.getLogger(__name__)


class StreamTrainer(Trainer):
    """Trains on `batches`, saves the place in the stream with each checkpoint, and scores held-out documents.

    `state` is the data state to go on from; `score` evaluates a model.
    """

    def __init__(
        self,
        *,
        batches: Batches,
        ranks: Ranks,
        nodes: Nodes,
        checkpoints: Checkpoints,
        committer: Committer,
        stopping: Stopping,
        keeper: Keeper,
        startup: Startup,
        frozen: Frozen,
        state: Mapping[str, Any] | None,
        score: Callable[[nn.Module], Scores] | None,
        tokenizer_file: Path,
        **how: Any,
    ) -> None:
        # Trainer asks for an evaluation set before it lets anyone evaluate.
        super().__init__(eval_dataset=[] if score is not None else None, **how)
        self.batches, self.ranks, self.checkpoints, self.frozen = batches, ranks, checkpoints, frozen
        self.nodes = nodes
        self.keeper, self.committer, self.stopping, self.startup = keeper, committer, stopping, startup
        self.clock, self._losses = Clock(), Losses(self.args.device)
        self._watch = Watch(patience=FP16_PATIENCE if self.args.fp16 else 1)
        self.watchdog = Watchdog()
        self._peak = peak_flops(self.args.device) if self.args.bf16 or self.args.fp16 else None
        self._flops = flops_per_token(self.module, self.batches.stream.plan.block)
        self._stop = self._due = self._interim = self._unscored = False
        self._saved, self._written_s = -1, 0.0
        self._committed_at = time.monotonic()
        self._score, self._resumed, self._tokenizer_file = score, state, tokenizer_file
        self._started = self._logged_at = time.monotonic()
        self._tokens_logged = 0
        self.evaluated: tuple[int, dict[str, Any]] | None = None
        """The last evaluation: at which step, and its metrics."""
        if not self.model_accepts_loss_kwargs:
            self.compute_loss_func = _loss
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        # First, so that Trainer's own flow sees the last step as the last; the other after it, to overrule it.
        self.callback_handler.callbacks.insert(0, Flow(self))
        self.add_callback(Overruling(self))
        self.add_callback(keeper)

    @property
    def module(self) -> PreTrainedModel:
        """The model without what distributes it."""
        return cast(PreTrainedModel, self.model)

    @property
    def sharded(self) -> bool:
        """Whether each rank holds a part of the weights only."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def get_train_dataloader(self) -> Any:
        return self.batches

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        # A step of filler alone has no target: its loss is 0, not 0 ÷ 0.
        count = super()._get_num_items_in_batch(batch_samples, device)
        return count.clamp(min=1) if isinstance(count, torch.Tensor) else count

    def counted(self) -> tuple[int, int]:
        """Tokens and samples trained by all ranks since the first start; asks all ranks."""
        base = self._resumed["trained"] if self._resumed else {"tokens": 0, "samples": 0}
        given = self.ranks.gather((self.batches.tokens, self.batches.samples))
        return int(base["tokens"]) + sum(t for t, _ in given), int(base["samples"]) + sum(s for _, s in given)

    def seconds(self) -> float:
        """Seconds of training up to here, those before the resumed checkpoint included."""
        before = float(self._resumed["trained"]["seconds"]) if self._resumed else 0.0
        return before + time.monotonic() - self._started

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs or "train_runtime" in logs:
            tokens, samples = self.counted()
            now = time.monotonic()
            if "loss" in logs:
                speed = (tokens - self._tokens_logged) / max(now - self._logged_at, 1e-9)
                logs |= {"tokens": tokens, "tokens_per_s": speed, **self._waits()}
                logs["memory_mb"] = memory_mb(self.args.device)
                if self._peak:
                    logs["mfu"] = self._flops * speed / (self._peak * self.ranks.world_size)
                self._tokens_logged, self._logged_at = tokens, now
            else:
                self._correct_totals(logs, tokens, samples)
        plain = finite(logs)
        logs.clear()
        logs.update(plain)
        super().log(logs, start_time)

    def _waits(self) -> dict[str, float]:
        self.clock.waited_s, self.batches.waited_s = self.batches.waited_s, 0.0
        return self.clock.take()

    def _correct_totals(self, logs: dict[str, Any], tokens: int, samples: int) -> None:
        # Trainer's own figures are of this call alone, which after a resume is not the run.
        seconds = max(self.seconds(), 1e-9)
        logs["train_runtime"] = round(seconds, 4)
        logs["train_samples_per_second"] = round(samples / seconds, 3)
        logs["train_steps_per_second"] = round(self.state.global_step / seconds, 3)
        logs["train_tokens_per_second"] = round(tokens / seconds, 1)
        logs["train_samples"], logs["train_tokens"] = samples, tokens

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Loss, accuracy and perplexity over every token of the held-out documents."""
        if self._score is None:
            raise RuntimeError("this training was set up without documents to evaluate on")
        begun = time.monotonic()
        self.watchdog.doing("scoring held-out documents")
        scores = self._score(self.module)
        tokens = int(scores.tokens.sum())
        loss = float(scores.loss.sum()) / tokens
        seconds = max(time.monotonic() - begun, 1e-9)
        found = {
            "loss": loss,
            "accuracy": int(scores.correct.sum()) / tokens,
            "perplexity": math.exp(loss) if loss < 700 else math.inf,
            "samples": len(scores.tokens),
            "tokens": tokens,
            "runtime": round(seconds, 4),
            "samples_per_second": round(len(scores.tokens) / seconds, 3),
        }
        metrics = finite({f"{metric_key_prefix}_{name}": value for name, value in found.items()})
        self.evaluated = (self.state.global_step, dict(metrics))
        self.clock.scored_s += seconds
        self.watchdog.beat(self.state.global_step, whole=False)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save and self._tokenizer_file.is_file():
            # transformers writes the same ids another way; the plan knows a tokenizer by its file.
            shutil.copyfile(self._tokenizer_file, Path(output_dir or str(self.args.output_dir)) / "tokenizer.json")

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self._losses.add(loss)
        return loss

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        try:
            super()._maybe_log_save_evaluate(*args, **kwargs)
        except Interrupted:
            self._unscored, self._interim = True, not self.control.should_save
            if not self.ranks.together(self.fits):
                raise
            self._save_checkpoint(self.model_wrapped, None)
            raise
        if self._stop or (self._saved == self.state.global_step and self.ranks.any(self.stopping.asked)):
            raise Interrupted

    def fits(self) -> bool:
        """Whether a commit ends before the process is killed, as far as the last one tells."""
        self.committer.wait(max(0.0, self.stopping.left_s()))
        return (self.committer.last_s or 0.0) + self._written_s < self.stopping.left_s()

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        step, began = self.state.global_step, time.monotonic()
        if self._saved == step:
            return
        self.watchdog.doing("writing a checkpoint")
        folder = self.checkpoints.output_dir / f"checkpoint-{step}"
        self.ranks.together(lambda: self._make_way(folder))
        self.nodes.make_way()
        failed = None
        try:
            super()._save_checkpoint(model, trial)
            self.keeper.seal(step)
        except (OSError, SafetensorError, RuntimeError) as error:  # a full disk, in the words of three libraries
            failed = error
        if self.ranks.any(failed is not None):
            self.ranks.together(lambda: make_room(folder))
            raise disk_error(str(folder), failed or OSError("another rank could not write its part")) from failed
        self.nodes.collect(folder, self.checkpoints.output_dir / FOLDER)
        state = self._data_state()  # asks all ranks: their parts of the ledger are on the disk now
        self._written_s = time.monotonic() - began
        best = Path(self.state.best_model_checkpoint) if self.state.best_model_checkpoint else None
        self.ranks.together(lambda: self._submit(folder, state, best))
        self._saved, self._committed_at, self._interim = step, time.monotonic(), False
        self.clock.paused_s += time.monotonic() - began
        self.watchdog.beat(step, whole=False)

    def _make_way(self, folder: Path) -> None:
        self.committer.wait()
        self.committer.check()
        make_room(folder)

    def _submit(self, folder: Path, state: Mapping[str, Any], best: Path | None) -> None:
        head = self.keeper.head(int(state["step"]))
        self.committer.submit(int(state["step"]), lambda: self.checkpoints.commit(folder, state, best, head))

    def end_step(self) -> bool:
        """Agree with all ranks on what follows a step: to stop, to commit, to give up. Whether no lane has more."""
        step = self.state.global_step
        if "first step" not in self.startup.parts:
            self.startup.done("first step")
            parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.startup.parts.items())
            log.info("step %d is done, the first of this start; seconds of %s", step, parts)
        self.clock.steps += 1
        self.watchdog.beat(step)
        self.watchdog.doing("waiting for data, or in the step itself")
        # Nothing is committed before the loss that led to it is known.
        saves = step >= self.state.max_steps or step % max(1, int(self.state.save_steps or 1)) == 0
        first = self.ranks.rank == 0
        every = self.checkpoints.commit_every_s
        due = first and every > 0 and self.args.save_strategy != SaveStrategy.NO
        due = due and self.committer.idle and time.monotonic() - self._committed_at > every
        asked, going, failed, late = self.ranks.total(
            [self.stopping.asked, not self.batches.ended, first and self.committer.failed, due]
        )
        if failed:
            self.ranks.together(self.committer.check)
        known = self._losses.end(step, now=saves or asked > 0 or late > 0)
        for s, loss in known:
            self._judge(s, self.ranks.total([loss])[0] / self.ranks.world_size)
        self._stop, self._due = asked > 0, late > 0
        return going == 0

    def overrule(self, control: TrainerControl) -> None:
        """Commit when it is time to; when asked to stop, commit if that fits, and leave the evaluation for later."""
        if self._due and not control.should_save:
            self._interim = control.should_save = True
        if self._stop:
            self._unscored = control.should_evaluate
            control.should_evaluate = False
            if self.args.save_strategy != SaveStrategy.NO:
                self._interim = not control.should_save
                control.should_save = self.ranks.together(self.fits)

    def _judge(self, step: int, loss: float) -> None:
        look = f"headrace peek {self.checkpoints.output_dir} --step {step}"
        if self._watch.unbearable(loss):
            raise InputError(
                f"the loss of step {step} is {loss}: the training has diverged, and nothing after it is committed",
                f"see what it trained: {look}; then try a lower --learning_rate, more --warmup_steps, "
                "--max_grad_norm 1, or bf16 in place of fp16",
            )
        usual = self._watch.spike(step, loss)
        if usual is not None:
            log.warning("the loss of step %d is %.4f, usually %.4f; see what it trained: %s", step, loss, usual, look)

    def dropped(self) -> dict[str, int]:
        """Rows that were passed over since the first start, by the reason; asks all ranks."""
        counts = Counter((self._resumed or {}).get("dropped", {}))
        for found in self.ranks.gather(self.batches.stream.dropped()):
            counts.update(found)
        return dict(counts)

    def passed(self) -> dict[str, Any]:
        """How far the stream was read: rows dropped by the reason, lowest and highest epoch; asks all ranks."""
        parts = self.ranks.gather(self.batches.stream.state_at(self.state.global_step))
        cursors = [c for part in parts for c in part["lanes"].values()]
        epochs = [one[0] for c in cursors for one in (c if isinstance(c[0], list) else [c])]
        return {"dropped": self.dropped(), "epochs": [min(epochs), max(epochs)]}

    def _data_state(self) -> dict[str, Any]:
        """The place in the stream, and what Trainer does not save of itself; asks all ranks."""
        step = self.state.global_step
        tokens, samples = self.counted()
        parts = self.ranks.gather(
            (self.batches.stream.state_at(step), as_json(float(self._tr_loss)), self.batches.ended)
        )
        dropped = self.dropped()
        return {
            "version": VERSION,
            "run_id": self.frozen.run_id,
            **merge_states([place for place, _, _ in parts]),
            "ended": all(ended for _, _, ended in parts),
            "horizon": {"steps": self.frozen.horizon.steps, "epochs": self.frozen.horizon.epochs},
            "plan_hash": self.frozen.plan_hash,
            "plan": dict(self.frozen.plan),
            "world_size": self.ranks.world_size,
            "sharded": self.sharded,
            "dropped": dropped,
            "interim": self._interim,
            "unscored": self._unscored,
            "started_from": self.frozen.started_from,
            "parent": self.frozen.parent,
            "trained": {"tokens": tokens, "samples": samples, "seconds": self.seconds()},
            "loss": {
                "total": as_json(self._total_loss_scalar),
                "running": [running for _, running, _ in parts],
                "last_logged": self._globalstep_last_logged,
            },
            "samples": self.frozen.samples,
        }

    def begin(self) -> None:
        """Take up the running loss and the clocks where the data state left them."""
        now = time.monotonic()
        self._started = self._logged_at = self._committed_at = now
        self.clock = Clock()
        self.watchdog.start()
        # The flags of this start, not the checkpoint's.
        self.state.compute_steps(self.args, self.args.max_steps)  # type: ignore[no-untyped-call]
        if self._resumed is None:
            return
        loss, self._tokens_logged = self._resumed["loss"], int(self._resumed["trained"]["tokens"])
        running = [math.nan if value is None else value for value in loss["running"]]
        mine = running[self.ranks.rank] if len(running) == self.ranks.world_size else sum(running) / len(running)
        self._tr_loss = torch.tensor(mine, device=self.args.device)
        self._total_loss_scalar = math.nan if loss["total"] is None else loss["total"]
        self._globalstep_last_logged = loss["last_logged"]
        self._initial_global_step = 0
        if self._resumed["unscored"]:  # stopped in the evaluation that belongs to this step
            self._determine_best_metric(metrics=self._evaluate(None, None), trial=None)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        # The model was made from the checkpoint; only what is sharded is filled in now.
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def restore(self, folder: Path) -> None:
        """Take the state of a checkpoint, without training on."""
        self.state = TrainerState.load_from_json(str(folder / "trainer_state.json"))
        self.state.is_world_process_zero = self.is_world_process_zero()


def _loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None) -> torch.Tensor:
    """Sum over targets ÷ their count over the whole step, for models that only know the mean of a micro-batch."""
    logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
    nats = nn.functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum"
    )
    return nats / (1 if num_items_in_batch is None else num_items_in_batch)
