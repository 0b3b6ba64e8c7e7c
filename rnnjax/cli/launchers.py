"""Who is in a run that SLURM or Open MPI started, by the variables that `jax.distributed.initialize` goes by too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

FIRST, PORTS = 61440, 4096  # jobs are spread over the last ports there are, so that two on one machine rarely meet


class Place(NamedTuple):
    """Where process 0 listens (``HOST:PORT``), how many there are, and which of them this is."""

    coordinator: str
    processes: int
    process: int


def place(environ: Mapping[str, str]) -> Place | None:
    """What the launcher says; None where it is none of these, or says too little.

    >>> place({"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "node[03-05,9],big", "SLURM_NTASKS": "4", "SLURM_PROCID": "2"})
    Place(coordinator='node03:61447', processes=4, process=2)
    """
    try:
        found = open_mpi(environ) if "OMPI_MCA_orte_hnp_uri" in environ else slurm(environ)
    except (LookupError, ValueError, TypeError):
        return None
    port = environ.get("JAX_COORDINATOR_PORT")
    there = found.coordinator if port is None else f"{found.coordinator.rsplit(':', 1)[0]}:{port}"
    return found._replace(coordinator=environ.get("JAX_COORDINATOR_ADDRESS", there))


def slurm(environ: Mapping[str, str]) -> Place:
    """Of a step of a job: process 0 is on the first of its nodes."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])+", environ["SLURM_STEP_NODELIST"])[0]  # type: ignore[index]
    host = re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first)
    port = FIRST + int(environ["SLURM_JOB_ID"]) % PORTS
    return Place(f"{host}:{port}", int(environ["SLURM_NTASKS"]), int(environ["SLURM_PROCID"]))


def open_mpi(environ: Mapping[str, str]) -> Place:
    """Of what mpirun started, before version 5, which tells no address: process 0 is where mpirun is."""
    uri = environ["OMPI_MCA_orte_hnp_uri"]
    newer, *_ = re.findall(r"tcp6://\[([^,\]]+)", uri) or [None]
    host = f"[{newer}]" if newer else re.findall(r"tcp://([^,:]+)", uri)[0]
    port = FIRST + int(uri.split(".")[0]) // PORTS % PORTS  # the low bits of a job's number are always zero
    return Place(f"{host}:{port}", int(environ["OMPI_COMM_WORLD_SIZE"]), int(environ["OMPI_COMM_WORLD_RANK"]))
