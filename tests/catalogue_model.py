"""What a catalogue must answer: brute force, and two dicts that a machine of Hypothesis holds it against. The engine is a parameter."""
import shutil, tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from petlost.facts import SPECIES, STATUSES, Report, haversine_km
from petlost.index import Catalogue, CatalogueError
from catalogue_rows import MODEL, mask, photo, vector

def brute(rows, queries, k, keep=lambda report: True):
    "Reports of `rows` (report, key) in the order that comparing everything gives."
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
    reports = sorted({r for r, _ in rows if keep(r)})
    of = {r: np.stack([unit(vector(key)).astype(np.float32).astype(np.float16).astype(float) for o, key in rows if o == r]) for r in reports}
    score = {r: np.mean((unit(queries) @ of[r].T).max(axis=1)) for r in reports}
    return sorted(score, key=lambda r: -score[r])[:k]

def masks(cat):
    "The masks that a catalogue keeps, by photo."
    with cat._reading() as db: return dict(db.execute('SELECT key, mask FROM masks'))

REPORTS = st.sampled_from([f'r{i}' for i in range(6)])
FACTS = st.fixed_dictionaries(dict(species=st.sampled_from([None, *SPECIES[:2]]), status=st.sampled_from([None, *STATUSES]),
                                   place=st.sampled_from([None, (41.9, 12.5), (41.9, 12.6), (45.5, 9.2)]),
                                   seen_at=st.sampled_from([None, '2026-01-01T00:00:00Z', '2026-02-01T12:00:00Z', '2026-03-01T00:00:00Z'])))

class AnyCatalogue(RuleBasedStateMachine):
    "The catalogue must agree with two dicts, whatever is done to it, in any order. Subclasses say where it lies."
    kind = Catalogue

    def place(self): raise NotImplementedError

    @initialize()
    def create(self):
        self.where = self.place()
        self.cat = self.kind.create(self.where, MODEL)
        self.reports, self.rows = {}, {}

    def masks(self): return masks(self.cat)

    def teardown(self):
        if hasattr(self, 'cat'): self.cat.close()

    @rule(report=REPORTS, facts=FACTS, keys=st.lists(st.integers(0, 40), max_size=4))
    def add(self, report, facts, keys):
        lat, lon = facts['place'] or (None, None)
        keys = [100 * int(report[1:]) + key for key in keys]  # no two reports tie
        self.reports[report] = Report(report, facts['species'], facts['status'], lat, lon, facts['seen_at'])
        new = {(report, str(key)) for key in keys} - set(self.rows)
        assert self.cat.add([self.reports[report]], [photo(report, key) for key in keys]) == len(new)
        self.rows |= dict.fromkeys(new)

    @rule(report=REPORTS)
    def remove(self, report):
        assert self.cat.remove(report) == (report in self.reports)
        self.reports.pop(report, None)
        self.rows = {row: None for row in self.rows if row[0] != report}

    @rule(report=REPORTS, facts=FACTS)
    def update(self, report, facts):
        lat, lon = facts['place'] or (None, None)
        new = Report(report, facts['species'], facts['status'], lat, lon, facts['seen_at'])
        if report in self.reports: self.cat.update([new]); self.reports[report] = new
        else:
            with pytest.raises(CatalogueError, match='no report'): self.cat.update([new])

    @rule()
    def reopen(self):
        self.cat.close()
        self.cat = self.kind.open(self.where, write=True)

    @rule()
    def compact(self): self.cat.compact()

    @rule(seed=st.integers(0, 1000), q=st.integers(1, 3), k=st.integers(1, 8), species=st.sampled_from([None, 'dog', 'cat']),
          status=st.sampled_from([None, *STATUSES]), within=st.sampled_from([None, 0, 10, 1000]), since=st.sampled_from([None, '2026-02-01']),
          until=st.sampled_from([None, '2026-02-01']), hidden=st.sets(REPORTS, max_size=2))
    def search(self, seed, q, k, species, status, within, since, until, hidden):
        queries, near = np.random.default_rng(seed).standard_normal((q, 16)), (41.9, 12.5)
        def keep(report):
            r = self.reports[report]
            return all([species in (None, r.species), status in (None, r.status), report not in hidden,
                        within is None or r.lat is not None and haversine_km(*near, r.lat, r.lon) <= within,
                        since is None or r.seen_at is not None and r.seen_at >= '2026-02-01',
                        until is None or r.seen_at is not None and r.seen_at < '2026-02-02'])
        hits = self.cat.search(queries, k, species, status, near, within, since, until, hidden)
        assert [h.report for h in hits] == brute(self.rows, queries, k, keep)
        assert all((h.report, h.photos[0][:-4]) in self.rows and h.photo == h.photos[0] for h in hits)

    @invariant()
    def same_content(self):
        if not hasattr(self, 'cat'): return
        assert self.cat.keys() == set(self.rows) and self.cat.reports() == self.reports
        assert self.cat.count() == dict(reports=len(self.reports), photos=len(self.rows))
        assert self.masks() == {key: mask(key) for _, key in self.rows}

class Against(AnyCatalogue):
    "A catalogue in a folder, which is copied and damaged as well."
    def place(self):
        self.home = Path(tempfile.mkdtemp())
        return self.home / 'c'

    def teardown(self):
        super().teardown()
        if hasattr(self, 'home'): shutil.rmtree(self.home)

    @rule()
    def go_on_with_a_snapshot(self):
        self.cat.snapshot(self.home / 'copy')
        self.cat.close()
        shutil.rmtree(self.home / 'c')
        (self.home / 'copy').rename(self.home / 'c')
        self.cat = self.kind.open(self.home / 'c', write=True)

    @rule(at=st.floats(0, 1, exclude_max=True), cut=st.booleans())
    def damage_the_file(self, at, cut):
        self.cat.close()
        file = self.home / 'c' / 'catalogue.fast'
        if file.exists() and file.stat().st_size:
            data = bytearray(file.read_bytes())
            data[int(at * len(data))] ^= 16
            file.write_bytes(data[:int(at * len(data))] if cut else data)
        self.cat = self.kind.open(self.home / 'c', write=True)
