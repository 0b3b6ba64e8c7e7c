"""Labelled sequences: texts in the rows of a table, or numbers in long format, and a class for each."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.cli.classifier import Classifier, batches_of, logits_of
from rnnjax.cli.errors import BadInput
from rnnjax.cli.settings import Settings, cell_type
from rnnjax.cli.work import Task
from rnnjax.data import DataError
from rnnjax.data.labelled import Labelled, classes_of, read_series, read_texts, set_apart
from rnnjax.data.words import Words

SEEN = 64  # learned numbers of a word or a character


def check_columns(settings: Settings) -> None:
    """Raises: BadInput unless the columns that were named make labelled sequences."""
    if settings.text is not None and settings.series is not None:
        raise BadInput("--text and --series exclude each other: a sequence is a text in one row, or numbers in several")
    if settings.text is None and settings.series is None:
        raise BadInput(
            f"--label {settings.label} needs the column of the sequences too: --text COLUMN, or for numbers with one step a "
            "row --series COLUMN, which says to which sequence each row belongs"
        )
    if settings.label is None:
        flag, name = ("--text", settings.text) if settings.text is not None else ("--series", settings.series)
        more = ", or --horizon N to forecast each series" if settings.text is None else ""
        raise BadInput(f"{flag} {name} needs --label COLUMN, the column of the classes to learn{more}")
    if settings.data is None:
        raise BadInput("--label needs --data FILE, the table that has the column")


def read(settings: Settings, path: str, *, label: bool = True, columns: Any = None) -> Labelled:
    """The sequences of a file, as the settings say. label: whether they must have one."""
    layout = {name: getattr(settings, name) for name in ("sep", "encoding", "header")}
    wanted = settings.label if label else None
    if settings.text is not None:
        return read_texts(path, settings.text, wanted, **layout)
    style = {name: getattr(settings, name) for name in ("thousands", "percent", "currency")}
    return read_series(path, str(settings.series), wanted, columns=columns, **layout, **style)


class Scale(NamedTuple):
    """How numbers are seen: less the mean ``[C]``, over the deviation ``[C]``; gaps: whether some are missing."""

    mean: np.ndarray
    deviation: np.ndarray
    gaps: bool

    @classmethod
    def of(cls, sequences: list[np.ndarray]) -> Scale:
        """By all steps of the training sequences."""
        steps = np.concatenate(sequences)
        most = np.nanmax(np.abs(steps), 0, initial=0.0)
        unit = np.where(most > 0, most, 1.0)  # so that no square overflows
        there = ~np.isnan(steps)
        count = np.maximum(there.sum(0), 1)
        mean = np.where(there, steps / unit, 0.0).sum(0) / count
        deviation = np.sqrt(np.where(there, (steps / unit - mean) ** 2, 0.0).sum(0) / count)
        return cls(mean * unit, np.where(deviation > 1e-12, deviation, 1.0) * unit, bool((~there).any()))

    def encode(self, sequence: np.ndarray) -> np.ndarray:
        """Float32 ``[T, F]``: standardised, 0 where missing, and which are missing if some were in training."""
        gone = np.isnan(sequence)
        level = np.where(gone, 0.0, (sequence - self.mean) / self.deviation)
        return np.concatenate([level, gone][: 1 + self.gaps], 1).clip(-1e4, 1e4).astype(np.float32)


class Seen(NamedTuple):
    """How a network sees sequences: the words of texts or the scale of numbers, the classes, and how many steps it reads.

    majority: the class that is most frequent in training. columns: of numbers.
    """

    how: Words | Scale
    classes: list[str]
    longest: int
    majority: str
    columns: tuple[str, ...] = ()

    def encode(self, sequences: list[Any]) -> list[np.ndarray]:
        """Arrays ``[T]`` of symbols, or ``[T, F]`` of numbers, cut to the longest."""
        found = self.how.encode_all(sequences) if isinstance(self.how, Words) else map(self.how.encode, sequences)
        return [sequence[: self.longest] for sequence in found]

    def network(self, settings: Settings) -> Classifier:
        """The network of a run."""
        layer = cell_type(settings.cell)(settings.hidden)
        symbols = len(self.how) if isinstance(self.how, Words) else 0
        return Classifier(layer, settings.layers, len(self.classes), symbols, SEEN, settings.dropout, settings.members)

    def example(self, batch: int) -> jax.ShapeDtypeStruct:
        """One step's input."""
        if isinstance(self.how, Words):
            return jax.ShapeDtypeStruct((batch,), jnp.int32)
        return jax.ShapeDtypeStruct((batch, len(self.how.mean) * (1 + self.how.gaps)), jnp.float32)

    def memory(self) -> dict[str, Any]:
        """What a run's ``config.json`` keeps of it."""
        if isinstance(self.how, Words):
            how: dict[str, Any] = {"unit": self.how.unit, "words": list(self.how.known)}
        else:
            how = {"mean": self.how.mean.tolist(), "deviation": self.how.deviation.tolist(), "gaps": self.how.gaps}
        plain = {name: getattr(self, name) for name in ("classes", "longest", "majority")}
        return plain | {"columns": list(self.columns), **how}

    @classmethod
    def of(cls, memory: dict[str, Any]) -> Seen:
        """The way back."""
        if "words" in memory:
            how: Words | Scale = Words(memory["unit"], tuple(memory["words"]))
        else:
            how = Scale(np.array(memory["mean"]), np.array(memory["deviation"]), memory["gaps"])
        return cls(how, memory["classes"], memory["longest"], memory["majority"], tuple(memory["columns"]))


def label_task(settings: Settings) -> Task:
    """Predict the class of each sequence; of each class the same share is held out. Loss: cross-entropy in nats."""
    check_columns(settings)
    path = settings.file
    all_of = read(settings, path)
    data = all_of.known()
    classes = classes_of(path, str(settings.label), data.labels)
    held = set_apart(data.sequences, data.labels, settings.held_out)
    if not held.any():
        raise DataError(f"{path}: all sequences of each class are equal, so none can be held out to measure on")
    place = {name: i for i, name in enumerate(classes)}
    labels = np.array([place[label] for label in data.labels], np.int32)
    train = [data.sequences[i] for i in np.flatnonzero(~held)]
    how = Scale.of(train) if settings.text is None else Words.of(train)
    most = classes[int(np.bincount(labels[~held]).argmax())]
    seen = Seen(how, classes, settings.time, most, data.columns)
    encoded = seen.encode(data.sequences)
    known, apart = ([encoded[i] for i in np.flatnonzero(part)] for part in (~held, held))
    network = seen.network(settings)
    logits, truth = logits_of(network, apart, **settings.precision), labels[held]

    def loss(params, carry, batch, key):
        found = network.each(params, batch["inputs"], batch["lengths"], key, **settings.precision)
        labels = jnp.broadcast_to(batch["labels"], found.shape[:-1])
        right = jnp.mean((jnp.argmax(found, -1) == labels).astype(jnp.float32))
        return carry, jnp.mean(rj.losses.softmax_cross_entropy(found, labels)), {"accuracy": right}

    return Task(
        title=title(data, classes, how),
        unit="accuracy",
        cell=network,
        example=seen.example(settings.batch),
        time=max(map(len, known)),
        loss_fn=loss,
        batches=batches_of(known, labels[~held], settings.batch, settings.seed),
        validate=lambda params: scores(logits(params), truth),
        derive=lambda loss: {},
        baselines=lambda: baselines(known, labels[~held], apart, truth, seen),
        memory=seen.memory(),
        fingerprint=all_of.fingerprint,
        remarks=(*data.remarks, *cut_remark(seen, data)),
        each=f"{min(settings.batch, len(known))} sequences of up to {max(map(len, known))} steps",
        held=f"{len(truth):,} sequences held out",
        higher=True,
        batch_axis={"inputs": 1, "lengths": 0, "labels": 0},
        confusion=lambda params: confusion(logits(params), truth),
    )


def other_task(settings: Settings, memory: dict[str, Any], path: str) -> Task:
    """To measure a trained network on all labelled sequences of another file."""
    seen = Seen.of(memory)
    data = read(settings, path, columns=seen.columns or None).known()
    if not data.labels:
        raise DataError(f"{path} has no labelled sequence; rnnjax predict says classes where there are none")
    place = {name: i for i, name in enumerate(seen.classes)}
    unknown = sorted(set(data.labels) - place.keys())
    if unknown:
        raise DataError(
            f"{path}: the model knows no class {unknown[0]!r} of column {settings.label!r}; it knows {', '.join(seen.classes)}"
        )
    truth = np.array([place[label] for label in data.labels])
    network = seen.network(settings)
    logits = logits_of(network, seen.encode(data.sequences), **settings.precision)
    return Task(
        title="",
        unit="accuracy",
        cell=network,
        example=seen.example(1),
        time=seen.longest,
        loss_fn=lambda *_: (None, jnp.zeros(())),
        batches=lambda step: None,
        validate=lambda params: scores(logits(params), truth),
        derive=lambda loss: {},
        baselines=lambda: baselines([], truth[:0], [], truth, seen),
        memory=memory,
        fingerprint=data.fingerprint,
        higher=True,
        confusion=lambda params: confusion(logits(params), truth),
    )


def scores(logits: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Mean cross-entropy in nats, and the share of sequences whose class is found."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return {
        "loss": float(-log_p[np.arange(len(truth)), truth].mean()),
        "accuracy": float(np.mean(logits.argmax(1) == truth)),
    }


def confusion(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Counts ``[classes, classes]``: rows are what it is, columns what the network says."""
    counts = np.zeros((logits.shape[1],) * 2, int)
    np.add.at(counts, (truth, logits.argmax(1)), 1)
    return counts


def title(data: Labelled, classes: list[str], how: Words | Scale) -> str:
    """What is learned from what, in a line."""
    counts = Counter(data.labels)
    shown = ", ".join(f"{counts[name]} {name}" for name in classes[:5]) + ", ..." * (len(classes) > 5)
    kind = (
        f"texts by {how.unit}, {len(how.known):,} known"
        if isinstance(how, Words)
        else f"sequences of {', '.join(data.columns)}"
    )
    left = f", left out: {', '.join(data.left_out)}" if data.left_out else ""
    return f"{len(data.labels):,} {kind}, in {len(classes)} classes: {shown}{left}"


def cut_remark(seen: Seen, data: Labelled) -> list[str]:
    """How many sequences are longer than the network looks."""
    whole = seen._replace(longest=1 << 31).encode(data.sequences)
    long = sum(len(sequence) > seen.longest for sequence in whole)
    return [f"{long:,} longer than {seen.longest} steps are read to there; --time N reads on"] if long else []


def baselines(
    known: list[np.ndarray], labels: np.ndarray, apart: list[np.ndarray], truth: np.ndarray, seen: Seen
) -> dict[str, float]:
    """Accuracy of saying the most frequent class of training; for texts, of naive Bayes, which counts and knows no order."""
    found = {f"majority class ({seen.majority})": float(np.mean(truth == seen.classes.index(seen.majority)))}
    if isinstance(seen.how, Words) and known:
        said = naive_bayes(known, labels, apart, len(seen.how), len(seen.classes))
        found[f"naive Bayes of {seen.how.unit}"] = float(np.mean(said == truth))
    return found


def naive_bayes(
    known: list[np.ndarray], labels: np.ndarray, apart: list[np.ndarray], symbols: int, classes: int
) -> np.ndarray:
    """The likeliest class of each sequence by counts alone, one added to each: ``log p(c) + sum_t log p(x_t | c)``.

    >>> naive_bayes([np.array([0, 0]), np.array([1])], np.array([0, 1]), [np.array([0]), np.array([1, 1])], 2, 2).tolist()
    [0, 1]
    """
    counts = np.ones((classes, symbols))
    for sequence, label in zip(known, labels):
        np.add.at(counts[label], sequence, 1)
    log_p = np.log(counts / counts.sum(1, keepdims=True))
    prior = np.log(np.bincount(labels, minlength=classes) + 1.0)
    return np.array([int(np.argmax(prior + log_p[:, sequence].sum(1))) for sequence in apart])
