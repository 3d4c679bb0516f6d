"""A profile of one partition, plans of the tiny study, and their job arrays."""

from support.runs import tiny_text

from ntkhpc import studies
from ntkhpc.engine import plan
from ntkhpc.engine.plan import Plan
from ntkhpc.launch import tasks
from ntkhpc.launch.profile import Limits, Partition, Profile
from ntkhpc.launch.submissions import JobArray
from ntkhpc.phase.layout import Layout

DEFAULTS = Limits()

TINY_POSTERIOR = """
name = "tiny"
kind = "bayes"
[data]
source = "calorimeter"
[network]
widths = [4]
[posterior]
n_train = [8]
"""


def profile(*, limits: Limits = DEFAULTS, **fields: object) -> Profile:
    settings = {"partition": "main", "cores": 2, "memory_gb": 8.0, "minutes": 60, **fields}
    return Profile(partitions={"main": Partition(**settings)}, limits=limits, name="mine")


def planned(**changes: object) -> Plan:
    return plan.make(studies.loads(tiny_text(**changes)))


def layout(made: Plan) -> Layout:
    """The phases of a planned study, by what the plan has."""
    text = tiny_text() if "ensemble" in made.memory_bytes else TINY_POSTERIOR
    return studies.layout(studies.loads(text))


def arrays(made: Plan, wanted: Profile, size: int = 1000, **settings: object) -> list[JobArray]:
    shards = {phase: made.of_phase(phase) for phase in made.memory_bytes}
    return tasks.arrays(layout(made), made, shards, wanted, "ntk", size, **settings)
