"""petlost beside other ways to recognise a pet, on the same photos in one run: `make bench-rivals PHOTOS=FOLDER`, or
`python benchmarks/rivals.py [--photos FOLDER] [--keep FOLDER] [--only NAME ...] [--rounds 5] [--timed 12] [--pets 40]`.

Every way makes a vector of every photo as its makers would, on the backbones that come as packages (EfficientNet-Lite0 to 2, weights of ImageNet). One evaluator, `petlost.evaluate`, judges all: each photo searches among all others,
a photo of the same pet before the same background does not count (*cross-scene*), the figure is the plain mean over the sources, and the gain of petlost is paired, pet by pet. What a tool says of itself is kept beside it.
Hashes go in as vectors of -1 and 1, whose cosine orders photos as the number of different bits does.

Time is processor time of one core, child processes included, on some of the photos, all ways in turns; so is that of photos of twelve megapixels, as phones take them. Memory is the most that a process of its own has held.
Vectors lie in the folder to keep, in parts: a run that was stopped goes on. Without --photos pets are drawn. What cannot be imported or fails is left out, by name."""
import argparse, hashlib, json, os, sys, tempfile
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import set_start_method
from pathlib import Path
import numpy as np
from data import phone_photo
from embed import clocks, peak, write_photos
from index import alone
from petlost.backbone import write_file
from petlost.embed import BUILTIN, load_model, unit
from petlost.evaluate import compare, retrieval
from petlost.photo import BadPhoto, open_photo, read_bytes
from petlost.photoset import PhotoSet, read_photos
from petlost.sample import sample_catalogue
from petlost.where_we_stand import accuracy_table
from serve import some_pets
from turns import Took, seconds, versions
from ways import WAYS

PART = 256 # photos whose vectors are kept at once
MEASURES = 'cross_rank1', 'rank1', 'mAP'

# ---- accuracy

def readable(photoset: PhotoSet) -> tuple[list, str]: # the photos that can be opened, and a key of what is in them
    "Look at every photo once; what cannot be read is named and left out, for all ways alike."
    photos, key = [], hashlib.sha256()
    for photo in photoset.photos:
        try: open_photo(data := read_bytes(photo.path, photo.name), name=photo.name)
        except BadPhoto as bad: print(f'left out: {bad}', file=sys.stderr); continue
        photos.append(photo); key.update(hashlib.sha256(data).digest())
    return photos, key.hexdigest()

def made_by(name: str) -> list:
    "What vectors depend on beside the photos: the model, or the code of the ways and the versions of what they use."
    if name in BUILTIN: return [load_model(name).id]
    return [hashlib.sha256((Path(__file__).parent / 'ways.py').read_bytes()).hexdigest(), versions(*WAYS[name].packages)]

def vectors_of(name: str, photos: list, photos_key: str, keep: Path) -> np.ndarray: # float32 [n, d]
    "The vectors of one way: those that are kept, and the missing parts."
    if WAYS[name].of: return WAYS[name].join(*[vectors_of(other, photos, photos_key, keep) for other in WAYS[name].of])
    key = hashlib.sha256(json.dumps([name, photos_key, *made_by(name)]).encode()).hexdigest()[:16]
    parts, look = [], None
    for first in range(0, len(photos), PART):
        file = keep / f'{key}-{first}.npy'
        if not file.exists():
            look = look or WAYS[name].make()
            with open(part := file.with_suffix('.part'), 'wb') as f: np.save(f, np.asarray(look(photos[first:first + PART]), np.float32))
            part.rename(file)
            print(f'{name}: {min(first + PART, len(photos)):,} of {len(photos):,} photos', flush=True)
        parts.append(np.load(file))
    return np.concatenate(parts)

def plain(interval) -> dict|None: return None if np.isnan(interval.value) else interval._asdict()

def judged(names: list[str], photoset: PhotoSet, photos_key: str, keep: Path) -> dict[str, dict]:
    "The figures of each way, its gap to petlost, and what it says of itself."
    photos, found, best = photoset.photos, {}, None
    labels, scenes = np.array([photoset.pet(p) for p in photos]), [p.scene for p in photos]
    _, number, count = np.unique(labels, return_inverse=True, return_counts=True)
    asked = np.flatnonzero(count[number] > 1)
    for name in names:
        try:
            vectors = unit(vectors_of(name, photos, photos_key, keep))
            figures = retrieval(vectors, list(labels), [p.source for p in photos], scenes if any(scenes) else None)
            best = best or figures
            own = WAYS[name].own and WAYS[name].own(vectors, labels, asked) | dict(petlost_says=float(np.concatenate([r == 1 for r in figures.ranks.values()]).mean()))
            found[name] = dict(who=name, version=versions(*WAYS[name].packages), dim=vectors.shape[1], **{m: plain(figures.mean[m]) for m in MEASURES},
                               gain={m: plain(i) for m, i in compare(best, figures).items() if m in MEASURES}, own=own)
            print(f'{name}: ' + ', '.join(f'{m} {figures.mean[m]}' for m in MEASURES) + (f'; {own}' if own else ''), flush=True)
        except Exception as e:
            if name == 'petlost': raise
            print(f'{name} is left out: {type(e).__name__}: {e}', file=sys.stderr, flush=True)
    return found

# ---- cost

def timed(names: list[str], photos: list, rounds: int) -> dict[str, list]: # processor seconds a photo, of each round
    "All ways in turns; the first turn of each does not count."
    set_start_method('fork', force=True) # for their loaders, as in a program that was started by hand
    looks = {name: WAYS[name].make() for name in names}
    for look in looks.values(): look(photos)
    turns = [{name: float(seconds(lambda: look(photos), clocks)[1]) / len(photos) for name, look in looks.items()} for _ in range(rounds)]
    return {name: [turn[name] for turn in turns] for name in names}

def hold(name: str, photos: list) -> float: # MB
    set_start_method('fork', force=True)
    WAYS[name].make()(photos)
    return peak()

def on_one_core(work: Callable, *args):
    "In a process of its own, which has one core from its start."
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(mine)})
    try: return alone(work, *args)
    finally: os.sched_setaffinity(0, mine)

def costs(found: dict[str, dict], photos: list, phone: list, rounds: int, base: str='petlost-fast'):
    "Add time and memory of each way to its figures."
    for kind, some, many in (('photo', photos, rounds), ('phone', phone, 3)):
        took = on_one_core(timed, list(found), some, many)
        for name, times in took.items():
            own, ratio = Took([1e3 * t for t in times]), Took(np.divide(times, took[base]).tolist())
            found[name][kind] = dict(ms=dict(value=own, low=own.low, high=own.high), ratio=dict(value=ratio, low=ratio.low, high=ratio.high))
            print(f'{name}: {own:.0f} ms of one core a photo ({kind}), {ratio:.2f} times {base}', flush=True)
    for name in found: found[name]['mb'] = on_one_core(hold, name, photos)

def main(photos: Path|None, keep: Path, names: list[str], rounds: int, timed_photos: int, pets: int, some: int, out: Path|None):
    keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        photoset = some_pets(photos, Path(folder), some, 4, 12 * some) if photos and some else read_photos(photos or sample_catalogue(f'{folder}/drawn', n_pets=pets, photos=4))
        able, key = readable(photoset)
        photoset = replace(photoset, photos=able)
        labels = {photoset.pet(p) for p in photoset.photos}
        told = dict(photos=len(photoset.photos), labels=len(labels), sources=len({p.source for p in photoset.photos}), kind='real' if photos else 'drawn', timed=timed_photos, rounds=rounds)
        print(f'{told["photos"]:,} {told["kind"]} photos of {told["labels"]:,} animals' + ('' if photos else ': pets are drawn, for no --photos was given; the figures say nothing about real ones'), flush=True)
        found = judged(['petlost', *(n for n in names if n != 'petlost')], photoset, key, keep)
        if rounds: costs(found, photoset.photos[::-(-len(photoset.photos) // timed_photos)], write_photos(Path(folder, 'phone'), 4, [phone_photo()]), rounds)
    done = dict(told=told, rows=list(found.values()))
    print('\n' + accuracy_table(dict(steps=dict(rivals=done))))
    if out: write_file(out, (json.dumps(done, indent=1) + '\n').encode())

if __name__ == '__main__':
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument('--photos', type=Path, help='labelled photos, with sources and scenes where there are any; else pets are drawn')
    asked.add_argument('--keep', type=Path, help='keep vectors here, and use those that are there')
    asked.add_argument('--only', nargs='+', choices=WAYS, default=list(WAYS), help='ways, beside petlost')
    asked.add_argument('--rounds', type=int, default=5, help='of the timing; 0: none')
    asked.add_argument('--timed', type=int, default=12, help='photos in the timing')
    asked.add_argument('--pets', type=int, default=40, help='drawn, where no photos are given')
    asked.add_argument('--some', type=int, default=0, metavar='PETS', help='of each source of the photos, with four photos in two scenes and more, and twelve times as many photos of strangers; by default all photos')
    asked.add_argument('--out', type=Path, help='write the figures as JSON')
    told = asked.parse_args()
    with tempfile.TemporaryDirectory() as temp:
        main(told.photos, told.keep or Path(temp), told.only, told.rounds, told.timed, told.pets, told.some, told.out)
