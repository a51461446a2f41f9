"""Finds nodes' agents, by Ray's register of named actors."""

from __future__ import annotations

from typing import Any

import ray

from stream_server.cluster.names import NAMESPACE, agent_name, node_of_agent

__all__ = ["agent_is_alive", "find_agent", "nodes_with_agents"]


def find_agent(node: str) -> Any | None:
    """The agent of a node by the beginning of its id; None: the node is gone, or has none."""
    try:
        return ray.get_actor(agent_name(node), namespace=NAMESPACE)
    except ValueError:
        return None


def agent_is_alive(node: str) -> bool:
    """Whether a node has its agent."""
    return find_agent(node) is not None


def nodes_with_agents() -> list[str]:
    """Beginnings of the ids of nodes that have an agent."""
    named = ray.util.list_named_actors(all_namespaces=True)
    nodes = [node_of_agent(entry["name"]) for entry in named if entry["namespace"] == NAMESPACE]
    return [node for node in nodes if node is not None]
