"""A lost node is named."""

from __future__ import annotations

from typing import Any

from stdcl.launch.watch import INTERVAL, NodeWatch


def _node(name: str, alive: bool = True) -> dict[str, Any]:
    return {"NodeID": f"id-{name}", "Alive": alive, "NodeManagerAddress": f"10.0.0.{name}", "NodeManagerHostname": name}


def test_nodes_that_go_and_come() -> None:
    now, looks, clock = [_node("1"), _node("2")], [0], [0.0]

    def nodes() -> list[dict[str, Any]]:
        looks[0] += 1
        return now

    watch = NodeWatch(nodes, lambda: clock[0])
    assert watch.news() == []
    now[1] = _node("2", alive=False)
    assert watch.news() == []
    assert looks == [1], "Tune asks all the time; Ray is not"
    clock[0] += INTERVAL
    (lost,) = watch.news()
    assert lost.startswith("node 10.0.0.2 (2) is lost; trainings on it start again")
    clock[0] += INTERVAL
    assert watch.news() == []
    now.append({**_node("2"), "NodeID": "id-other"})
    clock[0] += INTERVAL
    assert watch.news() == ["node 10.0.0.2 (2) has joined"]
