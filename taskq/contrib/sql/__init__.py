"""What :mod:`taskq.contrib.sqlalchemy` and :mod:`taskq.contrib.dbapi` share: tables, statements, marks, rows, relay."""
