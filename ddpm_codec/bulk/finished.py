"""Which shards of a plan are finished."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from ddpm_codec.bulk.places import Place
from ddpm_codec.bulk.plan import Plan
from ddpm_codec.bulk.rows import SHARD, SIDECAR, ShardFacts, read_facts, read_sidecar
from ddpm_codec.errors import DdpmCodecError

if TYPE_CHECKING:
    import pyarrow as pa

_READERS = 16


def finished_shard(place: Place, plan: str, shard: str, file_bytes: int) -> ShardFacts | None:
    """Return a shard's facts if its sidecar says that it is finished; None if there is none, or half of something.

    Args:
        place: where it lies.
        plan: identity of the plan that it has to be of.
        shard: its name, without an extension.
        file_bytes: length of its file, 0 if there is none.
    """
    try:
        facts = read_facts(place, shard)
    except DdpmCodecError:
        return None
    return facts if facts.plan == plan and facts.file_bytes == file_bytes else None


def finished_shards(place: Place, plan: Plan) -> dict[int, ShardFacts]:
    """Return the shards whose file is there and whose sidecar says so: of this plan, and of that length.

    Raises:
        InputError: the folder cannot be listed.
    """
    sizes = place.sizes()

    def facts_of(number: int) -> tuple[int, ShardFacts | None]:
        shard = plan.shard_name(number)
        return number, finished_shard(place, plan.identity, shard, sizes.get(shard + SHARD, 0))

    begun = [number for number in range(plan.shards) if plan.shard_name(number) + SIDECAR in sizes]
    with ThreadPoolExecutor(_READERS) as pool:
        return {number: facts for number, facts in pool.map(facts_of, begun) if facts is not None}


def tables_of(place: Place, plan: Plan) -> Iterator[tuple["pa.Table", ShardFacts]]:
    """Yield the rows and the facts of every shard, in order.

    Raises:
        FormatError: a sidecar is damaged.
        InputError: one cannot be read.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        # In slices, so that no more than a few are in memory.
        for start in range(0, plan.shards, _READERS):
            names = map(plan.shard_name, range(start, min(start + _READERS, plan.shards)))
            yield from pool.map(lambda name: read_sidecar(place, name), names)
