"""Does petlost get better with use? A simulated platform, month by month; the story and the figures are in nbs/tutorials/improves_with_use.ipynb.

usage: python benchmarks/improves_with_use.py WORK [--photos FOLDER] [--seeds 3] [--out nbs/tutorials/improves_with_use.csv]

WORK keeps the vectors and every finished run, so a run that was stopped goes on. Without --photos (a folder with `identities/labels.csv`,
whose columns are image, individual, source and scene) only the drawn world is simulated."""
import argparse, csv, json, os, zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm
from petlost.adapter_training import AdapterSettings, train_adapter
from petlost.augment import AUGMENTATIONS
from petlost.duplicates import SharedPhoto
from petlost.embed import load_model
from petlost.evaluate import retrieval
from petlost.facts import Report
from petlost.ledger import DIFFERENT, SAME, UNKNOWN, pair_ledger
from petlost.neighbours import Near, neighbours
from petlost.photo import open_photo, read_bytes
from petlost.plausible import Guard, own_calibration, strangers
from petlost.reviewers import pair_odds
from petlost.sample import DrawnPet, draw, random_pet, random_shot
from petlost.segment import get_segmenter
from petlost.verdicts import Verdict

MONTHS = 6                                  # month 0 is the launch
PETS = 50                                   # drawn pets that arrive in a month
NIGHT = (0., .15, .30, .50, .70, .80)       # share of second reports that were photographed at night, by month
YOUNG = (0., .10, .20, .30, .30, .30)       # share of drawn pets that are first seen young, and later grown
ABROAD = (0., .0, .15, .30, .40, .40)       # share of drawn pets that are street dogs of another country, all alike
TRAINABLE = ('mpdd', 'dreambooth', 'catfaces_roma') # sources whose licence allows training
PER_REPORT = 3                              # most real photos of one report
LINKED = .30                                # share of pets whose two reports the platform knows to be one pet; the others' are planted duplicates
REPOSTED = .15                              # share of planted duplicates that give themselves away by a photo that is in both reports
REVIEWERS, TWICE, ERROR = 8, 2, .05         # reviewers, how many see a pair, how often one errs; a pair is asked about for each pet that has arrived
MINED = 5                                   # most mined negatives of a photo
SETTINGS = AdapterSettings()
ARMS = {'frozen': LINKED, 'retrained': LINKED, 'naive hard negatives': LINKED, 'ledger': LINKED, # arm -> share of pets that are linked
        'naive, all linked': 1., 'ledger, all linked': 1., 'naive, duplicates spared': LINKED}


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


def embedded(photos, path, chunk=64): # `photos` is called when they are needed
    "Vectors and facts of all photos, in `path`; what a stopped run had embedded is not embedded again."
    parts = Path(f'{path}.parts')
    if not path.exists():
        parts.mkdir(parents=True, exist_ok=True)
        photos = photos()
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



class World:
    "A platform as one seed has it."
    def __init__(self, data, seed, linked):
        self.vectors, self.month, self.pet, self.source, self.trainable, self.night = (data[k] for k in ('vectors', 'month', 'pet', 'source', 'trainable', 'night'))
        self.ids, self.report = np.unique(data['report'], return_inverse=True)
        r, pets = np.random.default_rng([seed, 21]), np.unique(self.pet)
        self.seed, self.luck = seed, r.random(len(self.ids))[self.report] # a report with little luck comes at night early
        self.has_night = np.isin(self.report, self.report[self.night])
        self.linked, self.reposted = (dict(zip(pets, r.random(len(pets)) < share)) for share in (linked, REPOSTED))
        self.pet_of = {r: p for r, p in zip(self.report.tolist(), self.pet.tolist())}

    def taken(self, month):
        "bool [n], the photos that people took, where everything was as in that month, or as in the month of each (None)."
        share = np.array(NIGHT)[np.maximum(self.month, 0) if month is None else np.full(len(self.month), month)]
        return np.where(self.has_night & (self.luck < share), self.night, ~self.night)

    def arrived(self, month):
        "Rows of the photos that may be trained on and came before that month."
        return np.flatnonzero(self.trainable & (self.month < month) & self.taken(None))

    def searched(self, month):
        "Rows of the photos among which the pets of a month are looked for, and the source of each, '' for gallery only."
        if self.trainable.all(): rows = np.flatnonzero((self.month <= month) & self.taken(None)); return rows, np.where(self.month[rows] == month, self.source[rows], '-')
        rows = np.flatnonzero(~self.trainable & self.taken(month)); return rows, self.source[rows]

    def label(self, report): return self.pet_of[report] if self.linked[self.pet_of[report]] else self.ids[report]


def found(world, adapter, month):
    "source -> {pet: [queries, rank-1 hits, AP, cross-scene queries, cross-scene rank-1 hits]} of the pets that are looked for in a month."
    rows, sources = world.searched(month)
    vectors = adapter(world.vectors[rows]) if adapter else world.vectors[rows]
    figures = retrieval(vectors, world.pet[rows].tolist(), sources.tolist(), world.report[rows].tolist(), n_boot=1)
    pets = {source: [pet for place, pet, _ in figures.pets if place == source] for source in figures.sums}
    return {source: dict(zip(pets[source], sums[:, [0, 1, 4, 6, 7]].tolist())) for source, sums in figures.sums.items() if source != '-'}


def first(near, keep, most):
    "The best `most` of each anchor's neighbours, of those to keep: int [m, 2]."
    anchor, other = near.anchor[keep], near.near[keep]
    place = np.arange(len(anchor)) - np.searchsorted(anchor, anchor)
    return np.stack([anchor, other], 1)[place < most]


class Safe:
    "What the ledger, the reviewers and the calibration know of the reports that have come."
    def __init__(self, world):
        self.world, self.verdicts, self.asked, self.rng = world, [], set(), np.random.default_rng([world.seed, 22])

    def ledger(self, reports, at):
        w = self.world
        facts = {w.ids[r]: Report(w.ids[r], pet=w.pet_of[r] if w.linked[w.pet_of[r]] else None) for r in reports.tolist()}
        both = {}
        for r in reports.tolist(): both.setdefault(w.pet_of[r], []).append(w.ids[r])
        shared = [SharedPhoto(ids[0], 'copy', ids[1], 'copy', 0) for pet, ids in both.items() if len(ids) > 1 and not w.linked[pet] and w.reposted[pet]]
        ledger = pair_ledger(facts, shared, pair_odds(self.verdicts))
        assert [ledger.row[w.ids[r]] for r in reports.tolist()] == list(range(len(reports)))
        return ledger

    def ask(self, ledger, near, owner, reports, questions, month):
        "Ask reviewers about the unknown pairs that look most alike."
        pairs = np.sort(np.stack([owner[near.anchor], owner[near.near]], 1), axis=1)
        unknown = ledger.judge(pairs).state == UNKNOWN
        for i in np.argsort(-near.score, kind='stable'):
            a, b = map(int, pairs[i])
            if not unknown[i] or (ask := (ledger.ids[a], ledger.ids[b])) in self.asked: continue
            if not questions: break
            questions -= 1
            self.asked.add(ask)
            same = self.world.pet_of[int(reports[a])] == self.world.pet_of[int(reports[b])]
            for who in self.rng.choice(REVIEWERS, TWICE, replace=False).tolist():
                said = same != (self.rng.random() < ERROR)
                self.verdicts.append(Verdict(*ask, 'same' if said else 'different', f'reviewer {who}', f'2026-{month + 1:02d}-01T00:00:00Z'))

    def material(self, vectors, report, month):
        "Labels, mined negatives, and which pairs may be pushed apart."
        reports, owner = np.unique(report, return_inverse=True)
        near = neighbours(vectors, owner, np.zeros(len(owner), int), 30)
        ledger = self.ledger(reports, month)
        arrivals = len({self.world.pet_of[r] for r in np.unique(self.world.report[self.world.trainable & (self.world.month == month - 1)]).tolist()})
        self.ask(ledger, near, owner, reports, arrivals, month)
        ledger = self.ledger(reports, month)
        other = ledger.judge(np.stack([owner[near.anchor], owner[near.near]], 1)).state != SAME
        beside = strangers(Near(*(x[other] for x in near)), len(owner))
        guard = Guard(vectors, owner, beside, own_calibration(vectors, ledger.groups[owner], seed=self.world.seed))
        pairs = np.stack(np.triu_indices(len(reports), 1), 1)
        judged = ledger.judge(pairs)
        open_ = np.flatnonzero((judged.state == UNKNOWN) & ~judged.at_risk)
        may = np.zeros((len(reports),) * 2, bool)
        for some in (pairs[judged.state == DIFFERENT], pairs[open_[guard.safe(pairs[open_])]]): may[some[:, 0], some[:, 1]] = may[some[:, 1], some[:, 0]] = True
        return ledger.groups[owner], first(near, may[owner[near.anchor], owner[near.near]], MINED), lambda a, b: may[owner[a], owner[b]]


def material(arm, world, safe, vectors, report, month):
    "What an arm learns from."
    if arm.startswith('ledger'): return safe.material(vectors, report, month)
    labels = np.unique([world.label(r) for r in report.tolist()], return_inverse=True)[1]
    if arm == 'retrained': return labels, None, None
    near = neighbours(vectors, np.unique(report, return_inverse=True)[1], np.zeros(len(report), int), 2 * MINED)
    if arm != 'naive, duplicates spared': return labels, first(near, labels[near.anchor] != labels[near.near], MINED), None
    pet = np.array([world.pet_of[r] for r in report.tolist()])
    return labels, first(near, pet[near.anchor] != pet[near.near], MINED), lambda a, b: pet[a] != pet[b]


def run(name, data, arm, seed, work):
    "All months of one arm; a list of results, one a generation, kept in `work`."
    path = work/f'{name}-{arm.replace(", ", "-").replace(" ", "-")}-{seed}'
    if (done := path.with_suffix('.json')).exists(): return json.loads(done.read_text())
    world, adapter, results = World(data, seed, ARMS[arm]), None, []
    safe = Safe(world)
    for month in range(1, MONTHS):
        wrong = total = 0
        if arm != 'frozen':
            rows = world.arrived(month)
            vectors, report = world.vectors[rows], world.report[rows]
            labels, negatives, allowed = material(arm, world, safe, adapter(vectors) if adapter else vectors, report, month)
            if negatives is not None: wrong, total = int((world.pet[rows][negatives[:, 0]] == world.pet[rows][negatives[:, 1]]).sum()), len(negatives)
            adapter, _ = train_adapter(vectors, labels, negatives, path/str(month), adapter, replace(SETTINGS, seed=seed), allowed)
        results.append(dict(world=name, arm=arm, seed=seed, month=month, mined=total, mined_wrong=wrong, arrivals=found(world, adapter, month), last=found(world, adapter, MONTHS - 1)))
    done.write_text(json.dumps(results))
    return results


def pooled(results, test, month):
    "source -> float [pets, 5], summed over the seeds."
    some = [r[test] for r in results if r['month'] == month]
    return {source: np.sum([[one[source][pet] for pet in sorted(one[source])] for one in some], 0) for source in some[0]}


def draws(sums, n=2000):
    "float [n + 1, 2]: cross-scene rank-1 and mAP, mean over sources, first as they are and then with pets drawn again."
    r, figures = np.random.default_rng(23), []
    for s in sums.values():
        again = np.concatenate([np.ones((1, len(s))), np.stack([np.bincount(r.integers(len(s), size=len(s)), minlength=len(s)) for _ in range(n)])]) @ s
        figures.append(np.stack([again[:, 4]/again[:, 3], again[:, 2]/again[:, 0]], 1))
    return np.nanmean(figures, 0)


def table(results):
    "Rows for the list of figures: each arm, and its difference to others."
    for name in dict.fromkeys(r['world'] for r in results):
        for test in ('arrivals', 'last'):
            for month in range(1, MONTHS):
                found = {arm: draws(pooled([r for r in results if (r['world'], r['arm']) == (name, arm)], test, month)) for arm in ARMS}
                pairs = [(arm, '') for arm in ARMS] + [(arm, other) for arm in ('ledger', 'naive hard negatives', 'retrained') for other in ('frozen', 'retrained', 'naive hard negatives') if arm != other]
                pairs += [('naive hard negatives', 'naive, duplicates spared'), ('ledger', 'naive, duplicates spared'), ('naive hard negatives', 'naive, all linked'), ('ledger', 'ledger, all linked')]
                mined = {arm: [sum(r[k] for r in results if (r['world'], r['arm'], r['month']) == (name, arm, month)) for k in ('mined', 'mined_wrong')] for arm in ARMS}
                for arm, other in pairs:
                    d = found[arm] - (found[other] if other else 0)
                    for i, measure in enumerate(('cross-scene rank-1', 'mAP')):
                        low, high = np.quantile(d[1:, i], [.025, .975])
                        yield dict(world=name, test=test, month=month, arm=arm, minus=other, measure=measure, value=round(d[0, i], 4), low=round(low, 4), high=round(high, 4),
                                   seeds=len({r['seed'] for r in results}), mined=mined[arm][0], mined_wrong=mined[arm][1])


if __name__ == '__main__':
    args = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    args.add_argument('work', type=Path, help='keeps the vectors and every finished run')
    args.add_argument('--photos', type=Path, help='a folder of real photos with identities/labels.csv')
    args.add_argument('--seeds', type=int, default=3)
    args.add_argument('--out', type=Path, help='the CSV file to write')
    args = args.parse_args()
    args.work.mkdir(exist_ok=True)
    worlds = dict(drawn=lambda: list(drawn_photos())) | (dict(real=lambda: list(real_photos(args.photos))) if args.photos else {})
    results = []
    for name, photos in worlds.items():
        data = embedded(photos, args.work/f'{name}.npz')
        for seed, arm in tqdm([(seed, arm) for seed in range(args.seeds) for arm in ARMS], desc=name, unit='run'): results += run(name, data, arm, seed, args.work)
    rows = list(table(results))
    with open(args.out or args.work/'figures.csv', 'w', newline='', encoding='utf-8') as f: out = csv.DictWriter(f, rows[0]); out.writeheader(); out.writerows(rows)
