"""Does petlost get better with use? A simulated platform, month by month; the story and the figures are in nbs/tutorials/improves_with_use.ipynb.

usage: python benchmarks/improves_with_use.py WORK [--photos FOLDER] [--seeds 3] [--out nbs/tutorials/improves_with_use.csv]

WORK keeps the vectors and every finished run, so a run that was stopped goes on. Without --photos (a folder with `identities/labels.csv`,
the columns as the README of the notebook says) only the drawn world is simulated."""
import argparse, csv, os, zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm
from petlost.augment import AUGMENTATIONS
from petlost.embed import load_model
from petlost.photo import open_photo, read_bytes
from petlost.sample import DrawnPet, draw, random_pet, random_shot
from petlost.segment import get_segmenter

MONTHS = 6                                  # month 0 is the launch
PETS = 50                                   # drawn pets that arrive in a month
NIGHT = (0., .15, .30, .50, .70, .80)       # share of second reports that were photographed at night, by month
YOUNG = (0., .10, .20, .30, .30, .30)       # share of drawn pets that are first seen young, and later grown
ABROAD = (0., .0, .15, .30, .40, .40)       # share of drawn pets that are street dogs of another country, all alike
TRAINABLE = ('mpdd', 'dreambooth', 'catfaces_roma') # sources whose licence allows training
PER_REPORT = 3                              # most real photos of one report


def night(picture, seed):
    "The picture as a phone takes it at night and a messenger passes it on."
    r = np.random.default_rng([seed, 11])
    for name, strength in (('low_light', .9), ('sensor_noise', .5), ('repeated_jpeg', .4)): picture = AUGMENTATIONS[name](picture, strength, r, None)
    return picture


def young(pet):
    "The same pet some months earlier: short legs and muzzle, a big head, big ears."
    return replace(pet, leg=.68*pet.leg, body=.8*pet.body, neck=.75*pet.neck, head=1.3*pet.head, muzzle=.65*pet.muzzle, ear_size=1.1*pet.ear_size, tail_length=.7*pet.tail_length)


def street_dog(seed):
    "A sand-coloured street dog: short coat, no markings, much like every other."
    r = np.random.default_rng([seed, 12])
    shade = np.array([0xc8, 0x9a, 0x62])*r.uniform(.75, 1.1) + r.normal(0, 6, 3)
    plain = {name: 0. for name in ('bib', 'belly', 'blaze', 'snout', 'tip', 'mask', 'sock_fl', 'sock_fr', 'sock_hl', 'sock_hr')}
    white = {name: round(float(r.uniform(.2, .8)), 2) for name in plain if name != 'mask' and r.random() < .2}
    usual = {name: round(float(r.normal(1, .07)), 3) for name in ('leg', 'body', 'girth', 'neck', 'head', 'muzzle', 'muzzle_width', 'ear_size')}
    colour = '#' + ''.join(f'{int(np.clip(c, 0, 255)):02x}' for c in shade)
    return DrawnPet('dog', seed, **usual, **plain | white, ear=('pricked', 'folded')[r.integers(2)], tail='curled', fur=.1, coat='solid', colour=colour, second=colour)


def drawn_pet(month, i):
    "A pet as it is in its first and in its second report."
    seed = 100_000 + 1000*month + i
    r = np.random.default_rng([seed, 13])
    kind = r.random()
    if kind < ABROAD[month]: return street_dog(seed), street_dog(seed)
    if kind < ABROAD[month] + YOUNG[month]: return young(pet := random_pet(seed)), pet
    return random_pet(seed), random_pet(seed)


def drawn_photos():
    "(name, month, pet, report, source, trainable, at night, how to get the picture) of every photo that any seed may need."
    for month in range(MONTHS):
        for i in range(PETS):
            pets = drawn_pet(month, i)
            r = np.random.default_rng([month, i, 14])
            places = r.permutation(['room', 'sofa', 'kitchen', 'garden', 'street', 'kennel', 'plain']).tolist()
            for half, pet in enumerate(pets):
                for n in range(2):
                    seed = int(r.integers(1 << 30))
                    def picture(pet=pet, seed=seed, place=places[half]): return draw(pet, random_shot(seed, background=place)).photo
                    name = f'{month}-{i:02d}-{"ab"[half]}{n}'
                    yield name, month, f'pet-{month}-{i:02d}', f'{month}-{i:02d}-{"ab"[half]}', 'drawn', True, False, picture
                    if half: yield f'{name}-night', month, f'pet-{month}-{i:02d}', f'{month}-{i:02d}-b', 'drawn', True, True, lambda p=picture, s=seed: night(p(), s)


def real_photos(folder):
    "The same of real photos: pets of the trainable sources arrive month by month, the others are searched every month."
    with open(folder/'identities/labels.csv', newline='', encoding='utf-8') as f: rows = list(csv.DictReader(f))
    pets = {}
    for row in rows: pets.setdefault(row['individual'] or row['image'], []).append(row)
    order = np.random.default_rng(15).permutation(sorted(p for p, rs in pets.items() if rs[0]['source'] in TRAINABLE))
    month = {pet: i*(MONTHS - 1)//len(order) for i, pet in enumerate(order.tolist())}
    for pet, own in pets.items():
        source, scenes = own[0]['source'], list(dict.fromkeys(r['scene'] for r in own))
        halves = [[r for r in own if r['scene'] == scenes[0]], [r for r in own if r['scene'] != scenes[0]]]
        if source in TRAINABLE: halves = [half[:PER_REPORT] for half in halves]
        for half, some in enumerate(halves):
            for row in some:
                def picture(row=row): return open_photo(read_bytes(folder/'identities'/row['image'], row['image']), name=row['image'])
                facts = (month.get(pet, -1), pet, f'{pet}/{row["scene"] if source not in TRAINABLE else "ab"[half]}', source, source in TRAINABLE)
                yield row['image'], *facts, False, picture
                if source != 'distractors' and (half or source not in TRAINABLE or len(scenes) == 1):
                    yield f'{row["image"]}-night', *facts, True, lambda p=picture, s=zlib.crc32(row["image"].encode()): night(p(), s)


def embedded(photos, path, chunk=64):
    "Vectors and facts of all photos, in `path`; what a stopped run had embedded is not embedded again."
    parts = Path(f'{path}.parts')
    if not path.exists():
        parts.mkdir(parents=True, exist_ok=True)
        model = load_model()
        segmenter = get_segmenter(model.segmenter)
        def one(photo):
            picture = photo[-1]().convert('RGB')
            return model([picture], segmenter([picture]))[0]
        bar = tqdm(range(0, len(photos), chunk), desc=path.stem, unit='chunk')
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for at in bar:
                if (part := parts/f'{at}.npy').exists(): continue
                np.save(parts/'tmp.npy', np.stack(list(pool.map(one, photos[at:at + chunk]))))
                os.replace(parts/'tmp.npy', part)
        vectors = np.concatenate([np.load(parts/f'{at}.npy') for at in range(0, len(photos), chunk)])
        facts = {name: np.array([p[i] for p in photos]) for i, name in enumerate(('name', 'month', 'pet', 'report', 'source', 'trainable', 'night'))}
        np.savez(f'{path}.tmp.npz', vectors=vectors, model=model.id, **facts)
        os.replace(f'{path}.tmp.npz', path)
    return dict(np.load(path))


if __name__ == '__main__':
    args = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    args.add_argument('work', type=Path)
    args.add_argument('--photos', type=Path)
    args = args.parse_args()
    args.work.mkdir(exist_ok=True)
    if args.photos: print(embedded(list(real_photos(args.photos)), args.work/'real.npz')['vectors'].shape)
    print(embedded(list(drawn_photos()), args.work/'drawn.npz')['vectors'].shape)
