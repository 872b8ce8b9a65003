#!/usr/bin/python3
# Opens COUNT connections to ADDRESS PORT, tries others for those that do not come about, says how many those were, and keeps the rest until its
# standard input ends.
import resource
import socket
import sys

address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
held, failed = [], []
while len(held) < count:
    connection = socket.socket()
    connection.settimeout(0.2)
    try:
        connection.connect((address, port))
        held.append(connection)
    except OSError as error:
        failed.append(connection)  # kept, so that its port is not tried again
        if len(failed) > count:
            raise SystemExit(f"{len(failed)} connections failed, the last one: {error}") from error
print(len(failed), flush=True)
sys.stdin.read()
