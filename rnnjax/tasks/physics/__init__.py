"""Bodies that move: one step of time each, pure functions of state and force."""
