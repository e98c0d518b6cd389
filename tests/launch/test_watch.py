"""A lost node is named."""

from __future__ import annotations

from typing import Any

from stdcl.launch.watch import INTERVAL, NodeWatch


def _node(name: str, alive: bool = True) -> dict[str, Any]:
    return {"NodeID": f"id-{name}", "Alive": alive, "NodeManagerAddress": f"10.0.0.{name}", "NodeManagerHostname": name}


def test_nodes_that_go_and_come() -> None:
    now, looks, clock, draining = [_node("1"), _node("2")], [0], [0.0], dict[str, int]()

    def nodes() -> list[dict[str, Any]]:
        looks[0] += 1
        return now

    watch = NodeWatch(nodes, lambda: draining, lambda: clock[0])
    assert watch.news() == []
    draining["id-2"] = 1_800_000_000_000
    clock[0] += INTERVAL
    assert watch.news() == ["node 10.0.0.2 (2) is about to be taken away; trainings on it save, and move when it goes"]
    now[1] = _node("2", alive=False)
    assert watch.news() == []
    assert looks == [2], "Tune asks all the time; Ray is not"
    clock[0] += INTERVAL
    (lost,) = watch.news()
    assert lost.startswith("node 10.0.0.2 (2) is lost; trainings on it start again")
    clock[0] += INTERVAL
    assert watch.news() == []
    now.append({**_node("2"), "NodeID": "id-other"})
    clock[0] += INTERVAL
    assert watch.news() == ["node 10.0.0.2 (2) has joined"]
