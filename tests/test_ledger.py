"What must hold for every ledger, whatever is said of its reports."
import numpy as np
from hypothesis import given, settings, strategies as st

from petlost.duplicates import SharedPhoto
from petlost.facts import Report
from petlost.ledger import DIFFERENT, EVIDENCE, SAME, UNKNOWN, Ledger, pair_ledger

IDS = [f'r{i}' for i in range(8)]
PAIRS = st.tuples(st.sampled_from(IDS), st.sampled_from(IDS)).filter(lambda p: p[0] < p[1])
FACTS = st.builds(lambda r, species, place, seen, pet: Report(r, species, None, *(place or (None, None)), seen, pet), st.just(''), st.sampled_from([None, 'dog', 'cat']),
                  st.sampled_from([None, (41.9, 12.5), (48.9, 2.4)]), st.sampled_from([None, '2026-03-04T12:00:00Z', '2026-03-04T00:00:00Z', '2026-05-04T12:00:00Z']), st.sampled_from([None, None, 'rex', 'tom', 'chip-1']))

@st.composite
def ledgers(draw):
    reports = {r: Report(r, *[getattr(f, k) for k in ('species', 'status', 'lat', 'lon', 'seen_at', 'pet')]) for r, f in zip(IDS, draw(st.lists(FACTS, min_size=8, max_size=8)))}
    shared = [SharedPhoto(a, f'{a}.jpg', b, f'{b}.jpg', 0) for a, b in draw(st.sets(PAIRS, max_size=5))]
    return reports, shared, draw(st.dictionaries(PAIRS, st.floats(-8, 8), max_size=6)), [(r, f'{r}.jpg') for r in draw(st.sets(st.sampled_from(IDS), max_size=2))]

ALL = np.argwhere(np.ones((8, 8)))

@settings(max_examples=300, deadline=None)
@given(ledgers())
def test_same_is_an_equivalence_and_different_respects_it(what):
    ledger = pair_ledger(*what)
    state, evidence, weight, at_risk = (x.reshape(8, 8) for x in ledger.judge(ALL))
    same = state == SAME
    assert same.diagonal().all() and (state == state.T).all() and (at_risk == at_risk.T).all() and (evidence == evidence.T).all()
    assert (same == (ledger.groups[:, None] == ledger.groups)).all()
    assert not at_risk[same].any() and (weight[state == UNKNOWN] == 0).all() and (weight[state != UNKNOWN] >= .95 - 1e-6).all()
    strong = (state == DIFFERENT) & (evidence != EVIDENCE.index('elsewhere'))
    for a, b in np.argwhere(strong & ~at_risk): # holds for the groups, unless another fact of a member speaks against it
        assert (state[np.ix_(same[a], same[b])] != SAME).all()

@settings(max_examples=300, deadline=None)
@given(ledgers())
def test_what_speaks_for_one_pet_is_never_passed_over(what):
    _, shared, odds, several = what
    ledger = pair_ledger(*what)
    clear = [(s.report, s.other_report) for s in shared if not {(s.report, s.photo), (s.other_report, s.other_photo)} & set(several)]
    for a, b in clear + [p for p, x in odds.items() if x > .01]:
        judged = ledger.judge([[ledger.row[a], ledger.row[b]]])
        assert judged.state[0] == SAME or judged.at_risk[0], (a, b)
    for a, b in clear + [p for p, x in odds.items() if x >= np.log(19)]: assert ledger.judge([[ledger.row[a], ledger.row[b]]]).state[0] != DIFFERENT

@settings(max_examples=100, deadline=None)
@given(ledgers())
def test_written_and_read_it_is_the_same(tmp_path_factory, what):
    ledger = pair_ledger(*what)
    again = Ledger.read(ledger.write(tmp_path_factory.mktemp('ledger')))
    assert again.digest == ledger.digest and again.contradictions == ledger.contradictions
    for one, other in zip(ledger.judge(ALL), again.judge(ALL)): assert (one == other).all()
