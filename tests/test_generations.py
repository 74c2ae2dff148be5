"""Two models in one catalogue: killed while one takes over, compared with brute force, added and removed for a long time; and standing searches under the same."""
import gc, os, random, signal, subprocess, sys, time
from pathlib import Path

import numpy as np
import pytest

import petlost.watch
from petlost.calibrate import Calibration, cohort_means
from petlost.facts import Report
from petlost.index import Catalogue, PhotoRow

sys.path.insert(0, str(Path(__file__).parent))
from catalogue_rows import MODEL, Low, photo, vector

CURVES = Calibration(12, -3, -4, .1, .3), Calibration(30, 0, -8, 0, .3)
OLD, NEW = (MODEL | dict(id=id, dim=dim, calibration=curve.to_dict()) for id, dim, curve in zip('on', (16, 8), CURVES))

def newer(key):
    "The vector that the new model makes of a photo."
    return np.random.default_rng(10**9 + int(key)).standard_normal(8)

def turned(report, key): return PhotoRow(report, f'{key}.jpg', str(key), newer(key))

def python(code, *args, **kw):
    "Start `code` in a process of its own."
    helpers = f'import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom test_generations import *\n'
    return subprocess.Popen([sys.executable, '-c', helpers + code, *map(str, args)], stdout=subprocess.PIPE, text=True, **kw)

def unit(x): return x / np.linalg.norm(x, axis=-1, keepdims=True)

def brute(photos, queries):
    "Reports by the better chance of two models; `photos` has (report, key) -> is it the new one's?"
    chances = {}
    for new, (make, dim, curve) in {False: (vector, 16, CURVES[0]), True: (newer, 8, CURVES[1])}.items():
        best = {}
        for (report, key), by_new in photos.items():
            if by_new == new: best[report] = max(best.get(report, -1), float(unit(queries[new]) @ unit(make(key)).astype(np.float16).astype(float)))
        names = sorted(best, key=best.get, reverse=True)
        scores = np.array([best[name] for name in names])
        for name, chance in zip(names, curve(scores, cohort_means(scores)) if names else ()): chances[name] = max(chances.get(name, 0), chance)
    return chances

@pytest.mark.parametrize('kind', [Catalogue, Low])
def test_merged_by_chance_as_brute_force_says(tmp_path, kind):
    rng = random.Random(1)
    photos = {(f'r{i % 30}', str(i)): False for i in range(80)}
    with kind.create(tmp_path / 'c', OLD) as cat:
        cat.add([Report(f'r{i}') for i in range(30)], [photo(report, key) for report, key in photos])
        cat.new_generation(NEW)
        for step in range(25):
            if step % 5 == 4: cat.compact()
            for row in rng.sample(sorted(photos), 4):
                cat.add([], [turned(*row)])
                photos[row] = True
            if step % 4 == 3:
                gone = f'r{step}'
                cat.remove(gone)
                photos = {row: new for row, new in photos.items() if row[0] != gone}
            queries = {new: np.random.default_rng(step).standard_normal(dim) for new, dim in ((False, 16), (True, 8))}
            asked = {id: queries[new] for id, new in (('o', False), ('n', True)) if new in photos.values()}
            with kind.open(tmp_path / 'c') as reader: found = {hit.report: hit.probability for hit in reader.search(asked, 100)}
            expected = brute(photos, queries)
            assert set(found) == set(expected) and max(abs(found[name] - expected[name]) for name in found) < 2e-3
        assert [n for _, n in cat.generations()] == [list(photos.values()).count(new) for new in (False, True)]

TAKER = '''
with Low.open(sys.argv[1], write=True) as cat:
    cat.new_generation(NEW)
    known = cat.keys(of_model=True)
    for i in range(200):
        if (f'r{i % 40}', str(i)) in known: continue
        print('start', i, flush=True)
        cat.add([], [turned(f'r{i % 40}', i)])
        print('done', i, flush=True)
'''

def test_a_killed_take_over_goes_on(tmp_path):
    with Low.create(tmp_path / 'c', OLD) as cat: cat.add([Report(f'r{i}') for i in range(40)], [photo(f'r{i % 40}', i) for i in range(200)])
    rng, done, kills = random.Random(2), set(), 0
    while len(done) < 200:
        taker = python(TAKER, tmp_path / 'c')
        lines = [taker.stdout.readline() for _ in range(rng.randint(1, 80))]
        taker.send_signal(signal.SIGKILL)
        lines += taker.stdout.read().splitlines()
        taker.wait(); kills += 1
        done |= {int(line.split()[1]) for line in lines if line.startswith('done')}
        with Low.open(tmp_path / 'c') as cat:
            (_, old), (_, new) = cat.generations() if len(cat.models) == 2 else (*cat.generations(), ({}, 0))
            assert old + new == 200 and new - len(done) in (0, 1) and len(cat.keys()) == 200
            queries = {'o': vector(7), 'n': newer(7)}
            hits = cat.search({id: queries[id] for id in cat.made_by()}, 100)
            assert len(hits) == 40 and hits[0].report == 'r7'
        done |= {i for i in range(200) if len(done) + 1 == new and f'start {i}' in ''.join(lines[-1:])} # said by the disk only
    print(f'{kills} kills')
    assert kills > 1

def test_ten_thousand_adds_and_removes_leak_no_memory(tmp_path):
    def resident(): gc.collect(); return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGESIZE') / 1e6
    used = []
    with Low.create(tmp_path / 'c', OLD) as cat, Low.open(tmp_path / 'c') as reader:
        cat._db.execute('PRAGMA synchronous = OFF') # what is measured is memory
        for i in range(10_000):
            cat.add([Report(f'r{i}')], [photo(f'r{i}', i)])
            if i >= 50: cat.remove(f'r{i - 50}')
            if i % 50 == 0: cat.search(vector(i), 3); reader.search(vector(i), 3)
            if i in (2_500, 9_999): used.append(resident())
        assert reader.search(vector(9_999), 1)[0].report == 'r9999' and cat.count()['photos'] == 50
        assert len(cat._columns.owner) < 2000 and len(reader._columns.owner) < 2000, 'rows of removed photos are left out'
    assert used[1] - used[0] < 15, f'{used} MB'

# --- standing searches

WATCHER = '''
import petlost.watch
with Low.open(sys.argv[1], write=True) as cat:
    while True:
        cat.match()
        for alert in cat.due():
            print(alert.search, alert.report, flush=True)
            cat.told([alert])
'''

def test_a_killed_watch_forgets_nobody_and_tells_at_most_once_more(tmp_path):
    rng, told, expected = random.Random(3), [], set()
    with Low.create(tmp_path / 'c', OLD) as cat:
        for i in range(12): cat.stand(petlost.watch.Standing(f's{i}', least=.9, budget=1000), vector(i))
    for kill in range(15):
        with Low.open(tmp_path / 'c', write=True) as cat:
            for j in range(4):
                who = rng.randrange(12)
                cat.add([Report(f'n{kill}-{j}')], [PhotoRow(f'n{kill}-{j}', 'a.jpg', 'k', vector(who) + .01 * vector(10**6 + 10 * kill + j))])
                expected.add(f's{who} n{kill}-{j}')
        watcher = python(WATCHER, tmp_path / 'c')
        time.sleep(.6 + rng.random() * .4)
        watcher.send_signal(signal.SIGKILL)
        told += [line for line in watcher.stdout.read().splitlines() if line.count(' ') == 1]
        watcher.wait()
    with Low.open(tmp_path / 'c', write=True) as cat:
        cat.match()
        told += [f'{alert.search} {alert.report}' for alert in cat.due()]
    assert expected <= set(told) and 0 <= len(told) - len(set(told)) <= 15, 'once, and at most once more for each kill'
    assert len(set(told)) < 2 * len(expected), 'it tells of few others'
