"""How gunicorn serves the web process; it reads this file by itself.

One process with many threads: an open live page holds a thread for as long as it is open.
"""

import os
from pathlib import Path

_host = os.environ.get("HOST") or "127.0.0.1"
_port = os.environ.get("PORT") or "8000"
bind = f"[{_host}]:{_port}" if ":" in _host else f"{_host}:{_port}"

# One process, because one poll of the database serves every live page of a process.
workers = 1
worker_class = "gthread"
# 300 open live pages and some for everybody else. A thread is made when it is first needed.
threads = 320

# Open streams never end by themselves: after this they are cut, and the browser resumes at another process.
graceful_timeout = 5
# The worker's sign of life is a file that it touches; on a slow disk it would seem dead.
_memory = Path("/dev/shm")  # noqa: S108 - gunicorn makes its file there safely
worker_tmp_dir = str(_memory) if _memory.is_dir() and os.access(_memory, os.W_OK) else None

accesslog = None
errorlog = "-"
# gunicorn believes no forwarding header: TRUSTED_PROXIES says how many proxies to believe, and the application
# reads the headers itself.
forwarded_allow_ips = ""
# gunicorn's remote control: we end it by signals, and it would leave a socket in the home folder.
control_socket_disable = True
