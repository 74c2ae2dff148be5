"""Does an explanation name what makes two photos alike? `python benchmarks/explain.py --photos FOLDER [--sources A,B] [--pairs 60]`.

For pairs of photos of one pet with different backgrounds (`scene` in the list) a fifth of the pet's patches is hidden: those that the explanation names, as many at random,
those that agree least, and those that are named for a photo of another pet. Printed is by how much the score falls, with 95 % intervals
from a bootstrap over pets.
With --pictures the pairs are drawn as well. One core does, in ten minutes or so."""
import argparse
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
import cv2
import numpy as np
from tqdm import tqdm
from petlost.embed import load_model
from petlost.explain import NAMED, deletion_test, draw_explanation, explain_pair
from petlost.photo import open_photo
from petlost.photoset import read_photos
from petlost.segment import get_segmenter

def choose_pairs(folder: Path, sources: list[str], count: int, seed: int=0) -> list[tuple]:
    "Pet and two photos of different scenes: as many pets of each source as there are, then further photos of the same pets."
    photoset, rng, by_pet = read_photos(folder), np.random.default_rng(seed), defaultdict(lambda: defaultdict(list))
    for photo in photoset.photos:
        if not sources or photo.source in sources: by_pet[photo.source, photoset.pet(photo)][photo.scene].append(photo)
    pets = {source: [key for key, scenes in by_pet.items() if key[0] == source and len(scenes) > 1] for source, _ in by_pet}
    pets, chosen = {source: [keys[j] for j in rng.permutation(len(keys))] for source, keys in pets.items() if keys}, []
    if not pets: raise SystemExit(f'{folder}: no pet is seen in two scenes')
    for i in range(count):
        source = list(pets)[i % len(pets)]
        key = pets[source][i // len(pets) % len(pets[source])]
        two = rng.choice(len(by_pet[key]), 2, replace=False)
        chosen.append((key, *(scene[rng.integers(len(scene))] for scene in (list(by_pet[key].values())[j] for j in two))))
    return chosen

def interval(values: np.ndarray, pets: list, draws: int=2000) -> str:
    "Mean and 95 % interval; pets are drawn again, each with all its pairs."
    _, which = np.unique([str(pet) for pet in pets], return_inverse=True)
    sums, sizes, rng = np.bincount(which, values), np.bincount(which), np.random.default_rng(0)
    again = [sums[drawn].sum() / sizes[drawn].sum() for drawn in rng.integers(len(sums), size=(draws, len(sums)))]
    return f'{values.mean():+.3f} [{np.quantile(again, .025):+.3f} {np.quantile(again, .975):+.3f}]'

def measure(pairs: list[tuple], pictures: Path|None):
    model = load_model()
    segmenter, rows, agreement, pets = get_segmenter(model.segmenter), [], [], [pet for pet, _, _ in pairs]
    seen = [[(photo := open_photo(p.path), segmenter([photo])[0]) for p in two] for _, *two in pairs]
    for i, (a, b) in enumerate(tqdm(seen, unit='pair')):
        other = next(seen[j % len(seen)][0] for j in range(i + 1, i + len(seen)) if pets[j % len(seen)] != pets[i])
        for_other = [explain_pair(*one, *other, model).sides[0] for one in (a, b)]
        found = explain_pair(*a, *b, model)
        agreement.append([np.concatenate([side.agreement for side in sides]) for sides in (found.sides, for_other)])
        test = deletion_test(*a, *b, model, found)
        wrong = deletion_test(*a, *b, model, replace(found, sides=tuple(for_other)), draws=1)
        rows.append((test.score, test.named, test.random, test.least, wrong.named))
        if pictures: draw_explanation(a[0], b[0], found).save(pictures / f'{i:02d}-{found.score:.2f}.jpg')
    report(np.array(rows), pets)
    for what, values in zip(('the same pet', 'another pet'), map(np.concatenate, zip(*agreement))):
        print(f'agreement of patches with {what}: half above {np.median(values):.2f}, one in ten above {np.quantile(values, .9):.2f}')

def report(rows: np.ndarray, pets: list):
    score, named, chance, least, wrong = rows.T
    print(f'{len(rows)} pairs of {len(set(pets))} pets, mean score {score.mean():.3f}; {NAMED:.0%} of the patches hidden')
    print('in one photo, then in the other. The score falls by')
    lines = {'those that are named': named, 'as many at random': chance, 'those that agree least': least, 'those that are named for another pet': wrong}
    for what, values in lines.items(): print(f'  {what:38}{interval(values, pets)}')
    print(f"  {'named minus random':38}{interval(named - chance, pets)}   above zero in {(named > chance).mean():.0%} of the pairs")
    print(f"  {'named minus named for another pet':38}{interval(named - wrong, pets)}   above zero in {(named > wrong).mean():.0%} of the pairs")

if __name__ == '__main__':
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument('--photos', type=Path, required=True, help='a folder or list whose photos know their pet and scene')
    options.add_argument('--sources', default='', help='only these, separated by commas')
    options.add_argument('--pairs', type=int, default=60)
    options.add_argument('--pictures', type=Path, help='a folder for the drawn pairs')
    asked = options.parse_args()
    cv2.setNumThreads(1)
    if asked.pictures: asked.pictures.mkdir(parents=True, exist_ok=True)
    measure(choose_pairs(asked.photos, [s for s in asked.sources.split(',') if s], asked.pairs), asked.pictures)
