"""`skipline doctor`: whether what a job will use can be used, and if not, what to do about it; in seconds.

`checks.py` lists what is looked at; each look is a function that returns what it saw or raises `Problem`.
"""
