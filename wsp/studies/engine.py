"""One engine for every stored experiment: a study says what to compute, this says how.

A :class:`Study` cuts its experiment into *units*: a table, a (table, seed) pair, a run. :func:`run`
computes the units that a file does not hold yet, on all cores or under ``torchrun``, joins what
comes back, and stores it after every part with where it comes from. Interrupted, the same request
goes on from there. :func:`check` runs a slice of a stored result again.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tqdm.auto import tqdm

from wsp.lab.results import load_json, modules_of, processor, provenance, save_json
from wsp.lab.training import progress_wanted
from wsp.studies.parts import Content, differences, in_chunks, join, rows_of, uneven

Unit = Any  # an int, or a tuple of ints and strings
Tick = Callable[[int], object]
ABOUT = ("format", "specification", "provenance")  # the rest of a result is what its units gave


class Stopped(Exception):
    """Raised inside a worker when the run was interrupted."""


class Study:
    """One experiment. A subclass writes four methods; the first two are its command line as well.

    ``specification(**settings)``
        The settings, checked: what all parts of one file have in common.
    ``units(spec, content, **wanted)``
        What is wanted. `content` is what there is so far, or None: a study that chooses on some
        units and reports on others names the others once the first are there.
    ``work(spec, units, tick, device)``
        Compute one chunk; yield what can be stored, as it comes. ``tick(count)`` says how many of
        its :meth:`samples` have gone by, and raises where the run was stopped.
    ``slice(content)``
        A specification with little of this one, and units, to be run again in seconds.

    Attributes
    ----------
    name, words : str
        On the command line, and for people.
    chapter : int
    key : str
        Where a result lists its units.
    sums, same : tuple of str
        How parts are joined; see :func:`wsp.studies.parts.join`.
    chunk : int
        Units computed side by side.
    parallel : bool
        One chunk a core, each on one thread. False: one after the other, on all threads.
    cuda : bool
        Whether it can run on a graphics processor.
    minutes : float
        Of its longest slice, about. A check that must end soon leaves out what takes longer.
    """

    name: str
    words: str
    chapter: int
    key = "tables"
    sums: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    chunk = 50
    parallel = True
    cuda = False
    minutes = 0.2

    specification: Callable[..., Content]
    units: Callable[..., Sequence[Unit]]
    work: Callable[[Content, Sequence[Unit], Tick, str], Iterator[Content]]
    slice: Callable[[Content], tuple[Content, Sequence[Unit]]]

    def holds(self, content: Content) -> bool:
        """Whether this is one of its results. Some tell their format inside the settings."""
        told = content.get("format"), content.get("specification", {}).get("format")
        return f"wsp {self.name} 1" in told

    def samples(self, spec: Content, units: Sequence[Unit]) -> int:
        """How much work these units are. Default: their number."""
        return len(units)

    def chunks(self, units: Sequence[Unit], workers: int) -> list[Sequence[Unit]]:
        """What goes into one call of ``work`` together."""
        return in_chunks(units, workers, self.chunk)

    def done(self, content: Content) -> list[Unit]:
        """The units that a result holds."""
        return [tuple(unit) if isinstance(unit, list) else unit for unit in content[self.key]]

    def merge(self, parts: Sequence[Content]) -> Content:
        """Join what is there with what has come."""
        return join(parts, self.key, self.sums, self.same)

    def finish(self, spec: Content, content: Content) -> Content:
        """What is to be said once all units are there. Default: nothing more."""
        return content

    def rows(self, content: Content, units: Sequence[Unit]) -> Content:
        """What a result holds of these units alone."""
        places = [self.done(content).index(unit) for unit in units]
        return dict(rows_of(content, places, (*ABOUT, *self.sums, *self.same)))

    def missing(self, content: Content) -> list[str]:
        """A line for all that a damaged file lacks."""
        return list(uneven(content, len(self.done(content)), (*ABOUT, *self.sums, *self.same)))

    def differences(self, kept: Content, again: Content, at_home: bool) -> Iterator[str]:
        """What of `again` is not so in `kept`. At home: on the processor and PyTorch of `kept`."""
        return differences(kept, again)

    def needs(self, content: Content) -> str:
        """Why its slice cannot be run here; empty if it can."""
        return ""

    def summary(self, content: Content) -> Content:
        """What ``--json`` prints."""
        return content

    def as_text(self, content: Content) -> str:
        """A table for people."""
        return f"{self.name}: {len(self.done(content))} units"


def run(
    study: Study,
    spec: Content,
    out: str | Path | None = None,
    *,
    units: Sequence[Unit] | None = None,
    device: str = "cpu",
    command: str = "",
    **wanted: Any,
) -> Content:
    """Compute a study, or what is left of it.

    Parameters
    ----------
    study : Study
    spec : dict
        From its ``specification``.
    out : str or Path, optional
        Stored here after every part, and gone on from. Default: nowhere.
    units : sequence, optional
        Only these. Default: what ``study.units(spec, content, **wanted)`` names.
    device : str
        Default ``"cpu"``.
    command : str
        What re-creates the result, for its provenance.

    Returns
    -------
    dict
        What the units gave, with ``specification`` and ``provenance``; under ``torchrun`` on every
        process, of which the first alone reads and writes the file.

    Raises
    ------
    ValueError
        If the file holds something else, or there is nothing to compute.
    """
    spec = json.loads(json.dumps(spec))  # as it comes back from a file: tuples are lists
    first = not dist.is_initialized() or dist.get_rank() == 0
    whole = load(study, out, spec) if first and out is not None and Path(out).exists() else None
    cores = torch.get_num_threads() if study.parallel and device == "cpu" else 1
    # The others may be on hosts without the file, with other cores.
    whole, cores = _from_first([whole, cores])
    content = None if whole is None else {key: whole[key] for key in whole if key not in ABOUT[1:]}
    before, start = (None if whole is None else whole["provenance"]), time.perf_counter()
    modules, left = modules_of(type(study).__module__), list[Unit]()

    def store(content: Content) -> Content:
        seconds = (before["seconds"] if before else 0.0) + time.perf_counter() - start
        made = provenance(command, modules, seconds, device, before)
        made["threads"] = cores if study.parallel else torch.get_num_threads()
        if first and out is not None:
            save_json(out, content | {"specification": spec, "provenance": made})
        return content | {"specification": spec, "provenance": made}

    while True:
        every = study.units(spec, content, **wanted) if units is None else units
        there = set() if content is None else set(study.done(content))
        last, left = left, [unit for unit in every if unit not in there]
        if not left or left == last:  # equal: it does not give what it is asked for
            break
        for parts in _from_all(_parts(study, spec, left, cores, device)):
            content = study.merge(parts if content is None else [content, *parts])
            whole = store(content)
    if content is None or whole is None:
        raise ValueError(f"{study.name}: no units, so there is nothing to compute")
    if units is None and (finished := study.finish(spec, content)) != content:
        whole = store(finished)
    return dict(whole)


def load(study: Study, path: str | Path, spec: Content) -> Content:
    """Read a result of `study`.

    Raises
    ------
    ValueError
        If it is damaged, or not the one that `spec` describes; says what is missing or differs.
    """
    move = "name another file or move this one away"
    content = load_json(path)
    found = content.get("specification") if isinstance(content, dict) else None
    made = content.get("provenance") if isinstance(content, dict) else None
    if not isinstance(found, dict) or not isinstance(made, dict) or not study.holds(content):
        raise ValueError(f"{path}: holds no result of {study.name}; {move}")
    differ = [key for key in spec | found if spec.get(key) != found.get(key)]
    if differ:
        words = ", ".join(f"{key} {found.get(key)!r}, not {spec.get(key)!r}" for key in differ)
        raise ValueError(f"{path}: holds another result ({words}); {move}")
    try:
        lacks = study.missing(content)
        if not (made["seconds"] >= 0 and isinstance(made["code"], str)):
            lacks.append("provenance: seconds or code")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        lacks = [str(error)]
    if lacks:
        raise ValueError(f"{path}: damaged ({'; '.join(lacks[:3])}); {move}")
    return dict(content)


def check(study: Study, content: Content) -> list[str]:
    """Run a slice of a stored result again, with today's code: a line for all that differs."""
    spec, units = study.slice(content)
    made = content["provenance"]
    with threads_of(None if study.parallel else made.get("threads")):
        again = run(study, spec, units=units)
    at_home = made["processor"] == processor() and made["torch"] == torch.__version__
    return list(study.differences(study.rows(content, units), study.rows(again, units), at_home))


@contextmanager
def threads_of(count: int | None) -> Iterator[None]:
    """So many threads for PyTorch for a while; None: as many as there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _parts(study: Study, spec: Content, units: Sequence[Unit], cores: int, device: str) -> Iterator[Content]:
    """What this process's share of the units gives, as it comes."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    mine = study.chunks(units, cores * world)[rank::world]
    total = study.samples(spec, [unit for chunk in mine for unit in chunk])

    def work(chunk: Sequence[Unit], tick: Tick) -> Iterator[Content]:
        return study.work(spec, chunk, tick, device)

    if study.parallel:
        lists = in_threads(lambda chunk, tick: list(work(chunk, tick)), mine, total, study.name, cores)
        for parts in lists:
            yield from parts
        return
    with progress(total, study.name) as bar:
        for chunk in mine:
            yield from work(chunk, bar.update)


def in_threads(
    work: Callable[[Any, Tick], Any], chunks: Sequence[Any], samples: int, label: str, cores: int
) -> Iterator[Any]:
    """``work(chunk, tick)`` for every chunk, as they finish, one chunk a core.

    Each works on one thread: lanes need nothing of each other, so no core waits for another.
    `samples` is what all chunks tick in sum. What is finished when one of them fails, or the
    run is interrupted, is still handed out.
    """
    stop, taken = threading.Event(), set()
    with progress(samples, label) as bar, threads_of(1), ThreadPoolExecutor(cores) as pool:

        def tick(count: int) -> None:
            if stop.is_set():
                raise Stopped
            bar.update(count)

        jobs = [pool.submit(work, chunk, tick) for chunk in chunks]
        try:
            for job in as_completed(jobs):
                taken.add(job)
                yield job.result()
        except GeneratorExit:
            raise
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            for job in jobs:
                if job not in taken and not job.cancelled() and job.exception() is None:
                    yield job.result()
            raise
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def progress(total: int, label: str) -> Any:
    """A bar of samples; none with ``WSP_PROGRESS=0``."""
    return tqdm(total=total, desc=label, unit="sample", unit_scale=True, disable=not progress_wanted())


def _from_first(known: list[Any]) -> list[Any]:
    """What the first process knows; alone, what we know."""
    if dist.is_initialized():
        dist.broadcast_object_list(known)
    return known


def _from_all(parts: Iterator[Content]) -> Iterator[list[Content]]:
    """Part by part what all processes hand in, alike on each, until none has any left."""
    while True:
        part = next(parts, None)
        handed: list[Content | None] = [part]
        if dist.is_initialized():
            handed = [None] * dist.get_world_size()
            dist.all_gather_object(handed, part)
        if not any(handed):
            return
        yield [each for each in handed if each is not None]
