"""The web dashboard: server-rendered pages over what is in Redis. It needs the extra ``dashboard``.

One module per page in :mod:`taskq.dashboard.pages`; what they read is in :mod:`taskq.dashboard.read`, bounded and
without disturbing workers. :func:`taskq.dashboard.asgi.app` puts it together.
"""
