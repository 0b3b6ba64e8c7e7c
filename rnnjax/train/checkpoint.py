"""Checkpoints of a run: orbax underneath, written beside and renamed, so a kill at any moment leaves the last one whole."""

from __future__ import annotations

import copy
import errno
import os
import shutil
import tempfile
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.train import hosts
from rnnjax.train.digest import DIGEST, Damaged, damage, seal
from rnnjax.train.quiet import only_the_error

FILES = 64  # and folders, more than a checkpoint has
FORMAT = 1  # of a checkpoint's arrays and record: another number where this version could not go on from them
UNFINISHED = ".orbax-checkpoint-tmp"  # in the name of a folder that orbax is writing


class OtherShape(ValueError):
    """A checkpoint holds other arrays than are asked for."""


class OtherFormat(ValueError):
    """A checkpoint was written by a version of rnnjax that keeps what this one does not know."""


class Checkpoints:
    """The checkpoints of one run in ``folder``: the newest ``keep``, and of those with a loss the best ``keep_best``.

    Each holds a pytree of arrays and a small JSON record. Orbax writes into a temporary folder and renames it, so a
    reader never sees half a checkpoint. A digest of every file is written last and checked before anything is read: of
    what does not agree with it nothing is used, but the checkpoint before, with a warning that names the file. With
    ``background`` a thread writes, one checkpoint at a time; what it met is raised by the next call. In a program of several
    processes all call together, and each writes the arrays that it has.
    """

    def __init__(self, folder: str | Path, keep: int = 2, keep_best: int = 0, background: bool = False):
        import orbax.checkpoint as ocp  # comes with flax; loaded only by who checkpoints

        self._ocp = ocp
        self.folder = Path(folder).resolve()
        handlers = {"state": ocp.PyTreeCheckpointHandler(), "record": ocp.JsonCheckpointHandler()}
        self._manager = ocp.CheckpointManager(self.folder, options=_options(keep, keep_best), item_handlers=handlers)
        self._thread = ThreadPoolExecutor(1, "checkpoints") if background else None
        self._writing: Future[None] | None = None

    def tidy(self) -> None:
        """Removes what a killed process left half written; only for the one process that writes here."""
        if hosts.first():
            for left in self.folder.glob(f"*{UNFINISHED}*"):
                shutil.rmtree(left, ignore_errors=True)

    def latest(self) -> int | None:
        """The step of the newest checkpoint, whole or not, or None."""
        self.wait()
        return self._manager.latest_step()

    def wait(self) -> None:
        """Until nothing is being written. Raises: OSError if what was written last could not be."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def whole(self) -> int:
        """The step of the newest checkpoint whose files are all as they were written; warns of those that are not.

        Raises: FileNotFoundError where there is none that was finished, Damaged where none is whole.
        """
        wrong: list[str] = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            says = damage(self.folder / str(step))
            if says is None:
                if wrong:
                    warnings.warn(f"going on from step {step}, as {wrong[0]}", RuntimeWarning, stacklevel=3)
                return step
            wrong.append(says)
        if not any((self.folder / str(step) / DIGEST).exists() for step in self._manager.all_steps()):
            raise FileNotFoundError(f"no finished checkpoint in {self.folder}")
        raise Damaged(f"no checkpoint in {self.folder} is whole: {wrong[0]}; put the files back, or train anew")

    def forget_after(self, step: int) -> None:
        """Removes the checkpoints after ``step``, which are damaged: those steps are run again."""
        if hosts.first():
            for later in [s for s in self._manager.all_steps() if s > step]:
                shutil.rmtree(self.folder / str(later))
        hosts.together("forgotten")
        self._manager.reload()

    def save(self, step: int, tree: Any, record: dict[str, Any], loss: float | None = None) -> None:
        """Writes one checkpoint, unless this step is there already. Raises: OSError if it cannot be written."""
        if step == self.latest():
            return
        if self._thread is None:
            self._write(step, tree, record, loss)
        else:
            copied = jax.tree.map(jnp.copy, tree)  # the next step reuses the buffers, and adds to the record
            self._writing = self._thread.submit(self._write, step, copied, copy.deepcopy(record), loss)

    def _write(self, step: int, tree: Any, record: dict[str, Any], loss: float | None) -> None:
        args = self._ocp.args
        items = args.Composite(state=args.PyTreeSave(tree), record=args.JsonSave(record | {"format": FORMAT}))
        try:
            if hosts.first():
                _make_sure_of_room(self.folder, tree)
            with only_the_error(redirect=self._thread is None):
                self._manager.save(step, args=items, metrics=None if loss is None else {"loss": loss})
        except Exception as error:
            self.tidy()
            if isinstance(error, OSError):
                raise
            # tensorstore reports a full disk as a ValueError of its own making
            raise OSError(f"checkpoint of step {step} could not be written: {error}") from error
        if hosts.first():
            seal(self.folder / str(step))
        hosts.together("checkpoint")

    def restore(self, like: Any) -> tuple[Any, dict[str, Any]]:
        """The newest whole checkpoint as ``(tree, record)``, in the structure, shapes and dtypes of ``like``.

        Raises: FileNotFoundError if there is none; Damaged if none is whole; OtherFormat if another version wrote it otherwise;
        OtherShape naming an array whose shape or name differs.
        """
        return self._restore(like, partial=False)

    def restore_part(self, name: str, like: Any) -> tuple[Any, dict[str, Any]]:
        """One branch of the newest whole checkpoint's tree, such as ``"best"``, and the record. Raises: as `restore`."""
        tree, record = self._restore({name: like}, partial=True)
        return tree[name], record

    def _restore(self, like: Any, partial: bool) -> tuple[Any, dict[str, Any]]:
        step, args = self.whole(), self._ocp.args
        record = self._manager.restore(step, args=args.Composite(record=args.JsonRestore()))["record"]
        self._check_format(step, record)
        self._check(step, like)
        abstract = jax.eval_shape(lambda: like)
        how = self._ocp.checkpoint_utils.construct_restore_args(abstract)
        if hosts.several():  # whole on each
            how = jax.tree.map(lambda _: self._ocp.RestoreArgs(restore_type=np.ndarray), abstract)
        state = args.PyTreeRestore(abstract, restore_args=how, partial_restore=partial)
        return self._manager.restore(step, args=args.Composite(state=state))["state"], record

    def close(self) -> None:
        """Finishes what is being written, and releases orbax' helpers. Raises: as `wait`."""
        try:
            self.wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown()
            self._manager.close()

    def _check_format(self, step: int, record: dict[str, Any]) -> None:
        form = record.pop("format", 1)  # of the first versions, which did not say
        if form != FORMAT:
            raise OtherFormat(
                f"checkpoint of step {step} in {self.folder} is of format {form}, and this version of rnnjax reads format "
                f"{FORMAT}; use the version that wrote it"
            )

    def _check(self, step: int, like: Any) -> None:
        metadata = self._manager.item_metadata(step)["state"]
        have = {_path(path): tuple(leaf.shape) for path, leaf in _leaves(getattr(metadata, "tree", metadata))}
        have = {name: shape for name, shape in have.items() if name.split("/")[0] in like}
        want = {_path(path): tuple(np.shape(leaf)) for path, leaf in _leaves(like)}
        differ = [n for n in sorted(have.keys() | want.keys()) if have.get(n) != want.get(n)]
        if differ:
            name = differ[0]
            raise OtherShape(
                f"checkpoint of step {step} in {self.folder} is of another shape: {name} is {have.get(name, 'missing')} "
                f"there and {want.get(name, 'missing')} here ({len(differ)} of {len(want)} arrays differ); "
                "use the settings it was trained with"
            )


def _options(keep: int, keep_best: int) -> Any:
    """Of orbax' manager: all is written when `save` returns, and what is not kept is removed."""
    import orbax.checkpoint as ocp

    if not keep_best:
        return ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
    policies = ocp.checkpoint_managers
    best = policies.BestN(
        get_metric_fn=lambda metrics: -metrics["loss"], n=keep_best, keep_checkpoints_without_metrics=False
    )
    both = policies.AnyPreservationPolicy([policies.LatestN(keep), best])
    return ocp.CheckpointManagerOptions(preservation_policy=both, enable_async_checkpointing=False)


def _make_sure_of_room(folder: Path, tree: Any) -> None:
    """Reserves and frees as much as the checkpoint takes: a full disk then fails here, in one sentence, not deep inside."""
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) + 65536
    if hasattr(os, "statvfs"):
        system = os.statvfs(folder)
        if system.f_files and system.f_favail < FILES:  # some count none
            raise OSError(errno.ENOSPC, "No space left on device for more files", str(folder))
    with tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.write(bytes(size))
            file.flush()


def _leaves(tree: Any) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_leaves_with_path(tree)


def _path(path: Any) -> str:
    """`params/layer_0/input`: the same for dicts, NamedTuples and the dicts and lists orbax writes in their place."""
    return "/".join(str(getattr(p, "key", getattr(p, "name", getattr(p, "idx", p)))) for p in path)
