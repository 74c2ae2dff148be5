"How often drift is seen where there is none, and how often planted drift is: with made-up numbers, and with real photos where there are any."
from collections import Counter
from dataclasses import replace
import numpy as np
import pytest
from PIL import Image
from petlost.attributes import Attributes, photo_attributes
from petlost.drift import Period, _best, drift
from petlost.photoset import PhotoSet, read_photos
from petlost.search import index_photos
from petlost.store import Store

def made_up(rng, n: int, photos: int=4) -> Period:
    "Reports whose photos are alike."
    x = np.repeat(rng.normal(0, 1, (n, 24)), photos, axis=0) + rng.normal(0, .5, (n * photos, 24))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    words = {a: np.repeat(rng.choice(w, n), photos) for a, w in dict(light=['dark', 'normal', 'normal'], coat=['black', 'white', 'brown', 'mixed'], species=['dog', 'cat']).items()}
    name = rng.integers(1 << 40)
    return Period(x, Attributes([(f'{name}-{i // photos}', f'{i}.jpg') for i in range(n * photos)], words, dict(brightness=np.repeat(rng.normal(0, 1, n), photos))))

def by_photo(period: Period) -> Period:
    "The same as if photos were independent."
    return replace(period, attributes=replace(period.attributes, names=[(f'{i}', photo) for i, (_, photo) in enumerate(period.attributes.names)]))

def test_false_alarms_come_as_often_as_stated():
    looks = 300
    def alarmed(seed, careless):
        periods = [made_up(rng := np.random.default_rng(seed), 50), made_up(rng, 30)]
        return drift(*(map(by_photo, periods) if careless else periods), alarm=.05, deals=200, seed=seed).alarmed
    ours, careless = sum(alarmed(s, False) for s in range(looks)), sum(alarmed(s, True) for s in range(40))
    print(f'{ours} of {looks} looks give a false alarm; with photos taken for independent {careless} of 40')
    assert ours <= 27 # 15 are allowed; as many by chance once in 500 times
    assert careless > 20

def test_vectors_and_facts_share_one_rate():
    rng = np.random.default_rng(0)
    found = drift(made_up(rng, 50), made_up(rng, 30), alarm=.05, deals=200)
    assert found.vectors <= 1 and all(f.chance <= 1 for f in found.facts) and [f.chance for f in found.facts] == sorted(f.chance for f in found.facts)

@pytest.fixture(scope='module')
def real(real_photos, tmp_path_factory):
    "Real photos, some of them again by night, and drawn pets: the period of each kind, and a gallery."
    from petlost.sample import draw, random_pet, random_shot
    folder, rng, seen, chosen = tmp_path_factory.mktemp('drift'), np.random.default_rng(0), Counter(), []
    photos = read_photos(real_photos / 'identities')
    for photo in photos.photos:
        seen[photo.report] += 1
        if seen[photo.report] <= 3 and photo.source != 'nekonet_sample': chosen.append(photo)
    index_photos(PhotoSet(photos.root, chosen, {p.report: photos.reports[p.report] for p in chosen}), folder / 'catalogue', 'petlost-fast')
    for i, photo in enumerate([p for p in chosen if p.source == 'distractors'][:90]):
        dark = np.clip((np.asarray(Image.open(photo.path).convert('RGB'), np.float32) / 255)**1.5 * .3 + rng.normal(0, .03), 0, 1)
        (folder / 'more' / 'distractors' / f'night-{i}').mkdir(parents=True)
        Image.fromarray((dark * 255).astype(np.uint8)).save(folder / 'more' / 'distractors' / f'night-{i}' / '0.jpg')
    for i in range(60):
        (folder / 'more' / 'distractors' / f'drawn-{i}').mkdir(parents=True)
        draw(random_pet(i), random_shot(i), 224).photo.save(folder / 'more' / 'distractors' / f'drawn-{i}' / '0.jpg')
    index_photos(read_photos(folder / 'more'), folder / 'catalogue', 'petlost-fast')
    with Store.open(folder / 'catalogue') as store:
        vectors, names = store.vectors()
        attributes = photo_attributes(store, names)
    kind = np.array([next((k for k in ('night', 'drawn') if k in r), r.split('/')[0]) for r, _ in names])
    del attributes.words['source'] # what is new must be seen, not read
    del attributes.words['species'], attributes.words['photos']
    return vectors, attributes, kind

def period_of(real, reports, gallery) -> Period:
    "Some reports, matched against the gallery's."
    vectors, attributes, _ = real
    names = np.array([r for r, _ in attributes.names])
    rows, shelf = np.flatnonzero(np.isin(names, reports)), np.isin(names, gallery)
    return Period(vectors[rows], attributes.take(rows), _best(vectors[rows], names[rows].tolist(), vectors[shelf], names[shelf]))

def reports_of(real, *kinds) -> list[str]:
    return sorted({r for (r, _), k in zip(real[1].names, real[2]) if k in kinds})

def test_false_alarms_on_real_photos(real):
    every, alarms, careless, looks = reports_of(real, 'mpdd', 'domlapkin', 'petfinder_us', 'catfaces_roma', 'dreambooth', 'distractors'), 0, 0, 150
    for seed in range(looks):
        order = [every[i] for i in np.random.default_rng(seed).permutation(len(every))]
        periods = [period_of(real, order[150:400], order[:150]), period_of(real, order[400:], order[:150])]
        alarms += drift(*periods, alarm=.05, deals=200, seed=seed).alarmed
        if seed < 40: careless += drift(*map(by_photo, periods), alarm=.05, deals=200, seed=seed).alarmed
    print(f'real photos, shuffled: {alarms} of {looks} looks give a false alarm at .05; with photos taken for independent {careless} of 40')
    assert alarms <= 16 # 7.5 are allowed; as many by chance once in 250 times

def test_power_on_real_photos(real):
    plain, runs = reports_of(real, 'distractors'), 20
    seen = {}
    for kind in ('night', 'drawn', 'domlapkin'):
        other = reports_of(real, kind)
        for share in (.1, .2, .3):
            alarms, names = 0, Counter()
            for seed in range(runs):
                rng = np.random.default_rng(seed)
                pool, new = [plain[i] for i in rng.permutation(len(plain))], [other[i] for i in rng.permutation(len(other))][:round(100 * share)]
                now = pool[:100 - len(new)] + new
                found = drift(period_of(real, pool[200:], pool[100:200]), period_of(real, now, pool[100:200]), alarm=.01, deals=1000, seed=seed)
                alarms += found.alarmed
                if found.alarmed: names[found.slice.name if found.slice else 'no slice'] += 1
            seen[kind, share] = alarms
            print(f'{kind:10} {share:.0%} of 100 reports: alarm in {alarms} of {runs} looks; named: {", ".join(f"{name} ({n})" for name, n in names.most_common(3))}')
    assert seen['night', .3] == runs and seen['night', .1] <= seen['night', .3] and seen['drawn', .3] >= runs // 2
