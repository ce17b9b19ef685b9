"""The training step: options and an output folder in, a committed model out."""

from __future__ import annotations

import logging
import secrets
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.artifacts.checkpoint import COMMIT
from headrace.artifacts.files import read_json
from headrace.artifacts.provenance import hardware
from headrace.errors import HeadraceError, InputError, Preempted
from headrace.inputs import tokenized_folder
from headrace.options import Options
from headrace.stream.batches import RankStream
from headrace.stream.ledger import FOLDER
from headrace.stream.order import tail
from headrace.train import finish
from headrace.train.arguments import aim, set_threads, training_arguments
from headrace.train.check import Checked, check
from headrace.train.checkpoints import Checkpoints, Resume, finished_step
from headrace.train.committer import Committer
from headrace.train.data import Data, open_stream, prepare
from headrace.train.nodes import Nodes
from headrace.train.preemption import AGAIN, Interrupted, Stopping
from headrace.train.ranks import Ranks
from headrace.train.record import RECORD
from headrace.train.shared_memory import too_little_shared_memory
from headrace.train.startup import Startup

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainingArguments

    from headrace.train.progress import Reporter
    from headrace.train.trainer import StreamTrainer

log = logging.getLogger(__name__)


def run(options: Options, output_dir: Path) -> dict[str, Any]:
    """Train, or go on training, and leave the final model in the folder; facts for `outcome.json`.

    Run again after it ended, it changes nothing. Prints a summary on rank 0. Preempted after SIGTERM or SIGUSR1.
    """
    stopping, startup = Stopping(options.train.grace_s).listen(), Startup()
    checked = check(options)
    threads = set_threads(options)
    args = training_arguments(options, output_dir)
    ranks = Ranks(args.world_size, args.process_index)
    log.info("%d rank(s), %d torch threads each, on %s", ranks.world_size, threads, args.device)
    if ranks.world_size > 1 and args.device.type == "cuda" and (little := too_little_shared_memory()):
        log.warning("NCCL may end this training with a bus error%s", little)
    startup.done("set-up")
    try:
        facts = Run(options, output_dir, checked, args, ranks, Nodes(output_dir, ranks), stopping, startup).run()
    except HeadraceError as error:
        if ranks.rank > 0 and error is not ranks.shared:  # an error of this rank alone: nobody else tells
            log.error("rank %d: %s", ranks.rank, error.message)
        raise
    ranks.close()
    return facts


def _committed(committer: Committer) -> None:
    committer.wait()
    committer.check()


@dataclass
class Run:
    """One process's part of a training."""

    options: Options
    output_dir: Path
    checked: Checked
    args: TrainingArguments
    ranks: Ranks
    nodes: Nodes
    stopping: Stopping
    startup: Startup

    def run(self) -> dict[str, Any]:
        """Prepare, train what is left to train, finish."""
        from headrace.train.progress import Reporter

        reporter = Reporter(self.output_dir, shown=not self.args.disable_tqdm, speaks=self.ranks.rank == 0)
        train = self.options.train
        checkpoints = Checkpoints(
            self.output_dir, train.store, self.options.training.get("save_total_limit"), train.commit_every_s
        )
        if checkpoints.store is not None:
            self.ranks.together(checkpoints.store.check_writable)
        self.nodes.require(self.args, train.store, tokenized_folder(self.options, self.output_dir))
        checkpoints.only_store = self.nodes.apart
        committer = Committer()
        try:
            self.ranks.together(lambda: checkpoints.hold(train.run_id, committer.fail))
            return self._in_place(checkpoints, committer, reporter)
        finally:
            checkpoints.release()

    def _in_place(self, checkpoints: Checkpoints, committer: Committer, reporter: Reporter) -> dict[str, Any]:
        resume = self._resume(checkpoints)
        state = resume.state if resume else None
        data = self.ranks.together(
            lambda: prepare(
                self.options, self.output_dir, self.checked,
                world_size=self.ranks.world_size, state=state, progress=reporter,
            )
        )  # fmt: skip
        self.startup.done("data")
        if not self.checked.train and not self.checked.evaluate:
            return self._say(f"tokenised dataset in {data.tokenized}", {"tokenized": str(data.tokenized)})
        if self._nothing_left(data, resume):
            record = read_json(self.output_dir / RECORD)
            shown = finish.summary(record, str(self.output_dir))
            facts = finish.outcome(record, self.output_dir, resumed=None)
            return self._say(f"{shown}\nnothing left to train: the run had ended", facts)
        return self._with_model(checkpoints, committer, data, resume, reporter)

    def _resume(self, checkpoints: Checkpoints) -> Resume | None:
        if not self.checked.train:
            return None
        resume = self.ranks.together(lambda: checkpoints.choose(self.options))
        if resume is None:
            return None
        named = str(self.options.training["resume_from_checkpoint"]) if resume.named else ""
        if self.nodes.apart and (not named or "://" in named):  # each node has a folder that was named, or has not
            resume = replace(resume, folder=self.output_dir / resume.folder.name)
            self.nodes.spread(lambda: checkpoints.bring(named or f"{checkpoints.shown}/{resume.folder.name}"))
        if not (resume.folder / COMMIT).is_file():
            raise HeadraceError(
                f"rank {self.ranks.rank} does not see {resume.folder}",
                "put --output_dir on a disk that all nodes share",
            )
        log.info("going on from %s", resume.folder)
        return resume

    def _nothing_left(self, data: Data, resume: Resume | None) -> bool:
        """Whether the run is at its end and its final model is whole."""
        if not self.checked.train or (resume is not None and not data.horizon.reached(resume.state)):
            return False

        def look() -> bool:
            step = finished_step(self.output_dir, data.plan.hash)
            if step is None or resume is not None:
                return resume is not None and step == resume.record.step
            # Without checkpoints (--save_strategy no) the record alone says how far it was meant to go.
            horizon = read_json(self.output_dir / RECORD)["horizon"]
            return bool(horizon == {"steps": data.horizon.steps, "epochs": data.horizon.epochs})

        return self.ranks.together(look)

    def _with_model(
        self, checkpoints: Checkpoints, committer: Committer, data: Data, resume: Resume | None, reporter: Reporter
    ) -> dict[str, Any]:
        from transformers.utils import logging as hf_logging

        from headrace.train.model import open_model, parameters
        from headrace.train.tracking import Tracked

        reporter.update("model", 0, 1, "models")
        hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # one bar is enough
        with tempfile.TemporaryDirectory(prefix="headrace-train-") as scratch:
            model = open_model(self.options, self.ranks, Path(scratch), resume.folder if resume else None)
        self.startup.done("model")
        log.info("%s with %s parameters:\n%s", type(model).__name__, f"{parameters(model):,}", model)
        stream = open_stream(
            self.options, data, self.checked.encoder,
            world_size=self.ranks.world_size, rank=self.ranks.rank, state=resume.state if resume else None,
        )  # fmt: skip
        try:
            aim(self.args, self.options, data, stream, self.ranks.world_size)
            trainer = self._trainer(model, checkpoints, committer, data, resume, stream, reporter)
            if not self.checked.train:
                return self._evaluate_only(trainer)
            self.ranks.together(lambda: checkpoints.record_run(trainer.frozen.run_id))
            self.stopping.noted()
            with Tracked(self.output_dir, self.options, trainer.frozen, self.ranks) as tracked:
                trainer.add_callback(tracked)
                record = self._to_the_end(trainer, checkpoints, data, resume, stream)
                tracked.finish()
        finally:
            stream.close()
        reporter.update("finished", 1, 1, "models")
        facts = finish.outcome(record, self.output_dir, resumed=str(resume.folder) if resume else None)
        return self._say(finish.summary(record, str(self.output_dir)), facts)

    def _to_the_end(
        self, trainer: StreamTrainer, checkpoints: Checkpoints, data: Data, resume: Resume | None, stream: RankStream
    ) -> dict[str, Any]:
        """Train and write the final model; the record. Preempted when asked to stop before it is committed."""
        try:
            metrics = self._train(trainer, data, resume)
            self.ranks.together(lambda: _committed(trainer.committer))
            if self.ranks.any(self.stopping.asked):
                raise Interrupted
        except Interrupted:
            raise self._preempted(trainer, checkpoints, resume) from None
        if not metrics["train_tokens"]:
            raise InputError(
                "there is no document to train on: all rows are blank or held out",
                "look at `headrace validate`'s report, or lower --heldout_fraction",
            )
        try:
            return self._finish(trainer, checkpoints, data, stream, metrics)
        except Interrupted:
            raise self._preempted(trainer, checkpoints, resume) from None

    def _preempted(self, trainer: StreamTrainer, checkpoints: Checkpoints, resume: Resume | None) -> Preempted:
        """Wait for the commit under way as long as there is time; what to say of it, on all ranks."""

        def wait() -> int | None:
            trainer.committer.wait(max(0.0, self.stopping.left_s()))
            trainer.committer.check()
            newest = trainer.committer.newest
            return newest if newest is not None or resume is None else resume.record.step

        newest, name = self.ranks.together(wait), self.ranks.together(lambda: self.stopping.signal or "a signal")
        where = (
            f"the newest commit is {checkpoints.shown}/checkpoint-{newest}" if newest else "nothing is committed yet"
        )
        return Preempted(f"stopped by {name} after step {trainer.state.global_step}; {where}", AGAIN)

    def _trainer(
        self,
        model: PreTrainedModel,
        checkpoints: Checkpoints,
        committer: Committer,
        data: Data,
        resume: Resume | None,
        stream: RankStream,
        reporter: Reporter,
    ) -> StreamTrainer:
        import torch

        from headrace.train.arguments import how_it_runs
        from headrace.train.batches import Batches
        from headrace.train.frozen import Frozen
        from headrace.train.isolation import is_flash, require_isolation
        from headrace.train.keeper import Keeper
        from headrace.train.model import open_tokenizer, require_positions, share_pad, takes_positions
        from headrace.train.progress import Bar
        from headrace.train.record import parent_facts
        from headrace.train.trainer import StreamTrainer

        state = resume.state if resume else None
        grouped = data.plan.grouped
        if grouped:
            require_positions(model)
        flat = grouped and is_flash(model.config._attn_implementation)
        batches = Batches(stream, self.args.device, positions=takes_positions(model), flat=flat)
        frozen = Frozen(
            run_id=state["run_id"] if state else self.ranks.together(lambda: self._new_run_id(checkpoints)),
            plan=data.plan.to_json(),
            plan_hash=data.plan.hash,
            horizon=data.horizon,
            samples=state["samples"] if state else self._samples_before(model),
            started_from=resume.started_from if resume else None,
            parent=state.get("parent") if state else self.ranks.together(lambda: parent_facts(self.options)),
        )
        tokenizer, folder = open_tokenizer(self.options)
        share_pad(model, tokenizer)
        trainer = StreamTrainer(
            model=model, args=self.args, processing_class=tokenizer, tokenizer_file=folder / "tokenizer.json",
            callbacks=[Bar(reporter, batches, self.ranks.world_size)],
            batches=batches, ranks=self.ranks, nodes=self.nodes, checkpoints=checkpoints, committer=committer,
            stopping=self.stopping, startup=self.startup, frozen=frozen, state=state,
            keeper=Keeper(self.output_dir, self.ranks, stream),
            score=self._scorer(data, reporter) if self.checked.evaluate else None,
        )  # fmt: skip
        log.info("%s", how_it_runs(self.args, model))
        if grouped and not trainer.sharded:
            half = self.args.bf16 or self.args.fp16 or model.dtype != torch.float32
            require_isolation(
                model, self.args.device, rows=1 if flat else stream.batch, tolerance=1e-2 if half else 1e-4,
                autocast=trainer.accelerator.autocast(),
            )  # fmt: skip
        return trainer

    def _new_run_id(self, checkpoints: Checkpoints) -> str:
        return (
            self.options.train.run_id
            or checkpoints.recorded_run()
            or time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + secrets.token_hex(2)
        )

    def _samples_before(self, model: PreTrainedModel) -> list[dict[str, str]]:
        from headrace.train.samples import before

        prompts = self.options.train.sample_prompt or []
        return self.ranks.together(lambda: before(model, self.checked.encoder, prompts, self.args.seed))

    def _scorer(self, data: Data, reporter: Reporter) -> Callable[[Any], Any]:
        from headrace.scoring.score import score_documents

        def progress(phase: str, done: int, total: int | None, unit: str) -> None:
            reporter.update(phase, done, total, unit)
            if self.checked.train and self.ranks.any(self.stopping.asked):
                raise Interrupted

        def score(model: Any) -> Any:
            return score_documents(
                model, self.checked.encoder, data.eval_texts,
                block=data.plan.block, batch_size=self.args.eval_batch_size, device=self.args.device,
                progress=progress,
            )  # fmt: skip

        return score

    def _evaluate_only(self, trainer: StreamTrainer) -> dict[str, Any]:
        metrics = trainer.evaluate()
        self.ranks.together(lambda: finish.write_results(self.output_dir, "eval", metrics))
        return self._say(f"held-out loss {metrics['eval_loss']:.4f}", dict(metrics))

    def _train(self, trainer: StreamTrainer, data: Data, resume: Resume | None) -> dict[str, Any]:
        """Metrics of the training, `train_…`."""
        if resume is not None and data.horizon.reached(resume.state):
            trainer.restore(resume.folder)  # stopped between its last checkpoint and its final model
            return finish.train_metrics(resume.state, trainer.state.epoch, trainer.state.total_flos)
        from tqdm.contrib.logging import logging_redirect_tqdm

        with logging_redirect_tqdm([logging.getLogger("headrace")]):
            try:
                answer = trainer.train(resume_from_checkpoint=str(resume.folder) if resume else None)
            finally:
                trainer.watchdog.stop()
        return dict(answer.metrics)

    def _finish(
        self,
        trainer: StreamTrainer,
        checkpoints: Checkpoints,
        data: Data,
        stream: RankStream,
        metrics: dict[str, Any],
    ) -> dict[str, Any]:
        """Write the final model and all that goes with it; the record."""
        from headrace.scoring.models import accelerator_name
        from headrace.train.model import parameters
        from headrace.train.samples import after

        evaluation = None
        if self.checked.evaluate:
            last = trainer.evaluated
            fresh = last is not None and last[0] == trainer.state.global_step and not self.args.load_best_model_at_end
            evaluation = last[1] if last is not None and fresh else trainer.evaluate()
        self.ranks.together(lambda: finish.retract(self.output_dir))
        trainer.save_model(str(self.output_dir))
        passed = trainer.passed()
        trainer.nodes.collect(self.output_dir / FOLDER)

        def continued() -> list[dict[str, str]]:
            return after(trainer.module, self.checked.encoder, trainer.frozen.samples, self.args.seed)

        # Of weights that are spread over ranks none can run a forward pass by itself.
        samples = continued() if trainer.sharded else self.ranks.together(continued)

        def write() -> dict[str, Any]:
            facts = {
                "run_id": trainer.frozen.run_id,
                "tracking_id": trainer.frozen.tracking_id,
                "world_size": self.ranks.world_size,
                "per_device_batch": stream.batch,
                "accumulation": stream.accumulation,
                "efficiency": stream.efficiency,
                "stream": {**passed, "tail": tail(stream.orders)},
                "parameters": parameters(trainer.module),
                "parent": {**(trainer.frozen.parent or {}), "resumed_from": trainer.frozen.started_from},
                "hardware": hardware(accelerator_name(self.args.device)),
                "samples": samples,
            }
            return finish.write_final(
                self.output_dir,
                checkpoints,
                data,
                trainer,
                metrics=metrics,
                evaluation=evaluation,
                facts=facts,
            )

        return self.ranks.together(write)

    def _say(self, text: str, facts: dict[str, Any]) -> dict[str, Any]:
        if self.ranks.rank == 0:
            print(text, flush=True)
        return facts
