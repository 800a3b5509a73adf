"""Which worker serves which leg: what must never happen is a place that has served both."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.backends.cluster.placement import Placement, RemoteWorker
from builder.errors import NotProvenError


def worker(name: str, *, machine: str = "m", store: str = "") -> RemoteWorker:
    return RemoteWorker(f"tcp://{name}", name, machine, store or f"store of {name}", "/directory")


def names(placement: Placement, leg: str) -> list[str]:
    return sorted(found.name for found in placement.workers(leg))


def test_two_workers_of_one_machine_serve_one_leg_each() -> None:
    placement = Placement("ab", [worker("one"), worker("two")])
    assert not placement.by_machine
    assert (names(placement, "a"), names(placement, "b")) == (["one"], ["two"])


def test_legs_are_on_different_machines_where_there_are_several() -> None:
    workers = [worker(f"{machine}{index}", machine=machine) for machine in "xy" for index in range(3)]
    placement = Placement("ab", workers)
    assert placement.by_machine
    assert (names(placement, "a"), names(placement, "b")) == (["x0", "x1", "x2"], ["y0", "y1", "y2"])


def test_large_machine_has_one_leg_and_the_small_ones_the_other() -> None:
    workers = [
        *(worker(f"x{index}", machine="x") for index in range(2)),
        worker("y", machine="y"),
        worker("z", machine="z"),
    ]
    placement = Placement("ab", workers)
    assert (names(placement, "a"), names(placement, "b")) == (["x0", "x1"], ["y", "z"])


@pytest.mark.parametrize(
    "workers",
    [
        [],
        [worker("one")],
        [worker("one", store="shared"), worker("two", store="shared")],
        [worker("one", machine="x", store="shared"), worker("two", machine="y", store="shared")],
    ],
    ids=["none", "one", "one store", "one store on two machines"],
)
def test_cluster_without_a_place_for_each_leg_is_refused(workers: list[RemoteWorker]) -> None:
    with pytest.raises(NotProvenError, match="2 legs need as many workers with stores of their own") as caught:
        Placement("ab", workers)
    assert all(worker.name in caught.value.message for worker in workers)


def test_one_worker_is_enough_for_one_leg() -> None:
    assert names(Placement("b", [worker("one")]), "b") == ["one"]


def test_new_worker_takes_the_place_of_the_lost_one() -> None:
    placement = Placement("ab", [worker("one"), worker("two")])
    placement.update([worker("two")])
    assert names(placement, "a") == []
    placement.update([worker("two"), worker("new")])
    assert (names(placement, "a"), names(placement, "b")) == (["new"], ["two"])


def test_worker_that_comes_back_with_its_store_has_its_leg_again() -> None:
    placement = Placement("ab", [worker("one"), worker("two")])
    placement.update([])
    placement.update([worker("restarted", store="store of two")])
    assert (names(placement, "a"), names(placement, "b")) == ([], ["restarted"])


def test_worker_on_the_machine_of_the_other_leg_is_no_replacement() -> None:
    placement = Placement("ab", [worker("one", machine="x"), worker("two", machine="y")])
    placement.update([worker("two", machine="y"), worker("new", machine="y")])
    assert names(placement, "a") == []


def test_machines_that_share_a_store_have_one_leg() -> None:
    shared = [worker(name, machine=name, store="shared") for name in "xy"]
    placement = Placement("ab", [*shared, worker("z", machine="z")])
    assert placement.by_machine
    assert (names(placement, "a"), names(placement, "b")) == (["x", "y"], ["z"])


def test_worker_with_the_machine_of_one_leg_and_the_store_of_the_other_serves_neither() -> None:
    one, two = worker("one", machine="x"), worker("two", machine="y")
    placement = Placement("ab", [one, two])
    placement.update([one, two, worker("three", machine="x", store=two.store)])
    assert (names(placement, "a"), names(placement, "b")) == (["one"], ["two"])
    assert "three for no leg" in placement.describe()


def test_who_is_there_is_told_with_the_leg() -> None:
    placement = Placement("ab", [worker("one"), worker("two")])
    assert placement.describe() == "one for leg a, two for leg b"
    placement.update([])
    assert placement.describe() == "no worker"


WORKERS = st.builds(
    worker, st.sampled_from("pqrstu"), machine=st.sampled_from("xyz"), store=st.sampled_from(["1", "2", "3"])
)


@given(st.lists(st.lists(WORKERS, max_size=6), min_size=1, max_size=8))
def test_no_machine_or_store_ever_serves_two_legs_whoever_comes_and_goes(states: list[list[RemoteWorker]]) -> None:
    try:
        placement = Placement("ab", states[0])
    except NotProvenError:
        return
    assert names(placement, "a")
    assert names(placement, "b")
    served: dict[str, set[str]] = {}
    for state in states:
        placement.update(state)
        found = [(leg, each) for leg in "ab" for each in placement.workers(leg)]
        assert len(found) <= len(state), "no worker serves two legs"
        for leg, each in found:
            served.setdefault(f"store {each.store}", set()).add(leg)
            if placement.by_machine:
                served.setdefault(f"machine {each.machine}", set()).add(leg)
    assert all(len(legs) == 1 for legs in served.values())


@given(st.lists(WORKERS, max_size=6))
def test_every_worker_that_mixes_nothing_serves_a_leg(state: list[RemoteWorker]) -> None:
    try:
        placement = Placement("ab", state)
    except NotProvenError:
        return
    used = {worker.name for leg in "ab" for worker in placement.workers(leg)}
    for each in state:
        alone = all(other.machine != each.machine and other.store != each.store for other in state if other != each)
        assert each.name in used or not alone
