"Run the commands as a user does, and know where real photos are."
import os, subprocess, sys
from pathlib import Path

PETLOST = Path(sys.executable).parent / 'petlost'
PLAIN = ['setpriv', '--bounding-set=-all', '--inh-caps=-all'] if os.getuid() == 0 else [] # a command as somebody who may not write everywhere, as root may
PHOTOS = Path(os.environ.get('PETLOST_PHOTOS') or Path(__file__).parents[2] / 'shared' / 'photos') # not part of the repository

def petlost(*args, **kwargs):
    "Run a command to its end."
    return subprocess.run([PETLOST, *map(str, args)], capture_output=True, encoding='utf-8', timeout=300, **kwargs)

def said(done):
    "Its lines on standard error, without the progress bars."
    return [line for line in done.stderr.splitlines() if line and not ('photo/s' in line or 's/photo' in line or '?photo' in line)]
