"""``taskq demo``: the whole of taskq at work on real files, on a Redis of its own.

One message per Python file goes through a queue to two worker processes, which parse it and write what they count
into a table. A scheduled job sums the table up. Files that do not parse are retried, then dead lettered; one of
them is repaired and replayed. At the end the numbers must agree.

:mod:`~taskq.demo.app` is the app, written as a user would write it; :mod:`~taskq.demo.run` drives it.
"""
