"""Checkpoints of a run: orbax underneath, written beside and renamed, so a kill at any moment leaves the last one whole."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rnnjax.train.digest import DIGEST, damage, seal

UNFINISHED = ".orbax-checkpoint-tmp"  # in the name of a folder that orbax is writing


class Damaged(ValueError):
    """No checkpoint of a run is whole."""


class OtherShape(ValueError):
    """A checkpoint holds other arrays than are asked for."""


class Checkpoints:
    """The checkpoints of one run in ``folder``; the newest two are kept.

    Each holds a pytree of arrays and a small JSON record. Orbax writes into a temporary folder and renames it, so a
    reader never sees half a checkpoint. A digest of every file is written last and checked before anything is read: of
    what does not agree with it nothing is used, but the checkpoint before, with a warning that names the file.
    """

    def __init__(self, folder: str | Path):
        import orbax.checkpoint as ocp  # comes with flax; loaded only by who checkpoints

        self._ocp = ocp
        self.folder = Path(folder).resolve()
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        handlers = {"state": ocp.PyTreeCheckpointHandler(), "record": ocp.JsonCheckpointHandler()}
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)

    def tidy(self) -> None:
        """Removes what a killed process left half written; only for the one process that writes here."""
        for left in self.folder.glob(f"*{UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)

    def latest(self) -> int | None:
        """The step of the newest checkpoint, whole or not, or None."""
        return self._manager.latest_step()

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
        for later in [s for s in self._manager.all_steps() if s > step]:
            shutil.rmtree(self.folder / str(later))
        self._manager.reload()

    def save(self, step: int, tree: Any, record: dict[str, Any]) -> None:
        """Writes one checkpoint, unless this step is there already. Raises: OSError if it cannot be written."""
        args = self._ocp.args
        if step == self.latest():
            return
        _make_sure_of_room(self.folder, tree)
        try:
            self._manager.save(step, args=args.Composite(state=args.PyTreeSave(tree), record=args.JsonSave(record)))
        except OSError:
            raise
        except Exception as error:  # tensorstore reports a full disk as a ValueError of its own making
            raise OSError(f"checkpoint of step {step} could not be written: {error}") from error
        seal(self.folder / str(step))

    def restore(self, like: Any) -> tuple[Any, dict[str, Any]]:
        """The newest whole checkpoint as ``(tree, record)``, in the structure, shapes and dtypes of ``like``.

        Raises: FileNotFoundError if there is none; Damaged if none is whole; OtherShape naming an array whose shape or
        name differs.
        """
        return self._restore(like, partial=False)

    def restore_part(self, name: str, like: Any) -> tuple[Any, dict[str, Any]]:
        """One branch of the newest whole checkpoint's tree, such as ``"best"``, and the record. Raises: as `restore`."""
        tree, record = self._restore({name: like}, partial=True)
        return tree[name], record

    def _restore(self, like: Any, partial: bool) -> tuple[Any, dict[str, Any]]:
        step = self.whole()
        self._check(step, like)
        abstract = jax.eval_shape(lambda: like)
        how = self._ocp.checkpoint_utils.construct_restore_args(abstract)
        args = self._ocp.args
        state = args.PyTreeRestore(abstract, restore_args=how, partial_restore=partial)
        found = self._manager.restore(step, args=args.Composite(state=state, record=args.JsonRestore()))
        return found["state"], found["record"]

    def close(self) -> None:
        """Releases orbax' helpers."""
        self._manager.close()

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


def _make_sure_of_room(folder: Path, tree: Any) -> None:
    """Reserves and frees as much as the checkpoint takes: a full disk then fails here, in one sentence, not deep inside."""
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) + 65536
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
