"Damaged photos, thousands of them: `pytest tests/test_fuzz.py --fuzz 100000` for more."
import random, re, subprocess, sys
from pathlib import Path
from running import PHOTOS

def test_damaged_photos_become_pictures_or_reasons(pytestconfig):
    count, workers = pytestconfig.getoption('fuzz'), 2
    first = 0 if count == 6000 else random.randrange(10**6)
    odd = PHOTOS / 'odd'
    command = [sys.executable, Path(__file__).with_name('fuzz_photos.py'), str(count // workers)]
    running = [subprocess.Popen([*command, str(first + i), *([odd] if odd.is_dir() else [])], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding='utf-8')
               for i in range(workers)]
    for i, worker in enumerate(running):
        said = worker.communicate()[0]
        found = re.search(r'(\d+) files from \d+ photos: (\d+) pictures, (\d+) refused', said)
        assert worker.returncode == 0 and found, f'seed {first + i}:\n{said[-3000:]}'
        tried, pictures, refused = map(int, found.groups())
        assert tried >= count // workers * .95 and min(pictures, refused) > tried / 20, 'the damage is neither harmless nor total'
