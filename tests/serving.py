"A server in a process of its own, and ways to talk to it."
import json, os, re, socket, subprocess, sys, tempfile, time
from contextlib import contextmanager

import httpx

PROGRAM = 'import json, sys; from petlost.serve import serve; serve(sys.argv[1], port=0, **json.loads(sys.argv[2]))'
TOKEN = 'a-token-of-the-tests-only'
KEY = {'authorization': f'Bearer {TOKEN}'}
HTTP = httpx.Client(timeout=120, limits=httpx.Limits(max_keepalive_connections=0)) # every request on a connection of its own
HEAD = b'POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n'


@contextmanager
def serving(folder, program=PROGRAM, before=(), env=None, **options):
    "A server that is ready; gives the process, with what it has logged as `process.logged()`, and its address."
    with tempfile.TemporaryFile('w+') as log: # a pipe that nobody reads would fill and stop the server
        process = subprocess.Popen([*before, sys.executable, '-c', program, str(folder), json.dumps(options)], stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | (env or {}))
        process.logged = lambda: os.pread(log.fileno(), 2**24, 0).decode()
        try:
            url, end = process.stdout.readline().split()[-1], time.monotonic() + 60
            while (reply := HTTP.get(url + 'ping')).status_code != 200:
                assert time.monotonic() < end, reply.text
                time.sleep(.05)
            yield process, url
        finally:
            process.kill()
            process.communicate()


def connect(url, seconds=30):
    host, port = re.match(r'http://(.+):(\d+)/', url).groups()
    return socket.create_connection((host, int(port)), timeout=seconds)


def raw(url, *parts):
    "Send bytes as they are; all that comes back until the other side hangs up, or nothing more comes for a while."
    answer = b''
    with connect(url, 5) as s:
        try:
            for part in parts: s.sendall(part)
            while more := s.recv(2**16): answer += more
        except OSError: pass
    return answer
