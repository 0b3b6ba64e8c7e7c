"""Recipes: whole tasks on real or generated data, each in one file, with a floor that needs no recurrence.

`recipes()` lists them, `named` finds one, `run` trains and measures it. The command: ``rnnjax tasks``, ``rnnjax train --task NAME``.
"""

from rnnjax.tasks.listing import named, recipes
from rnnjax.tasks.recipe import Problem, Recipe, Score, Setting
from rnnjax.tasks.run import Result, run

__all__ = ["Problem", "Recipe", "Result", "Score", "Setting", "named", "recipes", "run"]
