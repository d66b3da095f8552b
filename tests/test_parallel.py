import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

import pytest

from pipeline.errors import InputError
from pipeline.parallel import QUEUED, available_workers, ordered_map


def add(amount: int, item: int) -> int:
    return amount + item


def adder(amount: int) -> Callable[[int], int]:
    return partial(add, amount)


def process_of(_: int) -> int:
    return os.getpid()


def reports_process() -> Callable[[int], int]:
    return process_of


def divide(item: int) -> float:
    return 6 / item


def divider() -> Callable[[int], float]:
    return divide


def kill(item: int) -> int:
    if item == 3 and multiprocessing.parent_process():  # not the process of the tests
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def killer() -> Callable[[int], int]:
    return kill


def broken() -> Callable[[int], int]:
    raise InputError("cannot be set up")


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("number", [0, 1, 2, 40])
def test_results_come_in_the_order_of_the_items(number: int, workers: int) -> None:
    found = ordered_map(partial(adder, 1000), iter(range(number)), workers)
    assert list(found) == list(range(1000, 1000 + number))


@pytest.mark.parametrize(("workers", "number", "elsewhere"), [(1, 9, False), (2, 1, False), (2, 9, True)])
def test_other_processes_work_where_that_helps(workers: int, number: int, elsewhere: bool) -> None:
    processes = set(ordered_map(reports_process, range(number), workers))
    assert (os.getpid() not in processes) is elsewhere
    assert len(processes) <= workers


@pytest.mark.parametrize("workers", [1, 2])
def test_items_are_read_only_as_fast_as_they_are_worked_off(workers: int) -> None:
    worked_off = 0

    def endless() -> Iterator[int]:
        for item in count():
            assert item - worked_off < workers * QUEUED
            yield item

    results = ordered_map(partial(adder, 0), endless(), workers)
    for expected in range(30):
        assert next(results) == expected
        assert len(multiprocessing.active_children()) <= workers
        worked_off += 1
    results.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [1, 2])
def test_what_the_function_raises_comes_in_its_place(workers: int) -> None:
    results = ordered_map(divider, [1, 2, 0, 3], workers)
    assert [next(results), next(results)] == [6, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [1, 2])
def test_what_the_items_raise_comes_through(workers: int) -> None:
    def items() -> Iterator[int]:
        yield from range(10)
        raise InputError("cannot be read")

    with pytest.raises(InputError, match="cannot be read"):
        list(ordered_map(partial(adder, 0), items(), workers))
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [1, 2])
def test_what_setting_up_raises_comes_through(workers: int) -> None:
    with pytest.raises(InputError, match="cannot be set up"):
        list(ordered_map(broken, range(5), workers))


def test_a_killed_worker_is_an_input_error() -> None:
    with pytest.raises(InputError, match="a worker process was killed, most likely for lack of memory") as error:
        list(ordered_map(killer, range(10), 2))
    assert "\n" not in str(error.value)
    assert multiprocessing.active_children() == []


def test_as_many_workers_as_processors_allowed() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert available_workers() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert available_workers() == len(allowed)
