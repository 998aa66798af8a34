"""Data larger than a machine's cache: shards come and go, each worker fetches those of its own part.

`shards` says what there is and fetches it, `unpacking` makes a shard readable by row, `scan` is the one pass
over all of them before a job starts, `images` reads rows and `sampler` orders them and fetches ahead.
"""
