"""A catalogue under attack: killed writers, full disks, damaged files, two writers, readers while it is written, and a model to compare with."""
import os, random, shutil, signal, sqlite3, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from petlost.facts import Report
from petlost.index import Catalogue, CatalogueError, PhotoRow

sys.path.insert(0, str(Path(__file__).parent))
from catalogue_model import Against, brute, masks
from catalogue_rows import MODEL, Low, mask, photo, vector
from running import PLAIN

def python(code, *args, plain=False, **kw):
    "Start `code` in a process of its own; `plain`: as somebody who may not write everywhere."
    helpers = f'import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom catalogue_rows import *\n'
    return subprocess.Popen([*PLAIN * plain, sys.executable, '-c', helpers + code, *map(str, args)], stdout=subprocess.PIPE, text=True, **kw)

# --- killed writers

WRITER = '''
import random
folder, seed = sys.argv[1], int(sys.argv[2])
rng = random.Random(seed)
while True:
    with Low.open(folder, write=True) as cat:
        for step in range(rng.randint(1, 12)):
            report, what = f'r{rng.randint(0, 30)}', rng.random()
            if what < .3:
                print('start remove', report, flush=True)
                cat.remove(report)
            elif what < .4:
                print('start compact', flush=True)
                cat.compact()
            elif what < .5:
                print('start snapshot', name := f'{folder}-{seed}-{rng.randint(0, 10**9)}', flush=True)
                cat.snapshot(name)
            else:
                keys = [rng.randint(0, 10**9) for _ in range(rng.randint(1, 5))]
                print('start add', report, *keys, flush=True)
                cat.add([Report(report)], [photo(report, key) for key in keys])
            print('done', flush=True)
'''

def replay(state, lines):
    "Apply what a writer confirmed to `state`, a set of (report, key): the states with and without the last step, if it was not confirmed; and the state in each snapshot."
    after, pending, snapshots = set(state), set(state), {}
    for line in lines:
        word, *rest = line.split()
        if word == 'done': after = pending
        elif rest[0] == 'remove': pending = {row for row in after if row[0] != rest[1]}
        elif rest[0] == 'add': pending = after | {(rest[1], key) for key in rest[2:]}
        elif rest[0] == 'snapshot': snapshots[Path(rest[1])] = set(after)
    return (after, pending), snapshots

def check_snapshots(snapshots):
    "What is there is whole; how many there are."
    there = {folder: state for folder, state in snapshots.items() if folder.exists()}
    for folder, state in there.items():
        with Low.open(folder) as cat: assert cat.keys() == state and len(cat.search(vector(1), k=100)) == len({report for report, _ in state})
    for folder in snapshots: shutil.rmtree(folder, ignore_errors=True); shutil.rmtree(f'{folder}.part', ignore_errors=True)
    return len(there)

KILLS = 100

def test_kill_9_loses_nothing_that_was_confirmed(tmp_path):
    Low.create(tmp_path / 'c', MODEL).close()
    state, rng, confirmed, copies = set(), random.Random(4), 0, 0
    for round in range(KILLS):
        writer = python(WRITER, tmp_path / 'c', round)
        lines = [writer.stdout.readline()]
        time.sleep(rng.random() * .25)
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.read().splitlines()
        writer.wait()
        whole = [line for line in lines if line.strip()]
        confirmed += whole.count('done')
        states, snapshots = replay(state, whole)
        copies += check_snapshots(snapshots)
        with Low.open(tmp_path / 'c') as cat:
            assert cat.keys() in states
            state = cat.keys()
            assert masks(cat) == {key: mask(key) for _, key in state}, 'a mask is as safe as its photo'
            query = vector(round)[None]
            assert [h.report for h in cat.search(query, k=50)] == brute(state, query, 50)
    print(f'{KILLS} kills, {confirmed} confirmed steps, {copies} whole snapshots')
    assert confirmed > KILLS and copies, 'the kills fell into work'

# --- a model to compare with

class AgainstLow(Against): kind = Low

for machine in (Against, AgainstLow):
    machine.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None, derandomize=True, database=None,
                                         suppress_health_check=list(HealthCheck))
TestAgainstModel, TestTwoStagesAgainstModel = Against.TestCase, AgainstLow.TestCase

# --- full disks

def test_database_full_keeps_what_was_confirmed(tmp_path):
    with Catalogue.create(tmp_path / 'c', MODEL) as cat:
        cat._db.execute('PRAGMA max_page_count = 120')
        added = 0
        with pytest.raises(CatalogueError, match='cannot write the catalogue: database or disk is full'):
            for added in range(10_000): cat.add([Report(f'r{added}')], [photo(f'r{added}', added, bytes(3000)), photo(f'r{added}', 10**6 + added)])
        assert added > 10 and cat.count() == dict(reports=added, photos=2 * added)
        assert len(cat.search(vector(1), k=10_000)) == added
    with Catalogue.open(tmp_path / 'c', write=True) as cat:
        assert cat.add([Report('later')], [photo('later', 5)]) == 1, 'space again, and it goes on'

def test_no_room_for_the_fast_copy_is_no_fault(tmp_path):
    code = '''
import resource
Catalogue.exact_bytes = 100_000
cat = Catalogue.create(sys.argv[1], MODEL | dict(dim=4096))
cat.add([Report(f'r{i}') for i in range(50)], [PhotoRow(f'r{i}', 'a.jpg', 'k', np.random.randn(4096)) for i in range(50)])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
cat.close()
print('closed')
'''
    assert python(code, tmp_path / 'c').communicate()[0].strip() == 'closed'
    assert not list((tmp_path / 'c').glob('catalogue.fast*')) and not list((tmp_path / 'c').glob('catalogue.new*'))
    with Catalogue.open(tmp_path / 'c') as cat: assert len(cat.search(np.ones(4096), k=100)) == 50

# --- several processes

def test_one_writer_at_a_time_and_a_dead_one_does_not_count(tmp_path):
    Catalogue.create(tmp_path / 'c', MODEL).close()
    other = python("cat = Catalogue.open(sys.argv[1], write=True); print('in', flush=True); sys.stdin.read()", tmp_path / 'c', stdin=subprocess.PIPE)
    assert other.stdout.readline() == 'in\n'
    with pytest.raises(CatalogueError, match='another process is writing'): Catalogue.open(tmp_path / 'c', write=True)
    other.kill(); other.communicate()
    with Catalogue.open(tmp_path / 'c', write=True) as cat:
        with pytest.raises(CatalogueError, match='another process is writing'): Catalogue.open(tmp_path / 'c', write=True)
        assert cat.add([Report('r')], [photo('r', 1)]) == 1

def test_readers_see_whole_transactions_while_it_is_written(tmp_path):
    code = '''
with Catalogue.open(sys.argv[1], write=True) as cat:
    for i in range(60):
        cat.add([Report(f'r{i}')], [photo(f'r{i}', 3 * i + j) for j in range(3)])
        if i % 5 == 4: cat.remove(f'r{i - 2}')
'''
    Catalogue.create(tmp_path / 'c', MODEL).close()
    with Catalogue.open(tmp_path / 'c') as cat:
        writer, seen = python(code, tmp_path / 'c'), set()
        while writer.poll() is None:
            hits = cat.search(vector(9), k=100)
            seen.add(len(hits))
            assert all(len(h.photos) == 3 for h in hits)
        assert writer.returncode == 0 and len(cat.search(vector(9), k=100)) == 48
    assert len(seen) > 3, 'the reader saw it grow'

def test_a_folder_that_may_not_be_written(tmp_path):
    code = '''
with Catalogue.open(sys.argv[1]) as cat: print(cat.search(vector(3), k=1)[0].report)
try: Catalogue.open(sys.argv[1], write=True)
except CatalogueError as e: print(str(e).rpartition(': ')[2])
'''
    try:
        with Catalogue.create(tmp_path / 'c', MODEL) as cat: cat.add([Report(f'r{i}') for i in range(9)], [photo(f'r{i}', i) for i in range(9)])
        for file in (tmp_path / 'c').iterdir(): file.chmod(0o444)
        (tmp_path / 'c').chmod(0o555)
        assert python(code, tmp_path / 'c', plain=True).communicate()[0].splitlines() == ['r3', 'the folder is read-only']
    finally: (tmp_path / 'c').chmod(0o755)

def test_a_killed_writers_log_in_a_folder_that_may_not_be_written(tmp_path):
    code = '''
import os, signal
cat = Catalogue.create(sys.argv[1], MODEL)
cat.add([Report('r')], [photo('r', 1)])
os.kill(os.getpid(), signal.SIGKILL)
'''
    reader = '''
try: Catalogue.open(sys.argv[1])
except CatalogueError as e: print(str(e).rpartition(': ')[2])
'''
    try:
        python(code, tmp_path / 'c').communicate()
        (tmp_path / 'c' / 'catalogue.db-shm').unlink()
        (tmp_path / 'c').chmod(0o555)
        assert python(reader, tmp_path / 'c', plain=True).communicate()[0].startswith('its last writer was killed')
        (tmp_path / 'c').chmod(0o755)
        with Catalogue.open(tmp_path / 'c', write=True) as cat: assert cat.count() == dict(reports=1, photos=1)
    finally: (tmp_path / 'c').chmod(0o755)

def test_threads_share_a_catalogue(tmp_path):
    with Catalogue.create(tmp_path / 'c', MODEL) as cat, ThreadPoolExecutor(4) as pool:
        def step(i):
            cat.add([Report(f'r{i}')], [photo(f'r{i}', i)])
            return cat.search(vector(i), k=1)[0].report
        assert list(pool.map(step, range(80))) == [f'r{i}' for i in range(80)]

def test_removed_bytes_leave_the_folder(tmp_path):
    secret = bytes(range(256)) * 8
    with Catalogue.create(tmp_path / 'c', MODEL) as cat:
        cat.add([Report(f'r{i}') for i in range(3)], [PhotoRow(f'r{i}', 'a.jpg', 'k', vector(i), secret if i == 1 else b'') for i in range(3)])
        kept = (vector(1) / np.linalg.norm(vector(1))).astype(np.float32).astype(np.float16).tobytes()
    assert all(any(needle in file.read_bytes() for file in (tmp_path / 'c').iterdir()) for needle in (secret, kept))
    with Catalogue.open(tmp_path / 'c', write=True) as cat: cat.remove('r1')
    assert not any(needle in file.read_bytes() for file in (tmp_path / 'c').iterdir() for needle in (secret[:256], kept))

def test_a_mask_stays_as_long_as_a_report_shows_its_photo(tmp_path):
    rng, looks = random.Random(3), [bytes([i + 1, *range(31)]) for i in range(3)]
    with Catalogue.create(tmp_path / 'c', MODEL) as cat:
        for step in range(400):
            report, key = f'r{rng.randint(0, 3)}', str(rng.randint(0, 7))
            if rng.random() < .2: cat.remove(report)
            else: cat.add([Report(report)], [PhotoRow(report, f'{rng.randint(0, 4)}.jpg', key, vector(key), hash=rng.choice([b'', *looks]), mask=mask(key), segmenter='s1')])
            assert masks(cat) == {key: mask(key) for _, key in cat.keys()}
            assert cat.mask(key, 's1') in (None, mask(key)) and cat.mask(key, 's2') is None

def test_a_removed_mask_leaves_the_folder(tmp_path):
    secret = bytes(range(256)) * 8
    def row(report, key): return PhotoRow(report, 'a.jpg', key, vector(1), mask=secret, segmenter='s1')
    def found(): return any(secret[:256] in file.read_bytes() for file in (tmp_path / 'c').iterdir())
    with Catalogue.create(tmp_path / 'c', MODEL) as cat: cat.add([Report('r1'), Report('r2')], [row('r1', 'shared'), row('r2', 'shared')])
    assert found()
    with Catalogue.open(tmp_path / 'c', write=True) as cat: cat.remove('r1')
    assert found(), 'r2 shows the same photo'
    with Catalogue.open(tmp_path / 'c', write=True) as cat: cat.remove('r2')
    assert not found()

def test_damaged_database_is_one_line(tmp_path):
    with Catalogue.create(tmp_path / 'c', MODEL) as cat: cat.add([Report('r')], [photo('r', 1)])
    file = tmp_path / 'c' / 'catalogue.db'
    with sqlite3.connect(file) as db: db.execute('UPDATE vectors SET vector = x\'0011\'')
    with Catalogue.open(tmp_path / 'c') as cat, pytest.raises(CatalogueError, match='damaged: a vector has the wrong length'): cat.search(vector(1))
    data = bytearray(file.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    file.write_bytes(data)
    with pytest.raises(CatalogueError) as e:
        with Catalogue.open(tmp_path / 'c') as cat: cat.search(vector(1))
    assert '\n' not in str(e.value) and str(tmp_path) in str(e.value)
