"""The service under load, in ratios: `make bench-serve`, or `python benchmarks/serve.py [PART ...] [--model petlost-fast] [--photos FOLDER]
[--seconds 15] [--against JSON ...] [--keep FOLDER] [--out FILE]`; the parts, in their order:

- *bound*: the service, asked as fast as it answers, beside the same model called in a loop on as many threads, with nothing around it;
- *batches*: its networks on one picture a pass and on several;
- *half*: the networks of petlost-fast in half precision (bfloat16): processor time, and how like their vectors are to those of full precision;
- *load*: searches that come by chance (Poisson arrivals, an open loop: a slow answer does not keep the next search from coming) at a half, four fifths and
  all of what the service can do, and how long `petlost.capacity` expects them to wait;
- *overload*: ten times as many searches as it can answer, for a minute: what becomes of those that are let in, of the others, and of its memory;
- *plain*: a FastAPI handler that runs the same networks in torch;
- *old*: processor time and rank-1 beside a ResNet-50 in torch and a matrix product (`petlost.cost`), on some pets of every source that are seen in two scenes;
- *ready* and *memory*: from the start of a process to its first 200, and what a replica holds, with 100,000 drawn reports.

The machine may be busy with other things, and client and service share its cores. So contestants take turns, every service in a process of its own, and
beside the time on the clock stands the processor time of that process. `--against '{"workers": 1}'` adds a service with these options of `create_app`."""
import argparse, asyncio, hashlib, io, itertools, json, subprocess, sys, tempfile, time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
import httpx
import numpy as np
import psutil
from embed import originals
from turns import keep_figures, versions
from ways import CORES

PARTS = 'bound', 'batches', 'half', 'load', 'overload', 'plain', 'old', 'ready', 'memory'
REPORTS = 100_000
LOADS = .5, .8, 1.

# --- services in processes of their own

def plain_app(folder: str):
    "What one writes in an afternoon: FastAPI, PIL, timm's transforms, the two networks of petlost-fast in torch, a matrix product."
    import socket, timm, torch, uvicorn
    from fastapi import FastAPI, Request
    from PIL import Image
    from petlost.backbone import PACKAGED, create_backbone
    from petlost.index import Catalogue
    networks = [create_backbone(PACKAGED[i])[0].eval() for i in (0, 2)]
    transforms = [timm.data.create_transform(**timm.data.resolve_model_data_config(network)) for network in networks]
    with Catalogue.open(folder) as catalogue: vectors, photos = catalogue.vectors()
    app = FastAPI()
    def search(body: bytes):
        with torch.inference_mode():
            picture = Image.open(io.BytesIO(body)).convert('RGB')
            parts = [torch.nn.functional.normalize(network(transform(picture)[None])[0], dim=0) for network, transform in zip(networks, transforms)]
        scores = vectors @ (torch.cat(parts).numpy() / 2 ** .5)
        return [dict(report=photos[i][0], score=float(scores[i])) for i in np.argsort(-scores)[:10]]
    @app.post('/invocations')
    async def invocations(request: Request):
        return await asyncio.get_running_loop().run_in_executor(None, search, await request.body())
    @app.get('/ping')
    def ping(): return {}
    listening = socket.create_server(('127.0.0.1', 0))
    print(f'http://127.0.0.1:{listening.getsockname()[1]}/', flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level='warning', access_log=False)).run(sockets=[listening])

def child(kind: str, folder: str, options: str):
    from petlost.serve import serve
    plain_app(folder) if kind == 'plain' else serve(folder, port=0, **json.loads(options))

class Service:
    "A running service."
    def __init__(self, process: subprocess.Popen, url: str, ready: float): self.process, self.url, self.ready, self.of = process, url, ready, psutil.Process(process.pid)

    def cpu(self) -> float: # seconds
        used = self.of.cpu_times()
        return used.user + used.system

    def held(self) -> tuple[float, float]: # MB: its share of what it holds, and what it holds alone
        facts = self.of.memory_full_info()
        return facts.pss / 1e6, facts.uss / 1e6

@contextmanager
def running(folder: Path, kind: str='petlost', **options) -> Iterator[Service]:
    "A service that answers /ping; `ready` is how long that took, from the start of the process."
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, __file__, '--child', kind, str(folder), json.dumps(options)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        words = process.stdout.readline().split()
        if not words: raise RuntimeError(f'{kind} {options}: the service did not start')
        with httpx.Client(timeout=60) as client:
            while client.get(words[-1] + 'ping').status_code != 200: time.sleep(.02)
        yield Service(process, words[-1], time.perf_counter() - start)
    finally:
        process.terminate()
        try: process.wait(40)
        except subprocess.TimeoutExpired: process.kill()
        process.stdout.close()

# --- asking

async def ask(client: httpx.AsyncClient, url: str, body: bytes, due: float) -> tuple[int, float]: # status; seconds since it was due
    reply = await client.post(url + 'invocations', content=body, headers={'content-type': 'image/jpeg'})
    return reply.status_code, time.perf_counter() - due

def connections() -> httpx.AsyncClient: return httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=None, max_keepalive_connections=64))

async def closed(url: str, bodies: list[bytes], clients: int, count: int) -> list[tuple[int, float]]:
    "So many clients, each of whom asks again as soon as it has its answer."
    left, answers = itertools.islice(itertools.cycle(bodies), count), []
    async with connections() as client:
        async def go():
            for body in left: answers.append(await ask(client, url, body, time.perf_counter()))
        await asyncio.gather(*[go() for _ in range(clients)])
    return answers

async def opened(url: str, bodies: list[bytes], rate: float, seconds: float, rng) -> list[tuple[int, float]]:
    "Searches that come by chance, whatever has become of those before."
    due, tasks = np.cumsum(rng.exponential(1 / rate, int(rate * seconds))), []
    async with connections() as client:
        start = time.perf_counter()
        for when, body in zip(due, itertools.cycle(bodies)):
            await asyncio.sleep(max(0, start + when - time.perf_counter()))
            tasks.append(asyncio.create_task(ask(client, url, body, start + when)))
        return await asyncio.gather(*tasks)

def percentiles(answers: list[tuple[int, float]]) -> dict: # ms, of those that were answered
    took = 1e3 * np.array([seconds for status, seconds in answers if status == 200])
    if set(status for status, _ in answers) - {200, 503}: raise RuntimeError(f'unexpected answers: {set(status for status, _ in answers)}')
    return dict(answered=len(took), refused=len(answers) - len(took), **{f'p{q}': float(np.percentile(took, q)) if len(took) else None for q in (50, 95, 99)})

# --- the parts

def catalogue_of(folder: Path, model: str) -> Path:
    "Forty drawn pets."
    from petlost.photoset import read_photos
    from petlost.sample import sample_catalogue
    from petlost.search import index_photos
    if not (folder / 'c').exists(): index_photos(read_photos(sample_catalogue(folder / 'photos', n_pets=40, photos=4)), folder / 'c', model)
    return folder / 'c'

def measured(work, cpu) -> tuple[float, float]: # seconds on the clock, and of processor time
    start, used = time.perf_counter(), cpu()
    work()
    return time.perf_counter() - start, cpu() - used

def in_turns(rounds: int, contestants: dict) -> dict[str, np.ndarray]: # name -> (work, cpu); median of both clocks
    for work, _ in contestants.values(): work()
    times = [{name: measured(*one) for name, one in contestants.items()} for _ in range(rounds)]
    return {name: np.median([t[name] for t in times], axis=0) for name in contestants}

def table(head: list[str], rows: list[list]): print('\n'.join(['| ' + ' | '.join(head) + ' |', '|---' * len(head) + '|', *('| ' + ' | '.join(map(str, row)) + ' |' for row in rows)]), '\n', flush=True)

def bound(folder: Path, model: str, bodies: list[bytes], against: list[dict], count: int, rounds: int=3) -> dict:
    "The service beside the model in it: both on decoded photos and from the photo's bytes on."
    from petlost.photo import open_photo
    from petlost.search import Searcher
    with ExitStack() as stack:
        searcher, pool = stack.enter_context(Searcher(folder)), stack.enter_context(ThreadPoolExecutor(CORES))
        pictures = [open_photo(body) for body in itertools.islice(itertools.cycle(bodies), count)]
        def all_of(work, items): list(pool.map(work, items))
        contestants = {'model alone, on decoded photos': (lambda: all_of(lambda p: searcher.model([p], searcher.segmenter([p])), pictures), time.process_time),
                       'search in the library, from bytes': (lambda: all_of(lambda b: searcher.search([open_photo(b)]), itertools.islice(itertools.cycle(bodies), count)), time.process_time)}
        for options in [{}, *against]:
            service = stack.enter_context(running(folder, **options))
            contestants[f'service {json.dumps(options) if options else ""}'.strip()] = lambda url=service.url: asyncio.run(closed(url, bodies, 4 * CORES, count)), service.cpu
        took = in_turns(rounds, contestants)
        alone = next(iter(took.values()))
        print(f'{model}, {count} searches, {CORES} cores, {rounds} rounds in turn; the service has {4 * CORES} clients')
        table(['', 'a second', 'CPU ms each', 'share of the bound', 'by CPU time'],
              [[name, f'{count / t[0]:.1f}', f'{1e3 * t[1] / count:.0f}', f'{alone[0] / t[0]:.0%}', f'{alone[1] / t[1]:.0%}'] for name, t in took.items()])
    keep_figures(f'a search by the service, {model}, {4 * CORES} clients', 'ms of processor time', {'petlost' if name == 'service' else name: took[name][1] for name in ['service', *(n for n in took if n != 'service')]}, scale=1000 / count)
    return dict(rows={name: dict(per_second=count / t[0], cpu_seconds=t[1] / count, share=alone[0] / t[0], share_cpu=alone[1] / t[1]) for name, t in took.items()})

def batches(rounds: int=5) -> dict:
    "The networks of the default model on pictures gathered into one pass, beside one picture a pass, on one core."
    from petlost.embed import load_model
    from petlost.runtime import Network
    from petlost.segment import get_segmenter
    model, found = load_model(), {}
    graphs = {part.file: (Network(model.folder / part.file).compiled, part.size) for part in model.parts if part.file}
    for name, (compiled, size) in (dict(transformer=(get_segmenter().look.network.compiled, 224)) | graphs).items():
        def run(together, request=compiled.create_infer_request(), size=size):
            x = np.zeros((together, 3, size, size), np.float32)
            for _ in range(8 // together): request.infer([x])
        found[name] = {together: float(t[1] / 8) for together, t in in_turns(rounds, {n: (lambda n=n: run(n), time.process_time) for n in (1, 4, 8)}).items()}
    table(['CPU ms a picture', 'one a pass', 'four', 'eight'], [[name, *(f'{1e3 * t:.0f}' for t in row.values())] for name, row in found.items()])
    return found

def half(bodies: list[bytes], rounds: int=5) -> dict:
    "Half precision beside full, on one core and the same pictures."
    from petlost.embed import load_model
    from petlost.photo import open_photo
    from petlost.runtime import core, to_input
    model, found, vectors = load_model('petlost-fast'), {}, []
    def unit(v): return v / np.linalg.norm(v, axis=-1, keepdims=True)
    for part in model.parts:
        pictures = [to_input(open_photo(body), part.size, part.mean, part.std)[None] for body in bodies]
        asked = {name: core().compile_model(model.folder / part.file, 'CPU', dict(INFERENCE_PRECISION_HINT=kind, INFERENCE_NUM_THREADS=1)).create_infer_request() for name, kind in (('full', 'f32'), ('half', 'bf16'))}
        vectors.append({name: unit(np.concatenate([request.infer([x])[0] for x in pictures])) for name, request in asked.items()})
        took = in_turns(rounds, {name: (lambda request=request: [request.infer([x]) for x in pictures], time.process_time) for name, request in asked.items()})
        found[part.file] = {name: float(t[1] / len(pictures)) for name, t in took.items()}
    for name, like in zip([*found, 'petlost-fast'], [(one['full'] * one['half']).sum(1) for one in vectors] + [np.mean([(one['full'] * one['half']).sum(1) for one in vectors], axis=0)]):
        found.setdefault(name, {kind: sum(one[kind] for one in found.values()) for kind in ('full', 'half')}).update(worst=float(like.min()), median=float(np.median(like)))
    table(['CPU ms a picture', 'full', 'half', 'cosine of the vectors, at worst', 'median'], [[name, f'{1e3 * one["full"]:.0f}', f'{1e3 * one["half"]:.0f}', f'{one["worst"]:.4f}', f'{one["median"]:.4f}'] for name, one in found.items()])
    return found

def load(folder: Path, model: str, bodies: list[bytes], against: list[dict], seconds: float) -> dict:
    "Open-loop loads, after the capacity has been measured with 1, 2, 4 ... clients."
    found = {}
    with ExitStack() as stack:
        services = {json.dumps(options): stack.enter_context(running(folder, **options)) for options in [{}, *against]}
        for name, service in services.items(): found[name] = dict(cores=CORES, clients={}, loads=[], alone=[s for _, s in asyncio.run(closed(service.url, bodies, 1, 40))])
        for clients in (1, CORES, 4 * CORES):
            for name, service in services.items():
                answers, used = [], service.cpu()
                took = measured(lambda: answers.extend(asyncio.run(closed(service.url, bodies, clients, int(max(20, seconds / 3 / np.mean(found[name]['alone'])))))), service.cpu)
                found[name]['clients'][clients] = dict(per_second=len(answers) / took[0], cpu_seconds=(service.cpu() - used) / len(answers))
        for share in LOADS:
            for name, service in services.items():
                rate = share * max(c['per_second'] for c in found[name]['clients'].values())
                answers = []
                took = measured(lambda: answers.extend(asyncio.run(opened(service.url, bodies, rate, seconds, np.random.default_rng(0)))), service.cpu)
                found[name]['loads'].append(dict(share=share, rate=rate, seconds=took[0], busy=took[1] / took[0] / CORES) | percentiles(answers))
    show_load(model, found, seconds)
    return found

def show_load(model: str, found: dict, seconds: float):
    "Waiting as measured, and as the load model expects it from the service time of a lone client."
    from petlost.capacity import LoadModel
    for name, one in found.items():
        expect = LoadModel.fit(one)
        closed_loop = ', '.join(f'{clients} clients {c["per_second"]:.1f} a second' for clients, c in one['clients'].items())
        print(f'{model} {name}: {closed_loop}; one alone takes {1e3 * np.mean(one["alone"]):.0f} ms; open loop, {seconds:.0f} s each')
        table(['load', 'searches a second', 'answered', '503', 'p50, ms', 'p95', 'p99', 'p99 expected', 'cores busy'],
              [[f'{r["share"]:.0%}', f'{r["rate"]:.1f}', r['answered'], r['refused'], *(f'{r[p]:.0f}' for p in ('p50', 'p95', 'p99')), f'{1e3 * expect.quantile(r["rate"], .99):.0f}', f'{r["busy"]:.0%}'] for r in one['loads']])

async def watched(service: Service, work) -> tuple[list, list[float]]: # what `work` gives; MB held, every second
    "Memory while something goes on."
    held, task = [], asyncio.ensure_future(work)
    while not task.done():
        held.append(service.of.memory_info().rss / 1e6)
        await asyncio.wait([task], timeout=1)
    return task.result(), held

def overload(folder: Path, model: str, bodies: list[bytes], seconds: float=60, times: float=10) -> dict:
    "Far too many searches, in an open loop; and one more when they are over."
    with running(folder) as service:
        answers = []
        took = measured(lambda: answers.extend(asyncio.run(closed(service.url, bodies, 4 * CORES, 80))), service.cpu)
        capacity = len(answers) / took[0]
        start = time.perf_counter()
        answers, held = asyncio.run(watched(service, opened(service.url, bodies, times * capacity, seconds, np.random.default_rng(0))))
        took = time.perf_counter() - start
        seen, refusals = percentiles(answers), [s for status, s in answers if status == 503]
        after = asyncio.run(closed(service.url, bodies, 1, 1))[0]
    found = seen | dict(capacity=capacity, offered=len(answers) / took, seconds=took, refused_p99=float(np.percentile(refusals, 99)) if refusals else None, held=held, status_after=after[0])
    print(f'{model}: {times:g} times the capacity of {capacity:.1f} searches a second, open loop, {took:.0f} s; the next search afterwards: {after[0]} in {1e3 * after[1]:.0f} ms')
    table(['came a second', 'answered a second', '503', 'p50 of the answered, ms', 'p99', 'a full line takes', 'p99 of the refused', 'memory after a quarter, MB', 'most', 'at the end'],
          [[f'{found["offered"]:.0f}', f'{seen["answered"] / took:.1f}', seen['refused'], f'{seen["p50"]:.0f}', f'{seen["p99"]:.0f}', f'{1e3 * (32 + CORES) / capacity:.0f}', f'{1e3 * (found["refused_p99"] or 0):.0f}',
            *(f'{x:.0f}' for x in (held[len(held) // 4], max(held), held[-1]))]])
    return found

def plain(folder: Path, model: str, bodies: list[bytes], count: int, rounds: int=3) -> dict:
    "The same networks behind FastAPI in torch; only petlost-fast has no part that is no torch network."
    with running(folder) as ours, running(folder, 'plain') as theirs:
        took = in_turns(rounds, {name: (lambda url=s.url: asyncio.run(closed(url, bodies, 4 * CORES, count)), s.cpu) for name, s in dict(petlost=ours, plain=theirs).items()})
    keep_figures(f'a search over HTTP, {model}', 'ms of processor time', {'petlost': took['petlost'][1], 'a plain FastAPI handler in torch': took['plain'][1]}, {'a plain FastAPI handler in torch': versions('fastapi', 'timm', 'torch')}, 1000 / count)
    (clock, cpu), (n, c) = took['plain'] / took['petlost'], took['petlost'] / count
    print(f'{model} beside a plain FastAPI handler in torch, {count} searches: {clock:.1f} times as many a second ({1 / n:.1f}), {cpu:.1f} times by CPU time ({1e3 * c:.0f} ms)\n')
    return dict(times=float(clock), times_cpu=float(cpu))

def some_pets(photos: Path|None, folder: Path, pets: int=10, each: int=3, strangers: int=0):
    "A labelled set: drawn, or of every source that has them some pets that are seen in two scenes, and so many photos of others."
    from dataclasses import replace
    from petlost.photoset import read_photos
    from petlost.sample import sample_catalogue
    if not photos: return read_photos(sample_catalogue(folder, n_pets=24, photos=4, size=(1024, 768)))
    found, by_pet = read_photos(photos), {}
    for photo in found.photos: by_pet.setdefault((photo.source, found.pet(photo)), {}).setdefault(photo.scene, []).append(photo)
    chosen, counts = [], {}
    for (source, _), scenes in sorted(by_pet.items(), key=lambda one: hash_of(one[0][1])):
        if len(scenes) < 2 or counts.get(source, 0) >= pets: continue
        counts[source] = counts.get(source, 0) + 1
        chosen += [photo for row in itertools.zip_longest(*scenes.values()) for photo in row if photo][:each]
    others = sorted((photo for scenes in by_pet.values() if sum(map(len, scenes.values())) == 1 for photo, in scenes.values()), key=lambda photo: hash_of(photo.name))
    return replace(found, photos=chosen + others[:strangers])

def hash_of(text: str) -> str: return hashlib.sha256(text.encode()).hexdigest()

def old(photos: Path|None, folder: Path, large: Path) -> list[dict]:
    "Processor time and rank-1 beside a ResNet-50 in torch; looking up among many; and photos of twelve megapixels."
    from dataclasses import asdict, replace
    from PIL import Image
    from petlost.cost import beside, look_ups, measure, petlost_way, torch_way
    from petlost.index import Catalogue
    photoset = some_pets(photos, folder)
    ways = {'petlost': petlost_way(), 'petlost-fast': petlost_way('petlost-fast'), 'ResNet-50 in torch': torch_way(), 'Lite2 in torch': torch_way('tf_efficientnet_lite2')}
    seen = measure(photoset, ways)
    with Catalogue.open(large) as catalogue: ours, theirs = look_ups(catalogue, catalogue.vectors()[0][:40])
    big = {name: [] for name in ways}
    for photo in photoset.photos[::max(1, len(photoset.photos) // 8)]:
        out = io.BytesIO()
        Image.open(photo.path).convert('RGB').resize((4032, 3024), Image.Resampling.BICUBIC).save(out, 'JPEG', quality=90)
        for name, look in ways.items(): big[name].append(measured(lambda: look(out.getvalue()), time.process_time)[1])
    found = [replace(one, look_up=theirs if 'torch' in name else ours) for name, one in seen.items()]
    found[2] = replace(found[2], name='the old way', rank1=found[3].rank1, note='ResNet-50 in torch with random weights for the time, EfficientNet-Lite2 with those of ImageNet for the rank-1; a matrix product')
    print(f'{len(photoset.photos)} {"real" if photos else "drawn"} photos, each among the others; looked up among {REPORTS:,} reports')
    table(['', 'CPU ms a photo', 'of 12 megapixels', 'looking up', 'rank-1'], [[one.name, f'{1e3 * one.photo:.0f}', f'{1e3 * np.mean(took):.0f}', f'{1e3 * one.look_up:.1f}', one.rank1] for one, took in zip(found, big.values())])
    phone = [replace(one, photo=float(np.mean(took))) for one, took in zip(found, big.values())]
    for mine in (0, 1): print(f'{beside(found[mine], found[2])}; {phone[mine].search / phone[2].search:.2f} with photos of 12 megapixels')
    print()
    return [asdict(one) for one in found[:3]]

def many(folder: Path, count: int=REPORTS) -> Path:
    "A catalogue of drawn vectors, a report each, as if the default model had made them."
    from index import DIM, STEP, Pets
    from PIL import Image
    from petlost.embed import load_model, thumbnail
    from petlost.engines import open_catalogue
    from petlost.facts import Report
    from petlost.index import PhotoRow
    small, pets = thumbnail(Image.new('RGB', (64, 64), 'grey')), Pets(None)
    with open_catalogue(folder, load_model()) as catalogue:
        assert catalogue.model['dim'] == DIM
        for first in range(catalogue.count()['photos'], count, STEP):
            vectors = pets.photos(np.random.default_rng([0, first]).integers(len(pets.pets), size=STEP), np.random.default_rng([1, first]))
            catalogue.add([Report(f'r{first + i}', 'cat', 'found') for i in range(STEP)], [PhotoRow(f'r{first + i}', '1.jpg', str(first + i), v, small) for i, v in enumerate(vectors)])
    return folder

def ready(folders: dict[str, Path], rounds: int=3) -> dict:
    "Start to the first 200 of /ping, which has made a search by then."
    def start(folder):
        with running(folder) as service: return service.ready, service.cpu()
    for folder in folders.values(): start(folder)
    turns = [{name: start(folder) for name, folder in folders.items()} for _ in range(rounds)]
    took = {name: np.array([turn[name] for turn in turns]) for name in folders}
    table(['start to ready', 'median, s', 'slowest, s', 'CPU s'], [[name, f'{np.median(t[:, 0]):.1f}', f'{t[:, 0].max():.1f}', f'{np.median(t[:, 1]):.1f}'] for name, t in took.items()])
    return {name: t.tolist() for name, t in took.items()}

def memory(folders: dict[str, Path], bodies: list[bytes]) -> dict:
    "What one replica holds after some searches, and what a second of the same catalogue adds."
    found = {}
    for name, folder in folders.items():
        with running(folder) as one, running(folder) as two:
            for service in (one, two): asyncio.run(closed(service.url, bodies, 2 * CORES, 16))
            found[name] = dict(pss=one.held()[0], uss=one.held()[1])
    table(['memory of a replica, two on one machine', 'its share, MB', 'its own, MB'], [[name, f'{m["pss"]:.0f}', f'{m["uss"]:.0f}'] for name, m in found.items()])
    return found

def main(parts, model, photos, seconds, against, keep, out):
    with tempfile.TemporaryDirectory() as temp:
        root = keep or Path(temp)
        bodies, folder = originals(photos), catalogue_of(root / model, model)
        found = dict(model=model, cores=CORES, bytes=float(np.mean([len(b) for b in bodies])), photos='real' if photos else 'drawn')
        print(f'{len(bodies)} {found["photos"]} photos, {found["bytes"] / 1e3:.0f} kB each\n', flush=True)
        fast = catalogue_of(root / 'petlost-fast', 'petlost-fast') if 'plain' in parts else None
        large = {f'160 photos, {model}': folder, f'{REPORTS:,} reports, petlost': many(root / 'many')} if {'old', 'ready', 'memory'} & set(parts) else {}
        work = dict(bound=lambda: bound(folder, model, bodies, against, 24 if model == 'petlost' else 120), batches=batches, half=lambda: half(bodies), load=lambda: load(folder, model, bodies, against, seconds), overload=lambda: overload(folder, model, bodies),
                    plain=lambda: plain(fast, 'petlost-fast', bodies, 64), old=lambda: old(photos, root / 'pets', root / 'many'), ready=lambda: ready(large), memory=lambda: memory(large, bodies))
        for part in parts:
            found[part] = work[part]()
            if out: out.write_text(json.dumps(found, indent=1) + '\n')

if __name__ == '__main__':
    if sys.argv[1:2] == ['--child']: sys.exit(child(*sys.argv[2:]))
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument('parts', nargs='*', help=', '.join(PARTS))
    asked.add_argument('--model', default='petlost', choices=['petlost', 'petlost-fast'])
    asked.add_argument('--photos', type=Path, help='a folder of real photos, in place of drawn pets')
    asked.add_argument('--seconds', type=float, default=15, help='of each open-loop load')
    asked.add_argument('--against', type=json.loads, nargs='*', default=[], help='options of other services, as JSON')
    asked.add_argument('--keep', type=Path, help='keep the catalogues here, and use those that are there')
    asked.add_argument('--out', type=Path, help='write the figures as JSON, for petlost cost and petlost capacity')
    told = asked.parse_args()
    if unknown := set(told.parts) - set(PARTS): asked.error(f'no part {sorted(unknown)[0]}: {", ".join(PARTS)}')
    main(told.parts or PARTS, told.model, told.photos, told.seconds, told.against, told.keep, told.out)
