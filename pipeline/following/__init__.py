"""Serving at the depth that the load of the moment allows: `skipline serve --target-p95-ms`.

`policy` decides and knows no clock; `follower` queues and runs what it decides; `deployment` puts both behind
HTTP, by Ray Serve; `server` checks the request, measures costs and starts all of it.
"""
