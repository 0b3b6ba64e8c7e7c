"""Running a sorted loop: `run` is forward and derivative; `ways` picks the schedule."""
