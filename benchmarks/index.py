"""What a catalogue costs and finds as it grows: `make bench-index`, or
`python benchmarks/index.py [--count 10000 100000 1000000] [--vectors FILE.npz] [--keep FOLDER] [--only PHASE ...]`.

Pets are drawn as clusters, in which each direction counts a little less than the one before; with `--vectors`, a file of `petlost embed`, they are
real photos moved by the difference of two others. A report has two photos of one pet, seen on one of a hundred days by chance; its species and its
place follow its looks: pets along the equator are in the order of the direction in which they differ most, dogs west of cats. So a filter by day lets
random rows pass, and one by species or by a far place only rows unlike the query. A query is one more photo.

Each phase is a process of its own: *build* adds what is missing and makes the catalogue fast, *open* opens it and searches, *search* compares with an
exact scan of the same vectors, by FAISS in float16 and in memory, the two in turns, and *change* adds and removes reports while a reader looks on. The
true neighbours come from the stored vectors, block by block. Search times are processor time of one core. Catalogues under `--keep` are used again."""
import argparse, json, os, resource, sqlite3, tempfile, time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from datetime import date, timedelta
from multiprocessing import get_context
from pathlib import Path
import faiss
import numpy as np
from petlost.facts import Report, haversine_km
from petlost.first_stage import search_index
from petlost.index import Catalogue, PhotoRow
from turns import Took, keep_figures, versions

DIM, PHOTOS, K, STEP = 2944, 2, 10, 2000 # numbers in a vector, photos in a report, reports asked for, photos added at once
DAY, DEGREE = date(2026, 1, 1), haversine_km(0, 0, 0, 1.) # the first day anything was seen; km of a degree on the equator
PHASES = 'build', 'open', 'search', 'change'
EXACT = 'an exact scan by FAISS, in memory' # beside which searches are shown

def unit(x): return x / np.linalg.norm(x, axis=1, keepdims=True)

# --- what is searched

class Pets:
    "Pets to photograph: real photos, or drawn ones."
    def __init__(self, file: Path|None):
        self.real = np.load(file)['vectors'].astype('f4') if file else None
        self.decay = np.arange(1, DIM + 1, dtype='f4') ** -.6
        self.pets = np.random.default_rng(1).standard_normal((2000, DIM), dtype='f4') if self.real is None else self.real
        seen = self.pets * self.decay if self.real is None else self.real
        far = seen - seen.mean(axis=0)
        self.looks = np.linalg.eigh(far @ far.T)[1][:, -1].argsort().argsort() / len(seen) # 0 to 1, along the direction in which they differ most

    def photos(self, pets: np.ndarray, rng) -> np.ndarray: # float32 [n, DIM], unit rows
        "A photo of each of these pets."
        if self.real is None: return unit((self.pets[pets] + .8 * rng.standard_normal((len(pets), DIM), dtype='f4')) * self.decay)
        j, k = rng.integers(len(self.real), size=(2, len(pets)))
        return unit(self.real[pets] + rng.uniform(.2, .6, (len(pets), 1)).astype('f4') * (self.real[j] - self.real[k]))

    def report(self, id: str, pet: int, rng) -> Report:
        "A report of this pet: species and place by its looks, the day by chance."
        return Report(id, 'dog' if self.looks[pet] < .5 else 'cat', ('lost', 'found')[rng.integers(2)], rng.uniform(-.05, .05),
                      100 * (self.looks[pet] + rng.random() / len(self.looks)), f'{DAY + timedelta(int(rng.integers(100)))}T12:00:00Z')

    def queries(self, n: int, seed: int=2) -> tuple[np.ndarray, np.ndarray]: # float32 [n, DIM]; looks [n]
        "Photos to search with."
        rng = np.random.default_rng(seed)
        pets = rng.integers(len(self.pets), size=n)
        return self.photos(pets, rng), self.looks[pets]

def filters(looks: float) -> dict[str, dict]: # by name, as `Catalogue.search` takes them, for a query of these looks
    day = lambda n: dict(since=f'{DAY}', until=f'{DAY + timedelta(n - 1)}')
    far = lambda share: dict(near=(0., 100 * (1 - share / 2 if looks < .5 else share / 2)), within_km=50 * share * DEGREE)
    kinds = ('dog', 'cat') if looks < .5 else ('cat', 'dog')
    return {'none': {}, 'day, 50 %': day(50), 'day, 10 %': day(10), 'day, 1 %': day(1), 'own species': dict(species=kinds[0]), 'other species': dict(species=kinds[1]),
            'unlike, 10 %': far(.1), 'unlike, 1 %': far(.01)}

class Facts:
    "What the database says of every photo, read without petlost."
    def __init__(self, folder: Path):
        with closing(sqlite3.connect(folder / 'catalogue.db')) as db:
            rows = db.execute('SELECT id, species, lat, lon, seen_at FROM photos JOIN reports ON reports.num = report ORDER BY photos.num')
            facts = np.fromiter(rows, np.dtype([('id', 'U12'), ('species', 'U3'), ('lat', 'f8'), ('lon', 'f8'), ('day', 'U10')]))
        self.id, self.species, self.lat, self.lon, self.day = (facts[name] for name in facts.dtype.names)

    def passing(self, species=None, near=None, within_km=None, since=None, until=None) -> np.ndarray: # bool [photos]
        ok = np.ones(len(self.id), bool)
        if species: ok &= self.species == species
        if near: ok &= haversine_km(*near, self.lat, self.lon) <= within_km
        if since: ok &= (self.day >= since) & (self.day <= until)
        return ok

def stored(folder: Path): # float16 [n, DIM] at a time
    "The vectors as the database has them, in their order."
    with closing(sqlite3.connect(folder / 'catalogue.db')) as db:
        rows = db.execute('SELECT vector FROM vectors ORDER BY photo')
        while some := rows.fetchmany(8192): yield np.frombuffer(b''.join(v for v, in some), '<f2').reshape(len(some), DIM)

# --- the exact answer

class Exact:
    "An exact scan, in parts of no more than so many rows: one large array would be held twice while it grows."
    def __init__(self, part: int=2**17): self.part, self.parts = part, []

    def add(self, x: np.ndarray):
        if not self.parts or self.parts[-1].ntotal >= self.part: self.parts.append(faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT))
        self.parts[-1].add_sa_codes(np.ascontiguousarray(x).view(np.uint8))

    def bitmaps(self, passing: np.ndarray) -> list: # for each part, None where all pass
        ends = np.cumsum([part.ntotal for part in self.parts])[:-1]
        return [None if some.all() else np.packbits(some, bitorder='little') for some in np.split(passing, ends)]

    def search(self, query: np.ndarray, m: int, bitmaps: list) -> np.ndarray: # float [m], best first
        asked = [None if bits is None else faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits)) for bits in bitmaps]
        return np.sort(np.concatenate([search_index(part, query[None], m, one)[0][0] for part, one in zip(self.parts, asked)]))[::-1][:m]

def truth(folder: Path, facts: Facts, queries: np.ndarray, asked: list[dict], exact: Exact) -> list[list[str]]: # the best reports for each query, under the filters it asks for
    "Fill the exact scan and find the true neighbours on the way: no more than a block is held beside it."
    groups = {json.dumps(f): np.array([i for i, other in enumerate(asked) if other == f]) for f in asked}
    masks = {key: facts.passing(**json.loads(key)) for key in groups}
    best, where, first = np.full((len(asked), K * PHOTOS), -np.inf, 'f4'), np.full((len(asked), K * PHOTOS), -1), 0
    for x in stored(folder):
        exact.add(x)
        cosines = queries @ x.astype('f4').T
        for key, mine in groups.items():
            rows = np.flatnonzero(masks[key][first:first + len(x)])
            both = np.hstack([best[mine], cosines[mine % len(queries)][:, rows]]), np.hstack([where[mine], np.broadcast_to(first + rows, (len(mine), len(rows)))])
            top = np.argsort(-both[0], axis=1)[:, :K * PHOTOS] if len(rows) else slice(None)
            if len(rows): best[mine], where[mine] = (np.take_along_axis(b, top, axis=1) for b in both)
        first += len(x)
    return [list(dict.fromkeys(facts.id[row[row >= 0]].tolist()))[:K] for row in where]

# --- the phases

def build(folder: Path, count: int, pets: Pets) -> dict:
    "Add what is missing, make it fast; figures of a catalogue that is there already are those of its making."
    file, facts = folder.parent / f'{folder.name}.json', dict(added=0., fast=0., peak=0.)
    if file.exists(): facts = json.loads(file.read_text())
    there = (folder / 'catalogue.db').exists()
    cat = Catalogue.open(folder, write=True) if there else Catalogue.create(folder, dict(name='bench', id='0123456789abcdef', dim=DIM, calibration=None))
    for first in range(cat.count()['photos'], count, STEP):
        rng = np.random.default_rng([0, first])
        some = rng.integers(len(pets.pets), size=STEP // PHOTOS)
        reports = [pets.report(f'r{first // PHOTOS + i}', pet, rng) for i, pet in enumerate(some)]
        v = pets.photos(np.repeat(some, PHOTOS), rng)
        photos = [PhotoRow(reports[i // PHOTOS].id, f'{i % PHOTOS}.jpg', str(first + i), v[i]) for i in range(STEP)]
        start = time.process_time()
        cat.add(reports, photos)
        facts['added'] += time.process_time() - start
        file.write_text(json.dumps(facts))
    when = lambda: (folder / 'catalogue.fast').stat().st_mtime_ns if (folder / 'catalogue.fast').exists() else None
    before, start = when(), time.process_time()
    cat.close()
    if when() != before: facts |= dict(fast=time.process_time() - start, peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
    file.write_text(json.dumps(facts))
    return facts

def held(process: int|str='self') -> float: # MB
    "What a process holds in memory, its share of shared pages with it."
    return int(next(line for line in Path(f'/proc/{process}/smaps_rollup').read_text().splitlines() if line.startswith('Pss:')).split()[1]) / 1e3

def opened(folder: Path, queries: np.ndarray, looks: np.ndarray) -> dict:
    before, wall, start = held(), time.perf_counter(), time.process_time()
    cat = Catalogue.open(folder)
    cat.search(queries[0])
    facts = dict(wall=time.perf_counter() - wall, cpu=time.process_time() - start)
    for q, look in zip(queries[:20], looks):
        for f in filters(look).values(): cat.search(q, K, **f)
    size = lambda pattern: sum(p.stat().st_size for p in folder.glob(pattern)) / 1e6
    return facts | dict(memory=held() - before, search=cat.describe()['search'], database=size('catalogue.db*'), copy=size('catalogue.fast'))

def milliseconds(work):
    start = time.thread_time()
    found = work()
    return 1e3 * (time.thread_time() - start), found

def known(folder: Path, facts: Facts, queries: np.ndarray, asked: list[dict], exact: Exact) -> list[list[str]]:
    "The truth, from its file if that is about these queries."
    file = folder.parent / f'{folder.name}.truth.json'
    key = [float(queries.sum()), asked, len(facts.id)]
    if file.exists() and (kept := json.loads(file.read_text()))['key'] == json.loads(json.dumps(key)):
        for x in stored(folder): exact.add(x)
        return kept['reports']
    reports = truth(folder, facts, queries, asked, exact)
    file.write_text(json.dumps(dict(key=key, reports=reports)))
    return reports

def searched(folder: Path, queries: np.ndarray, looks: np.ndarray) -> dict:
    "Cost and recall under each filter, beside the exact scan."
    faiss.omp_set_num_threads(1)
    facts, exact, names = Facts(folder), Exact(), list(filters(0))
    asked = [filters(look)[name] for name in names for look in looks]
    true, every, rows = known(folder, facts, queries, asked, exact), max(1, len(facts.id) // 50_000), []
    with Catalogue.open(folder) as cat:
        for q in queries[:5]: cat.search(q, K)
        for number, name in enumerate(names):
            ours, theirs, recall, ready = [], [], [], {}
            for i, q in enumerate(queries):
                f = asked[number * len(queries) + i]
                if (key := json.dumps(f)) not in ready:
                    ready[key] = passing, _ = (passing := facts.passing(**f)), exact.bitmaps(passing)
                    assert cat.count(**f)['photos'] == passing.sum(), f'{f}: petlost lets {cat.count(**f)} pass'
                took, hits = milliseconds(lambda: cat.search(q, K, **f))
                ours.append(took)
                if i % every == 0: theirs.append((milliseconds(lambda: exact.search(q, K * PHOTOS, ready[key][1]))[0], took))
                best = true[number * len(queries) + i]
                recall.append(np.mean([report in {hit.report for hit in hits} for report in best]))
            scan = np.array(theirs)
            took, beside = Took(ours), Took(scan[:, 0].tolist())
            rows.append(dict(filter=name, share=float(np.mean([mask.mean() for mask, _ in ready.values()])), p50=float(np.percentile(ours, 50)), p99=float(np.percentile(ours, 99)),
                             recall=float(np.mean(recall)), least=float(np.min(recall)), exact=float(beside), ends=[[took.low, took.high], [beside.low, beside.high]], times=float(np.median(scan[:, 0] / scan[:, 1]))))
            print(rows[-1], flush=True)
        return dict(rows=rows) | speeds(cat, queries)

def speeds(cat: Catalogue, queries: np.ndarray) -> dict: # GB/s
    "How fast a search of the first stage reads its projection, its centres and the codes in the lists it opens (or all vectors, where it is exact), beside a plain pass over memory."
    x, stage = np.ones(2**27, 'i8'), cat._galleries[1].stage
    plain = max(x.nbytes / milliseconds(x.max)[0] for _ in range(5)) / 1e6
    del x
    if stage is None: scanned, took = 2 * DIM * cat.count()['photos'] * len(queries), sum(milliseconds(lambda: cat.search(q, K))[0] for q in queries)
    else:
        faiss.cvar.indexIVF_stats.reset()
        took = sum(milliseconds(lambda: stage.candidates(q[None]))[0] for q in queries)
        short, lists = stage.lists.d, stage.lists.nlist
        scanned = faiss.cvar.indexIVF_stats.ndis * stage.lists.code_size + len(queries) * 4 * short * (DIM + lists)
    return dict(plain=plain, scanning=scanned / took / 1e6, scanned=scanned / len(queries) / 1e6)

def changed(folder: Path, queries: np.ndarray) -> dict: # ms
    "How much longer the next search of a reader takes, when one report was added or removed."
    with Catalogue.open(folder, write=True) as writer, Catalogue.open(folder) as reader:
        for q in queries[:3]: reader.search(q); writer.search(q)
        def seen(present):
            took, hits = milliseconds(lambda: reader.search(q, 1))
            again, _ = milliseconds(lambda: reader.search(q, 1))
            assert (hits[0].report == report) == present, f'{report} is {"not " if present else ""}found'
            return took - again
        add, remove = [], []
        for i, q in enumerate(queries[:20]):
            report = f'new{i}'
            writer.add([Report(report)], [PhotoRow(report, 'a.jpg', report, q)])
            add.append(seen(True))
            writer.remove(report)
            remove.append(seen(False))
    return dict(add=float(np.median(add)), remove=float(np.median(remove)))

# --- the report

def tables(found: dict[int, dict]) -> str: # Markdown
    shown = lambda facts, name, digits: f'{facts[name]:,.{digits}f}' if name in facts else ''
    columns = [('added, CPU s', 'added', 0), ('made fast, CPU s', 'fast', 0), ('peak, MB', 'peak', 0), ('database, MB', 'database', 0), ('fast copy, MB', 'copy', 0), ('opened and searched, s', 'wall', 2),
               ('CPU s', 'cpu', 2), ('memory, MB', 'memory', 0), ('an addition seen, ms', 'add', 1), ('a removal seen, ms', 'remove', 1), ('first stage reads, MB', 'scanned', 1),
               ('at GB/s', 'scanning', 1), ('memory read, GB/s', 'plain', 1)]
    lines = ['| photos | ' + ' | '.join(title for title, *_ in columns) + ' |', '|---' * (len(columns) + 1) + '|']
    lines += [f'| {count:,} | ' + ' | '.join(shown(facts, *rest) for _, *rest in columns) + ' |' for count, facts in found.items()]
    lines += ['', '| photos | filter | pass | p50, ms | p99, ms | recall@10 | of the worst query | exact scan, ms | times ours |', '|---' * 9 + '|']
    for count, facts in found.items():
        lines += [f'| {count:,} | {r["filter"]} | {r["share"]:.1%} | {r["p50"]:.1f} | {r["p99"]:.1f} | {r["recall"]:.4f} | {r["least"]:.1f} | {r["exact"]:.1f} | {r["times"]:.1f} |' for r in facts.get('rows', [])]
    return '\n'.join(lines)

def alone(phase, *args) -> dict:
    "The phase in a fresh process, so that nothing of an earlier one counts; its matrix products take one core."
    os.environ['OPENBLAS_NUM_THREADS'] = '1'
    with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as one: return one.submit(phase, *args).result()

def main(counts: list[int], file: Path|None, keep: Path, only: list[str]):
    pets = Pets(file)
    queries, looks = pets.queries(200)
    found = {}
    for count in counts:
        folder, making = keep / str(count), keep / f'{count}.json'
        facts = found[count] = json.loads(making.read_text()) if making.exists() else {}
        keep.mkdir(parents=True, exist_ok=True)
        work = dict(build=(build, folder, count, pets), open=(opened, folder, queries, looks), search=(searched, folder, queries, looks), change=(changed, folder, queries))
        for phase in only:
            start = time.perf_counter()
            facts |= alone(*work[phase])
            print(f'{count:,} photos, {phase}: {time.perf_counter() - start:.0f} s', {k: v for k, v in facts.items() if k != 'rows'}, flush=True)
    for count, facts in found.items():
        for r in facts.get('rows', []):
            mine, scan = (Took([low, x, high]) for x, (low, high) in zip((r['p50'], r['exact']), r['ends']))
            keep_figures(f'a search among {count:,} photos, filter: {r["filter"]} ({r["share"]:.0%} pass)', 'ms of one core', {f'petlost, recall {r["recall"]:.3f}': mine, EXACT: scan}, {EXACT: versions('faiss-cpu')})
    print('\n' + tables(found))

if __name__ == '__main__':
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument('--count', type=int, nargs='+', default=[10_000, 100_000], help=f'photos, multiples of {STEP:,}')
    asked.add_argument('--vectors', type=Path, help='a file of `petlost embed`, to make them from')
    asked.add_argument('--keep', type=Path, help='keep catalogues and true neighbours here, and use those that are there')
    asked.add_argument('--only', nargs='+', choices=PHASES, default=list(PHASES), help='phases to run')
    told = asked.parse_args()
    if told.keep: main(told.count, told.vectors, told.keep, told.only)
    else:
        with tempfile.TemporaryDirectory() as temp: main(told.count, told.vectors, Path(temp), told.only)
