"""The training loop, top to bottom: data, model, state, steps, evaluations, checkpoints.

A killed and resumed run gives bit-identical results, by three rules. The data iterator's position is saved
only when every batch taken from it has been trained on. A checkpoint records how many rows metrics.csv had,
and a resumed run cuts the file back to them. A checkpoint is saved before its evaluation, whose outcome
is added to its record, so an evaluation that fails or is killed is simply done again.

The host never waits for a step it has just started: it reads each step's metrics after starting the
next, and fetches data in between.

Several processes run the same loop in lockstep: each reads its own shard of the data, the first alone writes,
and where one is asked to stop all do, after the same step.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.training.cache_building import cached_features
from vision_jax.training.checkpoints import TrainingProgress, decode, encode
from vision_jax.training.compilation import keep_compiled_programs
from vision_jax.training.console import Console, StageProgress
from vision_jax.training.distributed import (
    Agreement,
    arrays_from_first,
    from_first,
    is_first,
    lost_processes,
    own_shard,
    wait_for_all,
)
from vision_jax.training.experiment import Alternate, Batch, Cache, Experiment, Fit, Gradient
from vision_jax.training.files import storage_errors
from vision_jax.training.metrics import MetricsFile, TensorBoard
from vision_jax.training.optimizers import peak_learning_rate
from vision_jax.training.parallel import Device, all_devices, local, replicate, shard
from vision_jax.training.players import Players
from vision_jax.training.predict import recorded_spec
from vision_jax.training.run import RunContext, evaluate_finished, evaluate_saved
from vision_jax.training.run_folder import RunFolder, describe, machine, now
from vision_jax.training.stages import check_stage, methods, players, step_count, turns
from vision_jax.training.state import Variables, check_fits, initial_variables
from vision_jax.training.stopping import StopRequest
from vision_jax.training.watch import Profiler, Watch
from vision_jax.types import Report, UserError

logger = logging.getLogger("vision_jax")


def fit(
    experiment: Experiment,
    run_folder: Path | str,
    *,
    resume: bool = False,
    overfit: int = 0,
    profile: bool = False,
    devices: int | None = None,
    recipe: str | None = None,
    file: Path | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Report:
    """Trains and evaluates an experiment, as `vision-jax train` does; writes all results into the run folder.

    Args:
        experiment: what to train.
        run_folder: a new folder, or with `resume` that of a run.
        resume: continue from the newest sound checkpoint (from the start if there is none yet).
            The data's spec and `overfit` are then those the run began with.
        overfit: train and evaluate on the first so many training examples only; 0 uses all data.
        profile: trace the 10th to 15th step of this process into `run_folder/profile`.
        devices: how many devices of each process to use; all of them if None.
        recipe: the import path of the recipe that made the experiment, `vision_jax.recipes.mask_rcnn`.
        file: the experiment's file where it is no recipe's, recorded and copied to
            `run_folder/experiment.py`. With one of the two and `arguments`, the run can be evaluated, resumed
            and used for predictions from the command line.
        arguments: what the experiment's function was called with, JSON-serializable, recorded in
            experiment.json.

    Returns:
        The report of the "default" evaluation at the end; its `metrics` have the names of metrics.csv without
        their `val/`.

    Raises:
        UserError: what the user can fix (folder, disk, options, data, a non-finite loss).
        Stopped: (a `SystemExit`, code 143 or 130) after SIGTERM or SIGINT, once the state is saved.
    """
    began = time.perf_counter()
    keep_compiled_programs()
    used = all_devices(devices)
    for stage in experiment.stages:
        check_stage(stage, len(used))
    caches = [stage.name for stage in experiment.stages if isinstance(stage, Cache)]
    if len({*caches}) < len(caches):
        raise UserError(f"two stages Cache have one name: {', '.join(caches)}")
    folder = RunFolder(run_folder, rank=jax.process_index())

    def first_record() -> dict[str, Any]:
        if resume:
            record = folder.read_record()
            if record["seed"] != experiment.seed:
                raise UserError(f"{folder.path} began with seed {record['seed']}, not {experiment.seed}")
        else:
            steps = sum(step_count(stage) for stage in experiment.stages)
            task = experiment.task
            record = describe(
                recipe, file, arguments, experiment.seed, overfit, steps, task.metric, task.minimize, used
            )
            folder.begin(record, file)
        return record

    with lost_processes(folder.path):
        record = from_first(first_record)
    with ExitStack() as open_things:
        with storage_errors(folder.log):
            console = open_things.enter_context(Console(folder.log, quiet=not is_first()))
        open_things.enter_context(lost_processes(folder.path))
        stop = open_things.enter_context(StopRequest())
        if resume:
            _note_resumption(record, used)
        data = experiment.task.open(recorded_spec(experiment, folder.path) if record["spec"] else None)
        with storage_errors(folder.path):
            record = {**record, "spec": data.spec.to_json(folder.path)} if is_first() else record
        folder.write_record(record)
        if record["overfit"]:
            data = data.overfit(record["overfit"])

        def newest_progress() -> dict[str, Any]:
            newest = folder.checkpoints.newest() if resume else None
            folder.checkpoints.discard_after(newest.step if newest else -1)
            return encode(newest or TrainingProgress())

        progress = decode(from_first(newest_progress))
        with storage_errors(folder.metrics):
            metrics = MetricsFile(folder.metrics, keep=progress.rows, writes=is_first())
        tensorboard = TensorBoard(folder.tensorboard, purge_step=progress.step + 1 if resume else None)
        open_things.callback(tensorboard.close)
        run = RunContext(
            experiment=experiment,
            folder=folder,
            devices=used,
            data=data,
            model=experiment.model(data.spec),
            console=console,
            stop=stop,
            metrics=metrics,
            tensorboard=tensorboard,
            profile=profile and is_first(),
            progress=progress,
            began=began,
            open_things=open_things,
            agreement=Agreement(used) if jax.process_count() > 1 else None,
        )
        logger.info("%s", _opening_line(run, resume))
        return _run_stages(run)


def _run_stages(run: RunContext) -> Report:
    """Runs the remaining stages, then every evaluation of the experiment."""
    stages = run.experiment.stages
    variables = None
    if run.progress.step:
        variables = run.folder.checkpoints.restore_variables(run.progress.step)
    past = [stage for stage in stages[: run.progress.stage] if isinstance(stage, Cache)]
    if past:
        _open_cache(run, past[-1], variables)
    while run.progress.stage < len(stages):
        index = run.progress.stage
        stage = stages[index]
        run.progress = replace(run.progress, stage_name=stage.name)
        if isinstance(stage, Fit | Cache):
            variables = _without_gradients(run, stage, index, variables)
        else:
            variables = _train(run, stage, index, variables)
    if variables is None:
        raise UserError("the experiment has no stages: there is nothing to train")
    return evaluate_finished(run, replicate(variables, run.devices))


def _train(
    run: RunContext, stage: Gradient | Alternate, index: int, variables: Variables | None
) -> Variables:
    """A stage of gradient training, from its first step or from that of the checkpoint.

    Args:
        run: whose progress is updated.
        stage: to train.
        index: of the stage.
        variables: of the stage before or the checkpoint; None initializes them.

    Returns:
        The variables for evaluation and the next stage, on the run's devices.
    """
    steps, resumed = step_count(stage), run.progress
    config = players(stage)[0].train  # what is read of it here is the same for all
    last_stage = index == len(run.experiment.stages) - 1
    here = len(local(run.devices))
    iterator, batches = None, iter(())
    if resumed.stage_step < steps:
        iterator = own_shard(
            run.stage_data.train(config.batch_size, run.experiment.seed + index, config.workers)
        )
        if resumed.iterator is not None:
            iterator.set_state(resumed.iterator)
        first = next(iterator)
        batches = chain([first], iterator)
        first_shard = jax.tree.map(lambda x: x[0], shard(first, here))
        if variables is None:
            variables = _begin_model(run, index, first, first_shard)
        elif index == 0:
            where = f"the checkpoint of step {resumed.step}"
            check_fits(run.model, variables, first_shard, where, _methods(run))
    assert variables is not None  # no stage is complete at step 0, so there was a checkpoint
    if run.features is not None:
        run.features.check_trained(stage, run.model)
    acting = Players(stage, run.model, variables, run.devices, run.key(index))
    if resumed.stage_step:
        acting.restore(run.folder.checkpoints.restore_optimizer(resumed.step, acting.to_resume()))

    before = resumed.step - resumed.stage_step
    done, taken = resumed.stage_step, 0
    watch = Watch(
        *(stage, before, resumed.sums, run.console, run.write_row),
        *(run.folder.path, run.folder.rank, run.began),
    )
    _log_scaled_rates(stage)
    profiler = run.open_things.enter_context(closing(Profiler(run.folder.profile, run.profile)))
    run.console.start_stage(stage.name, steps, done)
    run.stop.waits = True
    while True:
        at_end = done == steps
        evaluating = (at_end and last_stage) or _due(config.eval_every, done)
        stopping = run.stop_signal()
        saving = at_end or evaluating or stopping is not None or _due(config.checkpoint_every, done)
        if saving and taken:
            watch.catch_up()
            run.progress = replace(
                run.progress,
                step=before + done,
                stage_step=done,
                sums=watch.sums(),
                iterator=iterator.get_state() if iterator is not None else None,
            )
            run.save(acting.evaluation_variables, acting.to_resume())
        if stopping is not None:
            run.raise_stopped(stopping)
        if evaluating and run.progress.evaluated != before + done:
            run.console.note("evaluating ...")
            evaluate_saved(run, acting.evaluation_variables)
            watch.restart_clock()
        if at_end:
            break
        profiler.before_step(taken)
        requested = time.perf_counter()
        batch = next(batches)
        watch.waited(time.perf_counter() - requested)
        outcome = acting.step(done, shard(batch, here))
        if taken < len(turns(stage)):  # in a whole round every player's step has been compiled
            run.folder.write_json("cost.json", acting.cost)
        done, taken = done + 1, taken + 1
        watch.started(done, batch, outcome)
        profiler.after_step(taken, outcome)
    profiler.close()
    close = getattr(iterator, "close", None)
    if close is not None:
        close()  # worker processes, where it has any
    run.console.end_stage()
    run.progress = replace(run.progress, stage=index + 1, stage_step=0, sums={}, iterator=None)
    return acting.evaluation_variables


def _log_scaled_rates(stage: Gradient | Alternate) -> None:
    """Says which learning rates are not those of the settings, for batches of another size."""
    for player in players(stage):
        config = player.train
        if config.reference_batch:
            logger.info(
                "%slearning rate %.4g for batches of %d is %.4g for %d",
                *(player.name and f"{player.name}: ", config.learning_rate, config.reference_batch),
                *(peak_learning_rate(config), config.batch_size),
            )


def _without_gradients(
    run: RunContext, stage: Fit | Cache, index: int, variables: Variables | None
) -> Variables:
    """A stage without gradients; it counts as one step.

    An interrupted `Fit` starts again, a `Cache` continues after its last shard. All processes compute a
    cache. The first alone fits; the others read the result from the checkpoint.
    """
    logger.info("stage %s", stage.name)
    run.stop.waits = False
    if variables is None:
        batch = next(iter(own_shard(run.data.train(len(run.devices), run.experiment.seed + index, 0))))
        variables = _begin_model(run, index, batch, jax.tree.map(lambda x: x[:1], batch))
    fitted: Variables = jax.device_get(variables)
    if isinstance(stage, Cache):
        _open_cache(run, stage, fitted)
    else:

        def fit_in_first() -> None:
            nonlocal fitted
            with StageProgress(run.console, stage.name) as progress:
                fitted = dict(stage.fit(run.model, fitted, run.stage_data, run.key(index), progress))
            if run.features is not None:
                run.features.check_fitted(stage.name, fitted)

        from_first(fit_in_first)
    run.progress = replace(run.progress, step=run.progress.step + 1, stage=index + 1)
    run.save(fitted, {"step": np.int32(0)})
    wait_for_all()  # until it is saved
    return fitted if is_first() else run.folder.checkpoints.restore_variables(run.progress.step)


def _open_cache(run: RunContext, stage: Cache, variables: Variables | None) -> None:
    """Computes what is missing of a cache, and hands it to the stages after it.

    Raises:
        UserError: `cached_features` does.
    """
    assert variables is not None
    run.stop.waits = False
    index = run.experiment.stages.index(stage)
    with StageProgress(run.console, stage.name) as progress:
        run.features = cached_features(
            stage,
            run.model,
            variables,
            run.data,
            run.folder.cache / stage.name,
            run.devices,
            run.key(index),
            partial(progress, what="batches"),
        )


def _begin_model(run: RunContext, index: int, batch: Batch, first_shard: Batch) -> Variables:
    """Initializes the variables, and plots the first batch.

    Args:
        run: of the model.
        index: of the stage.
        batch: this process's, numpy [B, ...].
        first_shard: its first device's, numpy [b, ...].
    """
    key = jax.random.fold_in(run.key(index), 2**31 - 1)
    variables = _initialized(run, initial_variables(run.model, key, first_shard, _methods(run)))
    count = sum(np.size(leaf) for leaf in jax.tree.leaves(variables["params"]))
    logger.info("%s parameters", f"{count:,}")
    if is_first():
        picture = run.experiment.task.plot_batch(batch, run.data.spec)
        run.folder.write_picture("train_batch.png", picture)
    return variables


def _methods(run: RunContext) -> tuple[str, ...]:
    """The methods that initialize the run's model."""
    return methods(run.experiment.stages, run.model)


def _initialized(run: RunContext, variables: Variables) -> Variables:
    """The variables that the experiment starts from (`init`), in all processes; the first reads them."""
    found = variables

    def read() -> None:
        nonlocal found
        if run.experiment.init is not None:
            found = jax.tree.map(jnp.asarray, run.experiment.init(variables))

    from_first(read)
    return arrays_from_first(found)


def _note_resumption(record: dict[str, Any], devices: list[Device]) -> None:
    """Adds this process to the record; warns where an uninterrupted run may have other results."""
    here = machine(devices)
    for what in ("versions", "devices", "threads"):
        if record.get(what) != here[what]:
            logger.warning(
                "%s differ from those the run began with (%s, now %s): results may differ by rounding",
                *(what, record.get(what), here[what]),
            )
    record["resumed"] = [*record.get("resumed", []), {"when": now(), **here}]


def _opening_line(run: RunContext, resume: bool) -> str:
    """The first line of the log."""
    device = run.devices[0]
    where = f"{len(run.devices)} x {device.device_kind}" if len(run.devices) > 1 else device.device_kind
    start = f"resumes at step {run.progress.step}" if resume else "begins"
    if resume and not run.progress.step:
        start = "has no checkpoint yet and begins again"
    if jax.process_count() > 1:
        where += (
            f" of {jax.process_count()} processes (if one ends, the others do within a minute or so; "
            "start all again with --resume)"
        )
    return f"{run.folder.path} {start}: {run.data.spec.describe()}, seed {run.experiment.seed}, on {where}"


def _due(every: int, done: int) -> bool:
    """Whether something that happens every `every` steps (0: never) happens after step `done`."""
    return every > 0 and done > 0 and done % every == 0
