"""Read by gunicorn, which looks for it in the directory that it is started in."""

# A request verifies, waits for one commit of PostgreSQL's, and is answered: threads wait well,
# and a second process uses a second core, and serves on while the first is replaced.
worker_class = "gthread"
workers = 2
threads = 8  # each may hold a connection: SQLAlchemy's pool opens at most 15 in a process

# A line for each request, to the standard output.
accesslog = "-"

# Signals control it well enough: no socket in a home directory, which a container's user lacks.
control_socket_disable = True
