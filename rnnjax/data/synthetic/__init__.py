"""Data made on the fly, by a seed alone: what is known of their best possible score is exact.

`adding`, `copying`: the memory tasks of Hochreiter and Schmidhuber. `strings`: formal languages. `sums`: questions such as
``12+345``. `stories`: questions on short stories, after the forms of bAbI. `moving`: pictures that move over a field. `films`:
pictures that move in a way that has a name, and their `caption`.
A seed is an int or a list of ints, as `numpy.random.default_rng` takes it: ``[seed, step]`` gives each step data of its own.
"""

from rnnjax.data.synthetic.addition import sums
from rnnjax.data.synthetic.films import MOVES, NUMBERS, Films, caption, films
from rnnjax.data.synthetic.languages import LANGUAGES, Strings, strings
from rnnjax.data.synthetic.memory import adding, copying
from rnnjax.data.synthetic.pictures import moving
from rnnjax.data.synthetic.stories import FORMS, Story, stories

__all__ = [
    "FORMS",
    "LANGUAGES",
    "MOVES",
    "NUMBERS",
    "Films",
    "Story",
    "Strings",
    "adding",
    "caption",
    "copying",
    "films",
    "moving",
    "stories",
    "strings",
    "sums",
]
