"""A training run that is killed, and input that it cannot learn from."""
import os, signal, subprocess, sys, time

import pytest
import torch

from petlost.data import PhotoSet, read_photos
from petlost.sample import sample_catalogue
from petlost.triplet_train import Schedule, _Run, create_net, train

SHORT = dict(size=64, pets=4, photos=2, neck_epochs=1, classify_epochs=1, triplet_epochs=1)
CHILD = """
import sys, torch
from petlost.data import read_photos
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

def kill_after_first_epoch(pets, hard, out):
    child = subprocess.Popen([sys.executable, '-c', CHILD, str(pets.root), str(out), repr(SHORT), str(hard)])
    try:
        for _ in range(6000):
            if (out / 'checkpoint' / 'run.pt').exists() or child.poll() is not None: break
            time.sleep(.01)
    finally: os.kill(child.pid, signal.SIGKILL); child.wait()

def test_killed_and_resumed_is_as_if_never_killed(pets, hard, tmp_path):
    killed = tmp_path / 'killed'
    kill_after_first_epoch(pets, hard, killed)
    assert not (killed / 'model.json').exists()
    assert len(torch.load(killed / 'checkpoint' / 'run.pt', weights_only=True)['curves']) < 4
    with pytest.raises(ValueError, match='another schedule'): train(pets, killed, Schedule(**SHORT, seed=1), hard, resume=True, progress=False)
    again = _Run(pets, killed, Schedule(**SHORT), hard, False); resumed = again.go(resume=True)
    whole = _Run(pets, tmp_path / 'whole', Schedule(**SHORT), hard, False); straight = whole.go(resume=False)
    assert [(c['phase'], c['epoch']) for c in whole.curves] == [('start', 0), ('neck', 1), ('classify', 1), ('triplet', 1)]
    assert [c | dict(seconds=0) for c in again.curves] == [c | dict(seconds=0) for c in whole.curves]
    assert all(torch.equal(a, b) for a, b in zip(resumed.state_dict().values(), straight.state_dict().values()))

def test_loss_that_is_not_a_number_is_one_line(pets, tmp_path):
    with pytest.raises(ValueError, match='the loss is nan.*smaller lr'):
        train(pets, tmp_path / 'm', Schedule(**SHORT | dict(classify_epochs=0, triplet_epochs=0, lr=1e30)), progress=False)

def test_too_few_pets_are_refused_before_any_work(pets, tmp_path):
    some = PhotoSet(pets.root, [p for p in pets.photos if pets.pet(p) in sorted({pets.pet(p) for p in pets.photos})[:5]], pets.reports)
    with pytest.raises(ValueError, match='at least 8 pets with two photos, and there are 5'): train(some, tmp_path / 'm', Schedule(**SHORT))
    assert not (tmp_path / 'm').exists()

def test_hard_negatives_of_other_reports_are_refused(pets, tmp_path):
    (tmp_path / 'h.csv').write_text('anchor_report,negative_report\nnobody,noone\n')
    with pytest.raises(ValueError, match='none of its reports'): train(pets, tmp_path / 'm', Schedule(**SHORT), tmp_path / 'h.csv', progress=False)

def test_an_unknown_backbone_is_one_line():
    with pytest.raises(ValueError, match='no_such_net'): create_net('no_such_net')
