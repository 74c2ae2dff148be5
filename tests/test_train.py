"""A training run that is killed, input that it cannot learn from, and batches of any set of pets."""
import os, socket, subprocess, sys, time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings, strategies as st
from pytorch_metric_learning.miners import TripletMarginMiner

from running import PETLOST
from petlost.batches import OpenSquare, PetBatches, pet_block, pet_dls
from petlost.embed import open_model
from petlost.facts import Report
from petlost.photoset import Photo, PhotoSet, read_photos
from petlost.sample import sample_catalogue
from petlost.triplet_train import Schedule, _Run, create_net, train

SHORT = dict(size=64, pets=4, photos=2, neck_epochs=1, classify_epochs=1, metric_epochs=1)
CHILD = """
import sys, torch
from petlost.photoset import read_photos
from petlost.triplet_train import Schedule, train
torch.set_num_threads(1)
train(read_photos(sys.argv[1]), sys.argv[2], Schedule(**eval(sys.argv[3])), hard_negatives=sys.argv[4], progress=False)
"""

@pytest.fixture(scope='module')
def pets(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp('pets')
    sample_catalogue(folder, n_pets=10, photos=4, seed=3, size=96)
    return read_photos(folder)

@pytest.fixture(scope='module')
def hard(pets, tmp_path_factory):
    "Every report was mixed up with the next pet's."
    reports = sorted(pets.reports); path = tmp_path_factory.mktemp('hard') / 'hard_negatives.csv'
    path.write_text('anchor_report,negative_report\n' + ''.join(f'{a},{b}\n' for a, b in zip(reports, reports[1:])))
    return path

def kill_after_first_epoch(out, children):
    try:
        for _ in range(12000):
            if (out / 'checkpoint' / 'run.pt').exists() or any(child.poll() is not None for child in children): break
            time.sleep(.01)
    finally:
        for child in children: child.kill()
        for child in children: child.communicate()

def test_killed_and_resumed_is_as_if_never_killed(pets, hard, tmp_path):
    killed = tmp_path / 'killed'
    kill_after_first_epoch(killed, [subprocess.Popen([sys.executable, '-c', CHILD, str(pets.root), str(killed), repr(SHORT), str(hard)])])
    assert not (killed / 'model.json').exists()
    assert len(torch.load(killed / 'checkpoint' / 'run.pt', weights_only=True)['curves']) < 4
    with pytest.raises(ValueError, match='another schedule'): train(pets, killed, Schedule(**SHORT, seed=1), hard, resume=True, progress=False)
    again = _Run(pets, killed, Schedule(**SHORT), hard, False); resumed = again.go(resume=True)
    whole = _Run(pets, tmp_path / 'whole', Schedule(**SHORT), hard, False); straight = whole.go(resume=False)
    assert [(c['phase'], c['epoch']) for c in whole.curves] == [('start', 0), ('neck', 1), ('classify', 1), ('metric', 1), ('between', 1), ('between', 2), ('between', 3)][:len(whole.curves)]
    assert len(whole.curves) in (4, 7), 'the way back is tried when training got anywhere'
    assert [c | dict(seconds=0) for c in again.curves] == [c | dict(seconds=0) for c in whole.curves]
    assert all(torch.equal(a, b) for a, b in zip(resumed.state_dict().values(), straight.state_dict().values()))

def begin_both(pets, out, *more, schedule=SHORT):
    "Train in two processes, as `torchrun` starts them."
    with socket.create_server(('127.0.0.1', 0)) as free: port = free.getsockname()[1]
    told = ','.join(f'{k}={v}' for k, v in schedule.items())
    def begin(rank):
        facts = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=2, MASTER_ADDR='127.0.0.1', MASTER_PORT=port, OMP_NUM_THREADS=1)
        return subprocess.Popen([PETLOST, 'train', pets.root, '--out', out, '--schedule', told, *more], env=os.environ | {k: str(v) for k, v in facts.items()},
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding='utf-8')
    return [begin(rank) for rank in range(2)]

def test_two_processes_killed_and_resumed_make_one_model(pets, tmp_path):
    out = tmp_path / 'both'
    kill_after_first_epoch(out, begin_both(pets, out))
    begun = torch.load(out / 'checkpoint' / 'run.pt', weights_only=True)['curves']
    assert 2 <= len(begun) < 4
    both = begin_both(pets, out, '--resume'); ends = [one.communicate(timeout=300) for one in both]
    assert [one.returncode for one in both] == [0, 0], ends
    assert ends[0][0].endswith(f'model written: {out}\n') and not ends[1][0], 'the first alone speaks'
    curves = open_model(out).card['curves']
    assert [(c['phase'], c['epoch']) for c in curves][:4] == [('start', 0), ('neck', 1), ('classify', 1), ('metric', 1)]
    assert curves[:len(begun)] == begun and not (out / 'checkpoint').exists()

def test_two_processes_end_together_when_training_fails(pets, tmp_path):
    both = begin_both(pets, tmp_path / 'm', schedule=SHORT | dict(classify_epochs=0, metric_epochs=0, lr=1e30))
    ends = [one.communicate(timeout=300) for one in both]
    assert [one.returncode for one in both] == [1, 1] and all('neck, epoch 1: try a smaller lr' in stderr for _, stderr in ends)

def test_loss_that_is_not_a_number_is_one_line(pets, tmp_path):
    with pytest.raises(ValueError, match='^the (loss is nan|network no longer gives unit vectors).* neck, epoch 1: try a smaller lr'):
        train(pets, tmp_path / 'm', Schedule(**SHORT | dict(classify_epochs=0, metric_epochs=0, lr=1e30)), progress=False)

def test_too_few_pets_are_refused_before_any_work(pets, tmp_path):
    some = PhotoSet(pets.root, [p for p in pets.photos if pets.pet(p) in sorted({pets.pet(p) for p in pets.photos})[:5]], pets.reports)
    with pytest.raises(ValueError, match='at least 8 pets with two photos, and there are 5'): train(some, tmp_path / 'm', Schedule(**SHORT))
    assert not (tmp_path / 'm').exists()

def test_hard_negatives_of_other_reports_are_refused(pets, tmp_path):
    (tmp_path / 'h.csv').write_text('anchor_report,negative_report\nnobody,noone\n')
    with pytest.raises(ValueError, match='none of its reports'): train(pets, tmp_path / 'm', Schedule(**SHORT), tmp_path / 'h.csv', progress=False)

def test_an_unknown_backbone_is_one_line():
    with pytest.raises(ValueError, match='no_such_net'): create_net('no_such_net')

KINDS = st.sampled_from(['dog', 'cat', None])
TOWNS = st.lists(st.tuples(st.integers(1, 6), KINDS), min_size=1, max_size=14)

def town(told):
    "Pets of so many photos and such a species, without files."
    photos = [Photo(f'{i}/{k}.jpg', Path(), str(i)) for i, (n, _) in enumerate(told) for k in range(n)]
    return PhotoSet(Path(), photos, {str(i): Report(str(i), kind) for i, (_, kind) in enumerate(told)})

@settings(max_examples=300, deadline=None)
@given(TOWNS, st.integers(1, 6), st.integers(2, 5), st.integers(0, 4), st.data())
def test_batches_of_any_town(told, P, K, S, data):
    n, kind = np.array([n for n, _ in told]), [k for _, k in told]
    many, single = (n > 1).sum(), (n == 1).sum()
    assume(many and min(P, many) + min(S, single) > 1)
    pairs = data.draw(st.lists(st.tuples(*[st.integers(0, len(told) - 1)] * 2), max_size=3))
    alike = {str(a): {str(b) for x, b in pairs if x == a and b != a} for a, _ in pairs}
    pets = town(told); of = np.array([int(pets.pet(p)) for p in pets.photos])
    batches, seed = PetBatches(pets, range(len(of)), P, K, S, alike), data.draw(st.integers(0, 2**32 - 1))
    epoch = batches.epoch(seed)
    assert epoch == batches.epoch(seed) and len(epoch) == len(batches) == -(-many // min(P, many))
    around = {int(a) for a, bs in alike.items() if bs and n[int(a)] > 1}
    for batch in epoch:
        assert len(batch) == batches.size == min(P, many) * K + min(S, single)
        groups, strangers = np.array(batch[:min(P, many) * K]).reshape(-1, K), batch[min(P, many) * K:]
        shown = [int(of[g[0]]) for g in groups]
        assert all(len(set(of[g])) == 1 for g in groups) and len(set(shown)) == len(shown) and (n[shown] > 1).all()
        for pet, group in zip(shown, groups):                    # each photo once before any twice
            times = [list(group).count(r) for r in np.flatnonzero(of == pet)]
            assert max(times) - min(times) <= 1 and max(times) == -(-K // n[pet])
        assert len(set(strangers)) == len(strangers) and (n[of[strangers]] == 1).all()
        anchor = shown[0]; likes = alike.get(str(anchor), set())
        assert not around or anchor in around
        for pool, present, places in ((n > 1, shown[1:], min(P, many) - 1), (n == 1, list(of[strangers]), min(S, single))):
            pool = set(np.flatnonzero(pool)) - {anchor}; first = {p for p in pool if str(p) in likes}
            same = {p for p in pool if kind[p] == kind[anchor]} | first; near = same | {p for p in pool if kind[p] is None}
            for rank in (first, same, near): assert len(set(present) & rank) == min(places, len(rank))

@settings(max_examples=60, deadline=None)
@given(TOWNS, st.integers(0, 99))
def test_a_pet_with_one_photo_is_never_an_anchor_or_a_positive(told, seed):
    many, single = (sum((n > 1) == m for n, _ in told) for m in (True, False))
    assume(many and many + single > 1)
    pets = town(told); label = torch.tensor([int(pets.pet(p)) for p in pets.photos])
    batch = PetBatches(pets, range(len(label)), strangers=4).epoch(seed)[0]; y = label[batch]
    anchor, positive, negative = TripletMarginMiner(9., 'all')(torch.randn(len(y), 8, generator=torch.Generator().manual_seed(seed)), y)
    alone = {i for i, pet in enumerate(y.tolist()) if told[pet][0] == 1}
    assert len(anchor) and not alone & {*anchor.tolist(), *positive.tolist()} and alone <= set(negative.tolist())

@settings(max_examples=20, deadline=None)
@given(st.integers(4, 12), st.integers(4, 12))
def test_a_species_gets_batches_in_proportion_to_its_pets(dogs, cats):
    batches = PetBatches(town([(2, 'dog')] * dogs + [(2, 'cat')] * cats), range(2 * (dogs + cats)), pets=4, photos=2)
    seen = [{b // 2 < dogs for b in batch} for seed in range(200) for batch in batches.epoch(seed)]
    assert all(len(kinds) == 1 for kinds in seen)
    share = dogs / (dogs + cats); spread = np.sqrt(share * (1 - share) / len(seen))
    assert abs(seen.count({True}) / len(seen) - share) < 6 * spread

def test_worker_processes_bring_the_same_batches(pets):
    rows = np.arange(len(pets.photos)); block = pet_block(pets, rows[8:], rows[:8], OpenSquare(32))
    here, there = ([y.tolist() for _ in range(2) for _, y in loader] for loader in (pet_dls(block, pets, seed=5, num_workers=w, pets=3, photos=2).train for w in (0, 2)))
    assert here == there and len(here) == 2 * 4 and here[:4] != here[4:]

def test_training_photos_vary_and_judged_photos_do_not(pets):
    def flag(im): return im.point(lambda v: 255)
    rows = np.arange(len(pets.photos)); block = pet_block(pets, rows[8:], rows[:8], OpenSquare(32), flag)
    dls = pet_dls(block, pets)
    assert all((x == 1).all() for x, _ in dls.train) and not any((x == 1).all() for x, _ in dls.valid)

def test_pets_with_one_photo_beyond_the_gallery_are_trained_on_as_negatives(pets, tmp_path):
    alone = [Photo(f'alone-{i}/1.jpg', pets.photos[0].path, f'alone-{i}') for i in range(503)]
    many = PhotoSet(pets.root, pets.photos + alone, pets.reports | {p.report: Report(p.report, 'cat') for p in alone})
    run = _Run(many, tmp_path / 'm', Schedule(**SHORT), None, False)
    assert len(run.spare) == 3 and not {*run.spare} & {*run.rows, *run.held} and len(run.held) == 8 + 500
    assert [*run.dls(0).train.dataset.items] == [run.photoset.photos[i] for i in run.rows]
    assert run.dls(3).train.batches.strangers == 3

def test_a_photo_in_two_reports_is_one_pet_and_never_on_both_sides(pets, tmp_path):
    from PIL import Image
    copies, reports = [], dict(pets.reports)
    for i, photo in enumerate(pets.photos[::4]):
        path = tmp_path / f'copy{i}.jpg'
        Image.open(photo.path).convert('RGB').save(path, quality=50)
        copies += [Photo(f'{name}/{i}.jpg', path, name) for name in (f'again{i}', photo.report)]
        reports[f'again{i}'] = Report(f'again{i}')
    everything = PhotoSet(pets.root, [*pets.photos, *copies], reports)
    run = _Run(everything, tmp_path / 'm', Schedule(**SHORT), None, False)
    assert len(run.pets) == len(everything.photos) - len(copies) // 2, 'a repeat within its report is left out'
    assert set(run.pets) == {pets.pet(p) for p in pets.photos}, 'a new report is the pet whose photo it shows'
    assert not {run.pets[i] for i in run.rows} & {run.pets[i] for i in run.held}
