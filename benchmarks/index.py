"""What a search costs and finds in a large catalogue: `make bench-index`, or
`python benchmarks/index.py [--count 100000] [--vectors FILE.npz] [--keep FOLDER]`.

The vectors are pets drawn as clusters, in which each direction counts a little less than the one before; with `--vectors`, a file of
`petlost embed`, they are real ones moved by the difference of two others. A query is one more of them. Beside the catalogue stands an exact
scan of the same vectors by FAISS, in float16 and in memory; the two take turns, and the time is processor time of one core."""
import argparse, os, tempfile, time
from pathlib import Path
import faiss
import numpy as np
from petlost.facts import Report
from petlost.first_stage import search_index
from petlost.index import Catalogue, PhotoRow

DIM, PHOTOS = 2944, 2 # numbers in a vector, photos in a report
FILTERS = {'no filter': {}, 'species': dict(species='dog'), 'species and status': dict(species='dog', status='found'), 'within 100 km': dict(near=(41.9, 12.5), within_km=100),
           'within 30 km': dict(near=(41.9, 12.5), within_km=30)}

def unit(x): return x / np.linalg.norm(x, axis=1, keepdims=True)

def maker(real: np.ndarray|None):
    "A function that makes `n` vectors, given a generator of chance."
    if real is not None:
        def moved(n, rng):
            i, j, k = rng.integers(len(real), size=(3, n))
            return unit(real[i] + rng.uniform(.2, .6, (n, 1)).astype('f4') * (real[j] - real[k]))
        return moved
    decay, pets = np.arange(1, DIM + 1, dtype='f4') ** -.6, np.random.default_rng(1).standard_normal((2000, DIM), dtype='f4')
    return lambda n, rng: unit((pets[rng.integers(len(pets), size=n)] + .8 * rng.standard_normal((n, DIM), dtype='f4')) * decay)

def filled(folder: Path, count: int, make) -> None:
    "Make the catalogue, and say what that took."
    rng, start = np.random.default_rng(0), time.process_time()
    cat = Catalogue.create(folder, dict(name='bench', id='0123456789abcdef', dim=DIM, calibration=None))
    for first in range(0, count, 2000):
        v, reports = make(2000, rng), [f'r{first // PHOTOS + i}' for i in range(2000 // PHOTOS)]
        cat.add([Report(r, ('dog', 'cat')[i % 2], ('lost', 'found')[i // 2 % 2], rng.uniform(36, 47), rng.uniform(7, 18), f'2026-01-{1 + i % 28:02d}T00:00:00Z') for i, r in enumerate(reports)],
                [PhotoRow(reports[i // PHOTOS], f'{i % PHOTOS}.jpg', str(first + i), v[i]) for i in range(2000)])
    print(f'{count:,} photos added in {time.process_time() - start:.0f} s of processor time', end=', ')
    start = time.process_time()
    cat.close()
    print(f'made fast in {time.process_time() - start:.0f} s')

def resident() -> float: return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGESIZE') / 1e6

def opened(folder: Path, query: np.ndarray) -> Catalogue:
    "Open it and search once, and say what that took."
    before, start = resident(), time.perf_counter()
    cat = Catalogue.open(folder)
    cat.search(query)
    print(f'opened and searched in {time.perf_counter() - start:.2f} s, {resident() - before:.0f} MB; {cat.describe()["search"]}')
    return cat

def milliseconds(work):
    start = time.thread_time()
    found = work()
    return 1e3 * (time.thread_time() - start), found

def searches(cat: Catalogue, queries: np.ndarray):
    "Cost and recall under each filter, beside the exact scan."
    vectors, names = cat.vectors()
    index = faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.add(vectors)
    del vectors
    for name, filters in FILTERS.items():
        with cat._reading(): passing = cat._columns.photos_of(cat._columns.allowed(**filters))
        params = None if passing.all() else faiss.SearchParameters(sel=faiss.IDSelectorBitmap(np.packbits(passing, bitorder='little')))
        ours, theirs, recall = [], [], []
        for q in queries:
            took, hits = milliseconds(lambda: cat.search(q, 10, **filters))
            other, (_, rows) = milliseconds(lambda: search_index(index, q[None], 10 * PHOTOS, params))
            ours.append(took); theirs.append(other)
            true = list(dict.fromkeys(names[i][0] for i in rows[0] if i >= 0))[:10]
            recall.append(np.mean([r in {h.report for h in hits} for r in true]))
        low, high = np.percentile(ours, [50, 99])
        print(f'{name:20}{passing.mean():6.1%} pass: p50 {low:5.1f} ms, p99 {high:5.1f} ms, recall@10 {np.mean(recall):.4f}; exact scan {np.median(theirs):6.1f} ms, {np.median(np.array(theirs) / ours):.1f} times as long')

def changes(folder: Path, queries: np.ndarray):
    "How soon a reader sees what a writer has added or removed."
    with Catalogue.open(folder, write=True) as writer, Catalogue.open(folder) as reader:
        for q in queries[:3]: reader.search(q); writer.search(q)
        def seen(present):
            took, hits = milliseconds(lambda: reader.search(q, 1))
            again, _ = milliseconds(lambda: reader.search(q, 1))
            assert (hits[0].report == report) == present
            return took - again
        added, removed = [], []
        for i, q in enumerate(queries[:20]):
            report = f'new{i}'
            writer.add([Report(report)], [PhotoRow(report, 'a.jpg', report, q)])
            added.append(seen(True))
            writer.remove(report)
            removed.append(seen(False))
    print(f'the first search after one was added takes {np.median(added):.1f} ms more than the next, after one was removed {np.median(removed):.1f} ms')

def main(count: int, file: Path|None, keep: Path|None):
    faiss.omp_set_num_threads(1)
    make = maker(np.load(file)['vectors'] if file else None)
    queries = make(200, np.random.default_rng(2))
    with tempfile.TemporaryDirectory() as temp:
        folder = keep or Path(temp) / 'catalogue'
        if not (folder / 'catalogue.db').exists(): filled(folder, count, make)
        with opened(folder, queries[0]) as cat: searches(cat, queries)
        changes(folder, queries)

if __name__ == '__main__':
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument('--count', type=int, default=100_000, help='photos; a multiple of 2,000')
    asked.add_argument('--vectors', type=Path, help='a file of `petlost embed`, to make them from')
    asked.add_argument('--keep', type=Path, help='keep the catalogue here, and use it if it is there')
    told = asked.parse_args()
    main(told.count, told.vectors, told.keep)
