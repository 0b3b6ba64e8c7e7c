"""Short stories and a question on each, after the forms of six of the bAbI tasks; the words and the stories are our own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from rnnjax.data.errors import DataError

PEOPLE = ("anna", "ben", "carla", "david")
PLACES = ("attic", "bakery", "cellar", "garden", "harbour", "library")
SIGHTS = (*PLACES, "market", "museum", "school", "station")
THINGS = ("apple", "book", "coin", "drum")
WAYS = ("north", "south", "east", "west")
OPPOSITE = {"north": "south", "south": "north", "east": "west", "west": "east"}
ANIMALS = {"foxes": "fox", "geese": "goose", "hawks": "hawk", "owls": "owl"}
SIZES = ("thimble", "jar", "basket", "crate", "wardrobe")  # in no story by this order
GOES = ("went to", "walked to", "ran to")


class Story(NamedTuple):
    """form: its number among the bAbI tasks. text: sentences, then the question, in lower case. answer: one word."""

    form: int
    text: str
    answer: str

    @property
    def words(self) -> list[str]:
        return self.text.replace(".", " .").replace("?", " ?").split()


def stories(forms: Iterable[int], count: int, seed: Any = 0) -> list[Story]:
    """``count`` different stories of each form: the same form as bAbI's, not the same data.

    1 where someone is; 2 where a thing is that someone carried; 4 what lies north of what; 5 who gave what to whom;
    15 of what an animal of some kind is afraid; 18 what fits into what. Source of the forms: Weston et al. 2015, arXiv:1502.05698.
    Raises: DataError for a form that is none of these, and where there are not that many different stories.

    >>> story = stories([15], 1)[0]
    >>> story.words[-6:-3], story.words[-2:], story.answer in ("fox", "goose", "hawk", "owl")
    (['what', 'is', 'vera'], ['of', '?'], True)
    """
    rng, found = np.random.default_rng(seed), {}
    for form in forms:
        if form not in FORMS:
            raise DataError(f"stories: there is no form {form!r}; the forms are {', '.join(map(str, FORMS))}")
        mine: dict[str, Story] = {}
        for _ in range(100 * count):
            if len(mine) == count:
                break
            text, answer = FORMS[form](rng)
            mine[text] = Story(form, text, answer)
        if len(mine) < count:
            raise DataError(f"stories: form {form} has hardly {count} different stories; take at most {len(mine) // 2}")
        found |= mine
    return list(found.values())


def _some(rng: np.random.Generator, words: Iterable[str], n: int = 1) -> list[str]:
    words = list(words)
    return [words[i] for i in rng.permutation(len(words))[:n]]


def _one(rng: np.random.Generator, words: Iterable[str]) -> str:
    words = list(words)
    return words[int(rng.integers(len(words)))]


def where_is_someone(rng: np.random.Generator) -> tuple[str, str]:
    """People walk about; where one of them was last."""
    said, place = [], {}
    for _ in range(int(rng.integers(2, 9))):
        who, to = _one(rng, PEOPLE), _one(rng, PLACES)
        said.append(f"{who} {_one(rng, GOES)} the {to}.")
        place[who] = to
    who = _one(rng, place)
    return " ".join([*said, f"where is {who}?"]), place[who]


def where_is_a_thing(rng: np.random.Generator) -> tuple[str, str]:
    """People walk about, take things and leave them; the thing asked for was carried at least once."""
    place, holder, lies, said, moved = {}, {}, {}, [], set()
    for who in PEOPLE[:3]:
        place[who] = _one(rng, PLACES)
        said.append(f"{who} {_one(rng, GOES)} the {place[who]}.")
    while len(said) < 6 or not moved or (len(said) < 12 and rng.random() < 0.8):
        who, held = _one(rng, place), [thing for thing, by in holder.items() if by]
        mine = [thing for thing in held if holder[thing] == who]
        act = rng.random()
        if act < 0.5:
            place[who] = _one(rng, [p for p in PLACES if p != place[who]])
            said.append(f"{who} {_one(rng, GOES)} the {place[who]}.")
            moved |= set(mine)
        elif act < 0.8 or not mine:
            free = [t for t in THINGS if not holder.get(t) and lies.get(t, place[who]) == place[who]]
            if free:
                thing = _one(rng, free)
                holder[thing] = who
                said.append(f"{who} took the {thing}.")
        else:
            thing = _one(rng, mine)
            holder[thing], lies[thing] = None, place[who]
            said.append(f"{who} left the {thing}.")
        if len(said) > 14:  # nothing was carried in all that time
            return where_is_a_thing(rng)
    thing = _one(rng, sorted(moved))
    at = place[holder[thing]] if holder[thing] else lies[thing]
    return " ".join([*said, f"where is the {thing}?"]), at


def which_lies_where(rng: np.random.Generator) -> tuple[str, str]:
    """Three sights in a row; what lies on one side of the middle one, or what the middle one lies beside."""
    (a, b, c), way = _some(rng, SIGHTS, 3), _one(rng, WAYS)
    first, second = f"the {a} is {way} of the {b}.", f"the {b} is {way} of the {c}."
    said = [first, second] if rng.random() < 0.5 else [second, first]
    if rng.random() < 0.5:
        return " ".join([*said, f"what is {way} of the {b}?"]), a
    return " ".join([*said, f"what is the {b} {way} of?"]), c


def who_gave_what(rng: np.random.Generator) -> tuple[str, str]:
    """Things handed on; who gave the last one, who got it, or what it was."""
    said, known = [], {}
    for _ in range(int(rng.integers(2, 6))):
        (giver, taker), thing = _some(rng, PEOPLE, 2), _one(rng, THINGS)
        known = {
            f"who gave the {thing} to {taker}?": giver,
            f"who did {giver} give the {thing} to?": taker,
            f"what did {giver} give to {taker}?": thing,
            f"who received the {thing}?": taker,
            f"who gave the {thing}?": giver,
        }
        said.append(f"{giver} gave the {thing} to {taker}.")
        if rng.random() < 0.3:
            said.append(f"{_one(rng, PEOPLE)} {_one(rng, GOES)} the {_one(rng, PLACES)}.")
    question = _one(rng, known)  # on the last thing given
    return " ".join([*said, question]), known[question]


def afraid_of_what(rng: np.random.Generator) -> tuple[str, str]:
    """Four names, each of a kind, and what each kind is afraid of; two sentences answer one question."""
    kinds = list(ANIMALS)
    fear = {kind: _one(rng, [other for other in kinds if other != kind]) for kind in kinds}
    named: dict[str, str] = dict(zip(("tom", "una", "vera", "will"), _some(rng, kinds, 4)))
    said = _some(rng, [f"{kind} are afraid of {fear[kind]}." for kind in kinds], 4)
    said += _some(
        rng, [f"{name} is {'an' if kind == 'owls' else 'a'} {ANIMALS[kind]}." for name, kind in named.items()], 4
    )
    who = _one(rng, named)
    return " ".join([*said, f"what is {who} afraid of?"]), ANIMALS[fear[named[who]]]


def what_fits(rng: np.random.Generator) -> tuple[str, str]:
    """Neighbours in size are compared; what is asked may need two steps. What is larger than what changes by story."""
    order = _some(rng, SIZES, 5)
    say = lambda a, b: f"the {a} fits in the {b}." if rng.random() < 0.5 else f"the {b} is bigger than the {a}."
    said = _some(rng, [say(a, b) for a, b in zip(order, order[1:])], 4)
    small, large = sorted(rng.permutation(5)[:2].tolist())
    a, b = (small, large) if rng.random() < 0.5 else (large, small)
    if rng.random() < 0.5:
        return " ".join([*said, f"does the {order[a]} fit in the {order[b]}?"]), "yes" if a < b else "no"
    return " ".join([*said, f"is the {order[a]} bigger than the {order[b]}?"]), "yes" if a > b else "no"


FORMS: dict[int, Callable[[np.random.Generator], tuple[str, str]]] = {
    1: where_is_someone,
    2: where_is_a_thing,
    4: which_lies_where,
    5: who_gave_what,
    15: afraid_of_what,
    18: what_fits,
}
