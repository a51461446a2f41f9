"""The same processes on several machines: Ray places, watches and scales them; see docs/scaling.md.

- `settings`, `names`, `processes`, `gate`: what needs no Ray.
- `avatar_worker`: the Serve deployment; a replica owns one engine and its media workers.
- `node_agent`: one actor a node; it owns the node's front and is the door to the node's replicas.
- `router`: which replica Serve gives a call to.
- `view`: the cluster as a gate sees it; `run`: the command.
"""
